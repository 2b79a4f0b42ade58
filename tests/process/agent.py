"""A whole agent for a test: below a short root, started through the real command, ended process by process."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from settings.paths import Paths, resolve_paths
from settings.process import lock_holder

REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_S: Final = 120.0
RUN_S: Final = 60.0
READY_S: Final = 30.0
END_S: Final = 10.0
LOOK_S: Final = 0.01


class Agent:
    """An agent of its own, to be used in a `with` statement.

    At the end everything of it is gone, guests too; a process that it left behind, or a zombie, fails the test.
    """

    def __init__(self, config_toml: str = "", *, root: Path | None = None) -> None:
        self._is_own_root = root is None
        self.root = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp")) if root is None else root
        self.paths: Paths = resolve_paths(self.root)
        if config_toml:
            self.configure(config_toml)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.tell_logs()
            self._end_everything()
            self._remove_root()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self.tell_logs()
                self._end_everything()
            else:
                self.stop()
        finally:
            self._remove_root()

    def configure(self, toml: str) -> None:
        """Writes the configuration that the next start reads."""
        self.paths.config.mkdir(parents=True, exist_ok=True)
        self.paths.config_file.write_text(toml, encoding="utf-8")

    # -- the command

    def run(
        self, *args: str, check: bool = True, input: str | None = None, timeout: float = RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """The virtroupe command with this root."""
        words = [str(Path(sys.executable).with_name("virtroupe")), "--root", str(self.root), *args]
        return self._checked(words, check, input, timeout)

    def virsh(
        self, uri: str, *args: str, check: bool = True, input: str | None = None, timeout: float = RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """The real virsh, through the gateway's socket."""
        return self._checked(["virsh", "-c", self.libvirt_uri(uri), *args], check, input, timeout)

    def libvirt_uri(self, uri: str, *, read_only: bool = False) -> str:
        """The URI by which libvirt's own clients reach a driver of this agent: without it virsh would serve itself."""
        parts = urlsplit(uri)
        socket = self.paths.libvirt_socket_read_only if read_only else self.paths.libvirt_socket
        return f"{parts.scheme}+unix://{parts.netloc}{parts.path}?socket={socket}"

    def start(self) -> None:
        """`virtroupe up`: returns when the agent answers."""
        self.run("up", timeout=START_S)

    def status(self) -> dict[str, Any]:
        """`virtroupe status`, as data."""
        told: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return told

    def _checked(
        self, words: list[str], check: bool, input: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        given = {"stdin": subprocess.DEVNULL} if input is None else {}
        done = subprocess.run(
            words,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={key: value for key, value in os.environ.items() if not key.startswith("VIRTROUPE_")},
            **given,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    # -- its processes

    def pid(self, role: str) -> int | None:
        """The process that serves in a role now, by the lock that it holds."""
        return lock_holder(self.paths.lock(role)) or None

    def kill(self, role: str, sig: int = signal.SIGKILL) -> int:
        """Sends a signal to the process of a role, waiting for one if it is being started; which process it was."""
        pid = self.wait_for_pid(role)
        os.kill(pid, sig)
        return pid

    def wait_for_pid(self, role: str, *, other_than: int | None = None, timeout: float = READY_S) -> int:
        """The process that serves in a role, once there is one."""
        end = time.monotonic() + timeout
        while (pid := self.pid(role)) is None or pid == other_than:
            assert time.monotonic() < end, f"no process serves as '{role}' after {timeout} s"
            time.sleep(LOOK_S)
        return pid

    def wait_ready(self, role: str, timeout: float = READY_S) -> dict[str, Any]:
        """What the broker says of a role, once it is ready."""
        return self.wait_state(role, "ready", timeout)

    def wait_state(self, role: str, state: str, timeout: float = READY_S) -> dict[str, Any]:
        """What the broker says of a role, once it is in a state."""
        end = time.monotonic() + timeout
        while True:
            entry: dict[str, Any] = self.status()["actors"][role]
            if entry["state"] == state:
                return entry
            assert time.monotonic() < end, f"'{role}' is not {state} after {timeout} s: {entry}"
            time.sleep(LOOK_S)

    def wait_until(self, reached: Callable[[], object], what: str, timeout: float = READY_S) -> None:
        """Waits for something that is to happen."""
        end = time.monotonic() + timeout
        while not reached():
            assert time.monotonic() < end, f"it did not happen within {timeout} s that {what}"
            time.sleep(LOOK_S)

    def processes(self) -> dict[int, str]:
        """Every process of this agent that lives, guests included, by the root in its environment or command line."""
        mark = os.fsencode(str(self.root))
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                words = (folder / "cmdline").read_bytes()
                is_ours = mark + b"/" in words or b"VIRTROUPE_ROOT=" + mark in (folder / "environ").read_bytes().split(
                    b"\0"
                )
            except OSError:
                continue
            if is_ours:
                found[int(folder.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def zombies(self) -> list[int]:
        """Dead children that a process of this agent did not reap."""
        ours = set(self.processes())
        found = []
        for folder in Path("/proc").iterdir():
            try:
                stat = (folder / "stat").read_bytes().rpartition(b") ")[2].split()
            except (OSError, IndexError):
                continue
            if stat[0] == b"Z" and int(stat[1]) in ours:
                found.append(int(folder.name))
        return found

    # -- the end

    def stop(self) -> None:
        """`virtroupe down`; then nothing of it may be left but guests, which are ended too."""
        assert not self._lasting_zombies(), "zombies of a running agent"
        self.run("down")
        assert self.pid("supervisord") is None
        left = {pid: words for pid, words in self.processes().items() if not is_guest(words)}
        self._end_everything()
        assert not left, f"processes outlived their agent: {left}"

    def tell_logs(self, lines: int = 40) -> None:
        """Prints the end of every log, for whoever reads why a test failed."""
        for path in sorted(self.paths.log.glob("*.log")):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            sys.stdout.write(f"--- {path.name}\n" + "\n".join(text) + "\n")

    def _remove_root(self) -> None:
        if self._is_own_root:
            shutil.rmtree(self.root, ignore_errors=True)

    def _lasting_zombies(self) -> list[int]:
        seen = self.zombies()
        end = time.monotonic() + 2.0
        while seen and time.monotonic() < end:
            time.sleep(LOOK_S)
            seen = [pid for pid in self.zombies() if pid in seen]
        return seen

    def _end_everything(self) -> None:
        """supervisord first, so that nothing is started again."""
        supervisord = self.pid("supervisord")
        for pid in ([supervisord] if supervisord else []) + list(self.processes()):
            end_process(pid)
        for pid in self.processes():
            end_process(pid)


def end_process(pid: int) -> None:
    """Kills one process and waits for its end."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], END_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def is_guest(words: str) -> bool:
    """Whether a command line is a guest's, or something else that is to outlive the agent."""
    return Path(words.split(" ", 1)[0]).name.startswith(("qemu-", "crun", "dnsmasq"))
