"""The two sockets that libvirt's clients connect to, taken over from the holder or made anew.

`docs/design/0004-who-holds-the-sockets.md` tells why a process of its own holds them.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.holder import END, TAKE
from settings.paths import Paths

BACKLOG: Final = 4096
TAKE_WAIT_S: Final = 2.0
HOLDER_ROLE: Final = "gateway-sockets"
"""The role whose lock file names the holder's process."""


class Listening:
    """The listening sockets, and the connection to the process that holds them too."""

    def __init__(self, paths: Paths, socket_group: str = "", *, for_everybody: bool = False) -> None:
        self._paths = paths
        self._socket_group = socket_group
        self._for_everybody = for_everybody
        self._holder: subprocess.Popen[bytes] | None = None
        self.lifeline: socket.socket | None = None
        taken = self._take()
        if taken is None:
            given_mark(paths).unlink(missing_ok=True)
        self._are_given = taken is not None and given_mark(paths).exists()
        self.read_write, self.read_only = taken if taken is not None else self._make()
        if self.lifeline is None:
            self.start_holder()
        for sock in (self.read_write, self.read_only):
            sock.setblocking(False)

    @property
    def _control_path(self) -> Path:
        return _control_path(self._paths)

    @property
    def _socket_paths(self) -> tuple[Path, Path]:
        return self._paths.libvirt_socket, self._paths.libvirt_socket_read_only

    def _take(self) -> tuple[socket.socket, socket.socket] | None:
        """The sockets that a holder has, if there is one and they are still where clients look for them."""
        lifeline = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lifeline.settimeout(TAKE_WAIT_S)
        try:
            lifeline.connect(os.fspath(self._control_path))
            lifeline.sendall(TAKE)
            _, fds, _, _ = socket.recv_fds(lifeline, 1, 2)
        except OSError:
            lifeline.close()
            return None
        if len(fds) != 2 or not all(map(_is_socket, self._socket_paths)):
            for fd in fds:
                os.close(fd)
            with contextlib.suppress(OSError):
                lifeline.sendall(END)
            lifeline.close()
            return None
        self.lifeline = lifeline
        return socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])

    def _make(self) -> tuple[socket.socket, socket.socket]:
        read_write, read_only = self._socket_paths
        for folder in (self._paths.run, read_write.parent):  # whatever the umask, and whoever came first
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        mode = 0o666 if self._for_everybody else 0o600
        group = -1
        if self._socket_group:
            group = grp.getgrnam(self._socket_group).gr_gid
            mode = 0o660
        return bind_unix(read_write, mode, group), bind_unix(read_only, 0o666)

    def start_holder(self) -> None:
        """Starts a process that holds the sockets beyond this one's life, and connects to it."""
        if self._holder is not None:
            self._holder.poll()
        self.drop_lifeline()
        self._holder, self.lifeline = hold_sockets(
            self._paths, self.read_write, self.read_only, () if self._are_given else self._socket_paths
        )
        self.lifeline.setblocking(False)

    def drop_lifeline(self) -> None:
        """Lets go of the holder without ending it."""
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None

    def end(self) -> None:
        """An orderly stop: nobody waits here any more, so the sockets go and the holder ends."""
        if self.lifeline is not None:
            with contextlib.suppress(OSError):
                self.lifeline.sendall(END)
        self.drop_lifeline()
        for path in () if self._are_given else self._socket_paths:
            path.unlink(missing_ok=True)
        self.read_write.close()
        self.read_only.close()
        if self._holder is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._holder.wait(1.0)


def _control_path(paths: Paths) -> Path:
    return paths.role_run("gateway") / "sockets"


def given_mark(paths: Paths) -> Path:
    """The file that says that the sockets which the holder has are somebody else's, who goes on listening on them."""
    return paths.role_run("gateway") / "given"


def hold_sockets(
    paths: Paths, read_write: socket.socket, read_only: socket.socket, owned: Sequence[Path]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a process that holds the sockets, and removes the owned paths at its end; it, and a connection to it."""
    control_path = _control_path(paths)
    control_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = paths.lock(HOLDER_ROLE)
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    control = bind_unix(control_path, 0o600)
    fds = (control.fileno(), read_write.fileno(), read_only.fileno())
    holder = subprocess.Popen(
        [sys.executable, "-I", "-m", "gateway.holder", *map(str, fds)]
        + [os.fspath(path) for path in (lock, control_path, *owned)],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    control.close()
    lifeline = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    lifeline.connect(os.fspath(control_path))
    return holder, lifeline


def bind_unix(path: Path, mode: int, group: int = -1) -> socket.socket:
    """A listening socket that appears under its path at once and ready, in place of whatever was there."""
    fresh = path.with_name(path.name[:1] + ".new" if len(path.name) > 4 else "n")
    fresh.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(fresh))
        if group != -1:
            os.chown(fresh, -1, group)
        fresh.chmod(mode)
        sock.listen(BACKLOG)
        fresh.replace(path)
    except OSError:
        sock.close()
        raise
    return sock


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
