"""A role that answers calls by a script, for tests of everything that stands between a caller and an actor.

In a test: `role = await FakeRole.connect(paths, "test")`, with coroutines in `answers` by procedure. As a process of
its own (it can then be killed or stopped): `python -m tests.fakes.role NAME`, which serves `ANSWERS` below.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from broker.peer import IncomingCall, Peer
from broker.wire import pack_value, unpack_value
from schema.errors import Cancelled, InvalidArguments, VirtError
from settings.paths import Paths
from settings.process import current, die_with_parent

Answer = Callable[["FakeRole", IncomingCall, dict[str, Any]], Awaitable[dict[str, Any]]]


class FakeRole:
    """Keeps what happened to it in plain lists; events that are not acknowledged yet are sent again when asked for."""

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        self.answers = dict(answers or ANSWERS)
        self.calls: list[IncomingCall] = []
        self.effects: dict[bytes, int] = {}  # how often each call was run
        self.outcomes: dict[bytes, bytes | VirtError] = {}  # to be told again when a call comes again
        self.cancelled: list[tuple[bytes, int]] = []
        self.registered: list[tuple[int, int]] = []
        self.acknowledged: list[tuple[int, bool]] = []
        self.lost = 0
        self.fenced: list[str] = []
        self.window: dict[int, bytes] = {}  # events that the journal does not hold yet
        self.seq = 0
        self.peer: Peer
        self._tasks: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @classmethod
    async def connect(
        cls, paths: Paths, name: str, answers: dict[str, Answer] | None = None, *, ready: bool = True
    ) -> FakeRole:
        role = cls(answers)
        role.peer = await Peer.connect_role(paths, name, role, wait_s=20.0)
        role.seq = role.peer.last[1]
        if ready:
            role.ready()
            await role.until(lambda: bool(role.registered))
        return role

    def ready(self) -> None:
        self.peer.ready(sorted(self.answers), "fake")

    async def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        """Waits until something that the broker said made the condition true."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    def publish(self, kind: str = "changed", **data: Any) -> int:
        """Hands an event over and keeps it until it is acknowledged."""
        self.seq += 1
        record = event_record(self.peer.name, self.peer.epoch, self.seq, kind, data)
        self.window[self.seq] = record
        self.peer.send_event(self.seq, record)
        return self.seq

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self.peer.aclose()

    # -- RoleHandler

    def on_call(self, call: IncomingCall) -> None:
        self.calls.append(call)
        self._changed.set()
        if (call.source, call.correlation) in self._tasks:
            return  # sent again while it runs
        if call.id in self.outcomes:
            self._tell(call, self.outcomes[call.id])
            return
        self.effects[call.id] = self.effects.get(call.id, 0) + 1
        task = asyncio.get_running_loop().create_task(self._answer(call))
        self._tasks[call.source, call.correlation] = task
        task.add_done_callback(lambda _: self._tasks.pop((call.source, call.correlation), None))

    def on_cancel(self, source: bytes, correlation: int) -> None:
        self.cancelled.append((source, correlation))
        self._changed.set()
        task = self._tasks.get((source, correlation))
        if task is not None:
            task.cancel()

    def on_registered(self, last: tuple[int, int]) -> None:
        self.registered.append(last)
        self._changed.set()
        self._forget(last[1])
        self._resend()

    def on_event_ack(self, seq: int, resend: bool) -> None:
        self.acknowledged.append((seq, resend))
        self._changed.set()
        self._forget(seq)
        if resend:
            self._resend()

    def on_broker_lost(self) -> None:
        self.lost += 1
        self._changed.set()

    def on_fenced(self, why: str) -> None:
        self.fenced.append(why)
        self._changed.set()

    def _forget(self, seq: int) -> None:
        for known in [number for number in self.window if number <= seq]:
            del self.window[known]

    def _resend(self) -> None:
        for seq in sorted(self.window):
            self.peer.send_event(seq, self.window[seq])

    async def _answer(self, call: IncomingCall) -> None:
        try:
            answer = self.answers.get(call.prologue.procedure)
            if answer is None:
                raise InvalidArguments(f"the script has no '{call.prologue.procedure}'")
            result = await answer(self, call, unpack_value(call.body) if call.body else {})
        except VirtError as exc:
            outcome: bytes | VirtError = exc
        except asyncio.CancelledError:
            outcome = Cancelled("as asked")
        else:
            outcome = pack_value(result)
        self.outcomes[call.id] = outcome
        self._tell(call, outcome)

    def _tell(self, call: IncomingCall, outcome: bytes | VirtError) -> None:
        if isinstance(outcome, VirtError):
            self.peer.fail(call, outcome, seq=self.seq)
        else:
            self.peer.reply(call, outcome, seq=self.seq)


def event_record(source: str, epoch: int, seq: int, kind: str, data: dict[str, Any]) -> bytes:
    """A record as a runtime would write it."""
    return pack_value(
        {
            "source": source,
            "epoch": epoch,
            "seq": seq,
            "kind": kind,
            "scope": "",
            "object": None,
            "data": data,
            "summary": None,
            "version": 0,
            "wall": time.time(),
            "mono": time.monotonic(),
            "call": None,
            "trace": None,
            "who": None,
            "origin": "host",
        }
    )


async def _ping(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid(), "epoch": role.peer.epoch, "uptime_s": 0.0}


async def _echo(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "arguments": arguments,
        "caller": call.prologue.caller,
        "scope": call.prologue.scope,
        "key": call.prologue.key,
        "idempotency_key": call.prologue.idempotency_key,
        "trace": call.prologue.trace,
        "flags": call.flags,
        "epoch": role.peer.epoch,
        "id": call.id,
    }


async def _sleep(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(float(arguments.get("s", 0.1)))
    return await _echo(role, call, arguments)


async def _emit(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    first = role.seq + 1
    for number in range(int(arguments.get("count", 1))):
        role.publish(number=number)
    return {"first": first, "last": role.seq}


async def _block(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    time.sleep(float(arguments["s"]))  # noqa: ASYNC251 - that is the point
    return {}


ANSWERS: dict[str, Answer] = {
    "actor_ping": _ping,
    "connect_get_hostname": _echo,  # a read
    "domain_create": _echo,  # a change
    "domain_reboot": _sleep,  # a slow change
    "domain_get_info": _sleep,  # a slow read
    "domain_suspend": _emit,
    "domain_resume": _block,  # holds the loop
}


async def _serve(name: str) -> None:
    die_with_parent()
    paths, _ = current()
    role = await FakeRole.connect(paths, name)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    watch = asyncio.ensure_future(ended.wait())
    while not watch.done() and not role.fenced:
        await asyncio.wait([watch], timeout=0.05)
    if not role.fenced:
        role.peer.bye()
    await role.aclose()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
