"""Sockets that somebody else listens on, such as systemd: given to the holder before there is a gateway.

`virtroupe up` runs this with the descriptors that it was given (`LISTEN_FDS`); the gateway then takes the sockets over
from the holder, as it takes those of its predecessor. Who connected before, and started all this, is served.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from gateway.listening import HOLDER_ROLE, bind_unix, given_mark, hold_sockets
from settings.config import ConfigError
from settings.paths import Paths
from settings.process import current, lock_holder

FIRST: Final = 3
END_S: Final = 5.0


class NotOurs(ValueError):
    """None of the sockets is one of the gateway's; the text says which they are."""


def sort_out(paths: Paths, given: Sequence[socket.socket]) -> tuple[socket.socket, socket.socket]:
    """The read-write and the read-only socket; one that was not given is made. Raises NotOurs, and OSError."""
    by_path = {os.path.realpath(sock.getsockname()): sock for sock in given if sock.family == socket.AF_UNIX}
    read_write = by_path.get(os.path.realpath(paths.libvirt_socket))
    read_only = by_path.get(os.path.realpath(paths.libvirt_socket_read_only))
    if read_write is None and read_only is None:
        raise NotOurs(f"the sockets given are {', '.join(by_path) or 'none'}, not '{paths.libvirt_socket}'")
    return (
        bind_unix(paths.libvirt_socket, 0o600) if read_write is None else read_write,
        bind_unix(paths.libvirt_socket_read_only, 0o666) if read_only is None else read_only,
    )


def hand_over(paths: Paths, given: Sequence[socket.socket]) -> None:
    """Gives the sockets to a holder, in place of one that there is. Raises NotOurs, and OSError."""
    read_write, read_only = sort_out(paths, given)
    former = lock_holder(paths.lock(HOLDER_ROLE))
    if former:
        os.kill(former, signal.SIGKILL)  # in order it would remove paths that are not its own any more
        wait_for_end(former)
    mark = given_mark(paths)
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.touch(mode=0o600)
    holder, lifeline = hold_sockets(paths, read_write, read_only, ())
    holder.returncode = 0  # it outlives us, and is not ours to wait for
    lifeline.close()


def wait_for_end(pid: int) -> None:
    """Waits a while for a process to be gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([watched], [], [], END_S)
    os.close(watched)


def main(words: Sequence[str]) -> int:
    """Takes so many sockets, from the third descriptor on."""
    os.umask(0o077)
    try:
        paths, _ = current()
        hand_over(paths, [socket.socket(fileno=FIRST + number) for number in range(int(words[0]))])
    except (ConfigError, NotOurs, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
