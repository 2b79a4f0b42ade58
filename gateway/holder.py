"""Holds the listening sockets while no gateway does, so that who connects meanwhile waits instead of being refused.

A process of its own and outside the supervised tree, because it has to outlive the gateway and supervisord both. It
accepts nothing and serves nobody: it hands its descriptors to a gateway of the same user, and ends when it is told to
(orderly stop of the gateway, SIGTERM), or when its control socket is not its own any more. It imports little, for it
stays in memory.

Arguments: descriptor numbers of the control socket and of the two listening sockets, the lock file which names this
process, the control socket's path, and the paths that go at the end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys

TAKE = b"T"
END = b"E"
LOOK_EVERY_S = 2.0
CLIENTS_MAX = 16


def main(arguments: list[str]) -> int:
    """Holds until told to end."""
    control = socket.socket(fileno=int(arguments[0]))
    held = [int(arguments[1]), int(arguments[2])]
    control_path, *paths = arguments[4:]
    lock = os.open(arguments[3], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 75
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    waker, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup)
    control.setblocking(False)
    mine = _inode(control_path)
    clients: dict[int, socket.socket] = {}
    while not told:
        ready, _, _ = select.select([control.fileno(), waker, *clients], [], [], LOOK_EVERY_S)
        if _inode(control_path) != mine:
            return 0
        for fd in ready:
            if fd == control.fileno():
                _accept(control, clients)
            elif fd in clients:
                if _serve(clients[fd], held) == END:
                    told.append(0)
                if clients[fd].fileno() == -1:
                    del clients[fd]
    for path in (control_path, *paths):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - pathlib costs as much memory as all of this
    return 0


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116
    except OSError:
        return 0


def _accept(control: socket.socket, clients: dict[int, socket.socket]) -> None:
    try:
        client, _ = control.accept()
    except OSError:
        return
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.geteuid() or len(clients) >= CLIENTS_MAX:
        client.close()
        return
    client.setblocking(False)
    clients[client.fileno()] = client


def _serve(client: socket.socket, held: list[int]) -> bytes:
    """Does what one gateway asks; the connection stays open, for its end tells that one of both is gone."""
    try:
        word = client.recv(1)
        if word == TAKE:
            socket.send_fds(client, [b"H"], held)
        elif not word:
            client.close()
        return word
    except BlockingIOError:
        return b""
    except OSError:
        client.close()
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
