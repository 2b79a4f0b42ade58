"""An actor without processes: its runtime on a temporary folder, and a broker that only listens.

What a process of the driver would do happens in the test's own loop, so that a kill can be a copy of the state folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from actors.runtime.actor import Actor, Stage
from actors.runtime.runtime import Runtime
from broker.peer import IncomingCall
from broker.wire import CallPrologue, Flag
from schema.body import pack_args, unpack_result
from schema.errors import VirtError
from schema.table import need_procedure
from settings.config import ActorSettings, Config
from settings.paths import resolve_paths
from util.structured_log import StructuredLog

LIMIT_S = 30.0  # calls of a busy host are slow
DEVNULL = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # one for all tests


class FakeBroker:
    """Takes what an actor says to its broker; acknowledges events when told to."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.seqs: list[int] = []
        self.outcomes: dict[bytes, list[tuple[Any, ...]]] = {}
        self.arrived = asyncio.Event()

    def send_event(self, seq: int, record: bytes) -> None:
        fields = msgspec.msgpack.decode(record)
        assert fields["seq"] == seq
        self.seqs.append(seq)
        self.records.append(fields)

    def reply(self, call: IncomingCall, body: bytes, *, seq: int, ticket: dict[str, Any] | None = None) -> None:
        self._outcome(call, ("reply", body, seq, ticket))

    def fail(self, call: IncomingCall, error: VirtError, *, seq: int) -> None:
        self._outcome(call, ("error", error, seq))

    def _outcome(self, call: IncomingCall, outcome: tuple[Any, ...]) -> None:
        self.outcomes.setdefault(call.id, []).append(outcome)
        self.arrived.set()

    def last(self) -> tuple[int, int]:
        """(epoch, seq) of the last event, as if the journal held all."""
        return (self.records[-1]["epoch"], self.records[-1]["seq"]) if self.records else (0, 0)

    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.records]

    def lifecycle(self) -> list[tuple[int, int]]:
        """(event, detail) of each lifecycle event."""
        return [
            (r["data"]["event"], r["data"]["detail"]) for r in self.records if r["kind"] == "domain_event_lifecycle"
        ]


class House:
    """One incarnation of an actor. Calls without a scope of their own are made in `scope`."""

    def __init__(
        self, actor: Actor[Any], scope: str, root: Path, settings: ActorSettings, broker: FakeBroker, epoch: int
    ) -> None:
        self.scope = scope
        self.broker = broker
        self.runtime = Runtime(
            actor.name,
            resolve_paths(root),
            Config(actors={actor.name: settings}),
            StructuredLog(actor.name, fd=DEVNULL),
        )
        self.actor = actor
        self.stage = Stage(self.actor, self.runtime)
        self._correlations = itertools.count(1000 * epoch)

    @property
    def host(self) -> Any:
        """The driver's own state."""
        return self.stage.host

    def post(
        self,
        procedure: str,
        *,
        correlation: int | None = None,
        resend: bool = False,
        deadline_s: float | None = LIMIT_S,
        idempotency_key: str | None = None,
        caller: dict[str, Any] | None = None,
        body: bytes | None = None,
        scope: str | None = None,
        source: bytes = b"c" * 16,
        **args: Any,
    ) -> IncomingCall:
        """Makes a call arrive."""
        if body is None:
            body = pack_args(need_procedure(procedure), args)
        call = IncomingCall(
            source,
            next(self._correlations) if correlation is None else correlation,
            int(Flag.RESEND) if resend else 0,
            None if deadline_s is None else asyncio.get_running_loop().time() + deadline_s,
            CallPrologue(
                procedure,
                self.scope if scope is None else scope,
                None,
                idempotency_key,
                "trace-1",
                caller or {"uid": 7, "read_only": False},
            ),
            body,
        )
        assert self.stage.dispatcher is not None
        self.stage.dispatcher.on_call(call)
        return call

    async def outcome(self, call: IncomingCall) -> Any:
        """The result of a call that was posted; raises its error."""
        async with asyncio.timeout(2 * LIMIT_S):
            while call.id not in self.broker.outcomes:
                self.broker.arrived.clear()
                await self.broker.arrived.wait()
        kind, value, *_ = self.broker.outcomes[call.id][-1]
        if kind == "error":
            raise value
        return unpack_result(need_procedure(call.prologue.procedure), value)

    async def call(self, procedure: str, **args: Any) -> Any:
        """Posts a call and waits for its outcome."""
        return await self.outcome(self.post(procedure, **args))


@asynccontextmanager
async def open_house(
    actor: Actor[Any],
    scope: str,
    root: Path,
    *,
    settings: ActorSettings | None = None,
    broker: FakeBroker | None = None,
    epoch: int = 1,
    last: tuple[int, int] | None = None,
    orderly: bool = True,
    history: AsyncIterator[bytes] | None = None,
) -> AsyncIterator[House]:
    """A started actor. Not `orderly`: it ends like one that was killed, with nothing recorded at its end."""
    broker = broker or FakeBroker()
    house = House(actor, scope, root, settings or ActorSettings(), broker, epoch)
    await house.stage.set(broker, epoch, broker.last() if last is None else last, history)
    try:
        yield house
    finally:
        if orderly:
            await house.stage.strike(grace_s=0.2)
        else:
            await die(house)


async def die(house: House) -> None:
    """Ends an incarnation as a kill does: nothing is written or answered any more."""
    log = house.runtime.call_log
    house.runtime.call_log.end = lambda *args: None  # type: ignore[method-assign]
    log.close_intent = lambda *args, **kwargs: None  # type: ignore[method-assign]
    await house.stage.strike(grace_s=0.0)


def copy_state(root: Path, copy: Path) -> None:
    """What a process that is killed now leaves behind. A log's old segment may go away meanwhile, its successor not."""

    def copy_file(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)

    shutil.copytree(root / "state", copy / "state", copy_function=copy_file)
