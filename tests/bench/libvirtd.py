"""A real libvirtd as the peer: in a mount namespace of its own, so that it shares no folder with one of the host.

Run as a program it is the first process of that namespace: it binds libvirt's folders to a base folder, starts the
daemon, and reaps what the daemon's guests leave behind (a host whose first process is slow at that adds a second to
each destroy, which would be unfair).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.bench.report import CannotRun

_FOLDERS: Final = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
_START_S: Final = 30.0


class Libvirtd:
    """A running libvirtd; `socket` is its read-write socket. Raises CannotRun where it cannot be had."""

    def __init__(self, base: Path, *, config: str = "", qemu: str = "", listens: bool = False) -> None:
        """`config` is added to its configuration, `qemu` to that of its QEMU driver.

        Files for SASL are taken from `base`/sasl where that is a folder.
        """
        if os.geteuid() != 0:
            raise CannotRun("a private libvirtd needs root")
        if shutil.which("libvirtd") is None and not Path("/usr/sbin/libvirtd").exists():
            raise CannotRun("libvirtd is not installed (Debian: libvirt-daemon)")
        self.base = base
        self._config = config
        self._qemu = qemu
        self._listens = listens
        self.socket = base / "run" / "libvirt-sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        return int((self.base / "libvirtd.pid").read_text(encoding="ascii"))

    def uri(self, local: str) -> str:
        """A URI of the daemon for `qemu:///system` or `test:///default`."""
        scheme, rest = local.split(":", 1)
        return f"{scheme}+unix:{rest}?socket={self.socket}"

    def __enter__(self) -> Self:
        for name, place in _FOLDERS.items():
            folder = self.base / name
            if name in ("etc", "lib") and Path(place).is_dir():
                shutil.copytree(place, folder, symlinks=True, ignore=shutil.ignore_patterns("*.sock*", "autostart"))
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        (self.base / "etc" / "qemu.conf").write_text(
            'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nstdio_handler = "file"\n' + self._qemu,
            encoding="ascii",
        )
        (self.base / "libvirtd.conf").write_text(
            self._config  # of a setting that is there twice the first counts
            + f'auth_unix_ro = "none"\nauth_unix_rw = "none"\nlog_outputs = "3:file:{self.base}/libvirtd.log"\n',
            encoding="ascii",
        )
        self.launch()
        return self

    def launch(self) -> None:
        """Starts the daemon on the folders that are there, also after its end. Raises CannotRun."""
        if self._process is not None:
            self._process.wait(30)  # it reaps the daemon, and ends then
        with (self.base / "init.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    sys.executable,
                    "-m",
                    "tests.bench.libvirtd",
                    str(self.base),
                    *(["--listen"] if self._listens else []),
                ],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                log = (self.base / "init.log").read_text(errors="replace")[-500:]
                self.__exit__(None, None, None)
                raise CannotRun(f"libvirtd did not start: {log}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        # the file is there a moment before anybody listens at it, and may be that of a daemon that ended
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.socket))
            except OSError:
                return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)


@contextlib.contextmanager
def peer_where_possible(base: Path) -> Iterator[Libvirtd | None]:
    """A real libvirtd for the block, or None where it cannot be had."""
    with contextlib.ExitStack() as stack:
        try:
            peer: Libvirtd | None = stack.enter_context(Libvirtd(base))
        except CannotRun:
            peer = None
        yield peer


def _first_process(base: Path, *arguments: str) -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    folders = _FOLDERS | ({"sasl": "/etc/sasl2"} if (base / "sasl").is_dir() else {})
    for name, place in folders.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(base / name), place], check=True)
    # where both versions of control groups are mounted, it would start few guests at once: BPF programs fail to load
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=False, stderr=subprocess.DEVNULL)
    daemon = subprocess.Popen(
        ["libvirtd", "-f", str(base / "libvirtd.conf"), "-p", str(base / "libvirtd.pid"), *arguments],
        env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
    )

    def stop(*_: object) -> None:
        daemon.terminate()

    signal.signal(signal.SIGTERM, stop)
    while True:
        try:
            pid, _ = os.wait()
        except ChildProcessError:
            return
        if pid == daemon.pid:
            return


if __name__ == "__main__":
    _first_process(Path(sys.argv[1]), *sys.argv[2:])
