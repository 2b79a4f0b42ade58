"""Who has which console of a guest open."""

from __future__ import annotations

import asyncio

from schema.errors import OperationFailed


class Consoles:
    """Who has which console; the newcomer of a forced opening takes it over."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Task[None] | None] = {}

    def reserve(self, path: str, *, force: bool) -> None:
        """Makes sure that nobody else has the console. Raises OperationFailed when somebody has."""
        task = self._open.get(path)
        if path in self._open:
            if not force:
                raise OperationFailed("Active console session exists for this domain")
            if task is not None:
                task.cancel()
        self._open[path] = None

    def take(self, path: str) -> None:
        """The current task serves the console."""
        task = asyncio.current_task()
        self._open[path] = task

    def give_back(self, path: str) -> None:
        """The current task does not serve it any more."""
        if self._open.get(path) is asyncio.current_task():
            del self._open[path]
