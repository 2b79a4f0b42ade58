"""supervisord, held to the lock of its root: `python -I -m warden.tree -c CONFIGURATION`.

Two things are added to the program as it comes. It takes the lock before it touches a socket, so that two trees of one
agent cannot run. And the death of a child wakes its loop: by itself supervisord looks at its dead once a second.
"""

from __future__ import annotations

import os
import signal
import sys

from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from settings.process import current, hold_lock
from settings.tree import SUPERVISOR


class Wake:
    """A pipe in supervisord's poll, into which each signal writes a byte."""

    def __init__(self) -> None:
        self.fd, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)

    def again(self) -> None:
        """The loop has something to do in its next turn."""
        try:
            os.write(self._in, b"\0")
        except BlockingIOError:
            pass  # full: it wakes anyway

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass

    def handle_error(self) -> None:
        sys.stderr.write("virtroupe: supervisord's wake-up pipe failed\n")


class Tree(Supervisor):  # type: ignore[misc]  # supervisor has no types
    """The process tree of one agent."""

    wake: Wake

    def run(self) -> None:
        paths, _ = current()
        hold_lock(paths.lock(SUPERVISOR))
        self.wake = Wake()
        super().run()

    def get_process_map(self) -> dict[int, object]:
        return {**super().get_process_map(), self.wake.fd: self.wake}

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        before = len(self.options.pidhistory)
        super().reap(once=once, recursionguard=recursionguard)
        if len(self.options.pidhistory) != before:
            self.wake.again()  # what restarts by itself does so in the next turn


def main(args: list[str] | None = None) -> None:
    """Runs supervisord until it is told to stop; a reload begins it anew."""
    is_first = True
    while True:
        options = ServerOptions()
        options.realize(args, doc="supervisord of one agent")
        options.first = is_first
        options.test = False
        try:
            Tree(options).main()
        except ExitNow:
            pass
        options.close_httpservers()
        options.close_logger()
        is_first = False
        if options.mood < SupervisorStates.RESTARTING:
            return


if __name__ == "__main__":
    main()
