"""A real virsh that stays: for `event --loop` and `console`, whose output is looked at while they run."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

LIMIT_S = 30.0


def need_virsh() -> None:
    """Fails as root and skips otherwise when there is no virsh."""
    if shutil.which("virsh") is None:
        if os.geteuid() == 0:
            pytest.fail("virsh is not installed (Debian: libvirt-clients)")
        pytest.skip("virsh is not installed (Debian: libvirt-clients)")


class VirshSession:
    """A virsh on a terminal of its own."""

    def __init__(self, uri: str, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["virsh", "-c", uri, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C", "TERM": "dumb"},
        )
        os.close(slave)
        self.output = ""

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Waits until the output holds a text."""
        end = time.monotonic() + limit_s
        while text not in self.output:
            left = end - time.monotonic()
            assert left > 0, f"virsh did not print {text!r}, but {self.output!r}"
            ready, _, _ = select.select([self._master], [], [], left)
            if ready:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # the other end of a terminal is gone
                    data = b""
                assert data or text in self.output, f"virsh ended without {text!r}: {self.output!r}"
                self.output += data.decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Types on the terminal."""
        os.write(self._master, text.encode())

    def type_until(self, text: str, answer: str, limit_s: float = LIMIT_S) -> None:
        """Types a text each second until the output holds an answer: virsh drops what it got before its console."""
        end = time.monotonic() + limit_s
        while answer not in self.output:
            assert time.monotonic() < end, f"virsh did not print {answer!r}, but {self.output!r}"
            self.type(text)
            with contextlib.suppress(AssertionError):
                self.wait_for(answer, 1)

    def interrupt(self) -> None:
        """What ^C does."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Waits for the end and gives the exit code; what is still printed is taken."""
        end = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < end, f"virsh did not end: {self.output!r}"
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                with contextlib.suppress(OSError):
                    self.output += os.read(self._master, 65536).decode("utf-8", "replace")
        return self.process.returncode

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=LIMIT_S)
        os.close(self._master)


@contextlib.contextmanager
def virsh_session(uri: str, *arguments: str) -> Iterator[VirshSession]:
    """A session that is ended in the end."""
    session = VirshSession(uri, *arguments)
    try:
        yield session
    finally:
        session.close()
