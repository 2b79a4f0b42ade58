"""Devices that were asked to go, and who waits for each."""

from __future__ import annotations

import asyncio
from enum import Enum


class Removal(Enum):
    """What came of asking a guest to let a device go."""

    GONE = "gone"
    REFUSED = "refused"
    PENDING = "pending"


class Departures:
    """Who waits for devices of one guest, by alias; there is one at most for each."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Removal]] = {}

    def expect(self, alias: str) -> asyncio.Future[Removal]:
        """What will have come of the device."""
        future: asyncio.Future[Removal] = asyncio.get_running_loop().create_future()
        self._waiting[alias] = future
        return future

    def forget(self, alias: str, future: asyncio.Future[Removal]) -> None:
        """Nobody waits any more."""
        if self._waiting.get(alias) is future:
            del self._waiting[alias]

    def tell(self, alias: str, outcome: Removal) -> bool:
        """Tells whoever waits; whether there was anybody."""
        future = self._waiting.get(alias)
        if future is None:
            return False
        if not future.done():
            future.set_result(outcome)
        return True
