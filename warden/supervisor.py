"""What the warden asks of supervisord, over XML-RPC, in one worker thread: orders are carried out in their order."""

from __future__ import annotations

import asyncio
import http.client
import time
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from util.xmlrpc_unix import unix_proxy
from warden.slots import Held

TIMEOUT_S: Final = 10.0
REAP_WAIT_S: Final = 1.0
REAP_LOOK_S: Final = 0.003
ALREADY_STARTED: Final = 60
NOT_RUNNING: Final = 70

_RUNNING: Final = frozenset({Held.STARTING, Held.RUNNING, Held.STOPPING})

T = TypeVar("T")


class SupervisorRefused(Exception):
    """supervisord did not do it; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot, as supervisord sees it."""

    group: str
    process: str
    held: Held
    pid: int
    exit_status: int


class Supervisor:
    """supervisord's procedures that the warden needs."""

    def __init__(self, socket_path: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="supervisord")
        self._proxy = unix_proxy(socket_path, TIMEOUT_S)

    async def places(self) -> list[Place]:
        """Every slot there is. Raises SupervisorRefused."""
        return await self._run(lambda: [_place(info) for info in self._supervisor.getAllProcessInfo()])

    async def start(self, actor: str, slot: int) -> int:
        """The process that runs in the slot now. Raises SupervisorRefused."""
        return await self._run(lambda: self._start(f"{actor}:{slot}"))

    async def stop(self, actor: str, slot: int) -> None:
        """supervisord begins to end what runs in the slot. Raises SupervisorRefused."""
        await self._run(lambda: self._stop(f"{actor}:{slot}"))

    async def reaped(self, actor: str, slot: int, pid: int) -> Place:
        """The slot after the end of its process, once supervisord has noticed it; as it is when it does not notice.

        Raises SupervisorRefused.
        """
        return await self._run(lambda: self._reaped(f"{actor}:{slot}", pid))

    def close(self) -> None:
        """Waits for nothing."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def _supervisor(self) -> Any:
        return self._proxy.supervisor

    async def _run(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            try:
                return work()
            except xmlrpc.client.Fault as exc:
                raise SupervisorRefused(exc.faultString) from exc
            except (OSError, http.client.HTTPException, xmlrpc.client.Error) as exc:
                raise SupervisorRefused(f"supervisord does not answer: {exc}") from exc

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    def _start(self, name: str) -> int:
        # both in one message: the second saves a round trip while a caller waits for the actor
        batch = xmlrpc.client.MultiCall(self._proxy)
        batch.supervisor.startProcess(name, False)
        batch.supervisor.getProcessInfo(name)
        results: list[Any] = batch().results
        started, info = results
        if isinstance(started, dict) and "faultCode" in started and started["faultCode"] != ALREADY_STARTED:
            raise SupervisorRefused(str(started.get("faultString", started)))
        place = _place(info)
        if place.pid == 0:
            raise SupervisorRefused(f"'{name}' ended at once, with exit status {place.exit_status}")
        return place.pid

    def _stop(self, name: str) -> None:
        try:
            self._supervisor.stopProcess(name, False)
        except xmlrpc.client.Fault as exc:
            if exc.faultCode != NOT_RUNNING:
                raise

    def _reaped(self, name: str, pid: int) -> Place:
        end = time.monotonic() + REAP_WAIT_S
        while True:
            # the call itself wakes supervisord's loop, which reaps before it answers the next one
            place = _place(self._supervisor.getProcessInfo(name))
            if place.held not in _RUNNING or place.pid != pid or time.monotonic() > end:
                return place
            time.sleep(REAP_LOOK_S)


def _place(info: dict[str, Any]) -> Place:
    try:
        held = Held(info["statename"])
    except ValueError:
        held = Held.UNKNOWN
    return Place(info["group"], info["name"], held, int(info["pid"]), int(info["exitstatus"]))
