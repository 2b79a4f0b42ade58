"""Waiting for jobs of QEMU's, which tell by events how far they are."""

from __future__ import annotations

import asyncio


class JobWaiters:
    """Who waits for which job of one guest. A job nobody waits for is looked after by whoever hears of it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._outcomes: dict[str, str] = {}

    def note(self, job: str, error: str) -> None:
        """QEMU told how a job ended that it forgets at once; no text for a good end."""
        self._outcomes[job] = error

    def take_outcome(self, job: str) -> str | None:
        """How such a job ended; None when nobody heard."""
        return self._outcomes.pop(job, None)

    def expect(self, job: str) -> asyncio.Future[str]:
        """Ends in the next status of a job that matters; to be asked for before QEMU is told of the job."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[job] = future
        return future

    def leave(self, job: str) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(job, None)

    def tell(self, job: str, status: str) -> bool:
        """Somebody waits for this job and hears of it."""
        future = self._waiting.pop(job, None)
        if future is None:
            return False
        if not future.done():
            future.set_result(status)
        return True
