"""Watches processes of others by pidfd: each end is told once, when it happens and not when somebody reaps it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


class Deaths:
    """The processes that are watched."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self._fds: dict[int, int] = {}

    def watch(self, pid: int) -> None:
        """Its end will be told, also when it ended already."""
        if pid in self._fds:
            return
        loop = asyncio.get_running_loop()
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            loop.call_soon(self._told, pid)
            return
        self._fds[pid] = fd
        loop.add_reader(fd, self._ended, pid)

    def kill(self, pid: int) -> None:
        """Ends exactly the process that is watched, never one that got its number later."""
        fd = self._fds.get(pid)
        if fd is not None:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the watch tells

    def close(self) -> None:
        """Watches nothing any more."""
        for pid in list(self._fds):
            self._forget(pid)

    def _ended(self, pid: int) -> None:
        self._forget(pid)
        self._told(pid)

    def _forget(self, pid: int) -> None:
        fd = self._fds.pop(pid)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
