"""Work that may wait for a disk or a name service, done beside the broker's loop; results come back into the loop."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Done = Callable[[Any], None]


class Worker:
    """One thread. `fd` is readable when results wait for `deliver`."""

    def __init__(self, name: str) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Done] | None] = queue.SimpleQueue()
        self._results: deque[tuple[Done, Any]] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any], done: Done) -> None:
        """Runs `job` in the thread, then `done` in the loop, with its result or the exception it raised."""
        self._jobs.put((job, done))

    def deliver(self) -> None:
        """Hands over the results that are there."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        while self._results:
            done, result = self._results.popleft()
            done(result)

    def close(self) -> None:
        """Ends the thread after what it was given."""
        self._jobs.put(None)
        self._thread.join(timeout=10)
        self.deliver()
        os.close(self.fd)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result: Any
            try:
                result = job()
            except Exception as exc:  # noqa: BLE001 - it is the loop that judges it
                result = exc
            self._results.append((done, result))
            os.eventfd_write(self.fd, 1)
