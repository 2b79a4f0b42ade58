"""A broker and a driver in memory, as the gateway sees them: scripted answers, published events, one guest registry.

The driver behaves as docs/protocol.md says: events are numbered, a reply carries the number of its last event, and a
change is published before it is answered. Publishing can be held back, and the driver can be stopped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.peer import Outcome, Reply
from broker.wire import CallPrologue, Cursor, Position, Published, pack_value
from gateway.reads import READERS
from schema.body import pack_result, split_files, unpack_args
from schema.errors import NoSuchDomain, UnsupportedCall, VirtError
from schema.objects import DomainRef
from schema.table import find_procedure, need_procedure
from tests.unit.gateway.records import SCOPE, record, summary, uuid_of


@dataclass(slots=True)
class Asked:
    """One call as it came."""

    destination: str
    procedure: str
    args: Any
    scope: str
    key: bytes | str | None
    caller: dict[str, Any] | None
    deadline_s: float | None
    files: dict[str, Any] | None = None


@dataclass(slots=True)
class Answer:
    """A result that opens a stream."""

    values: Any
    ticket: dict[str, Any]


@dataclass(slots=True)
class ScriptedPeer:
    """What the gateway calls and listens to."""

    guests: dict[str, dict[str, Any]] = field(default_factory=dict)
    seq: int = 10
    epoch: int = 1
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    publishing: bool = True
    held: list[tuple[str, Position, bytes]] = field(default_factory=list)
    queue: asyncio.Queue[tuple[str, Position, bytes]] = field(default_factory=asyncio.Queue)
    state: str = "ready"
    running: set[asyncio.Task[None]] = field(default_factory=set)

    def ref(self, name: str) -> DomainRef:
        return DomainRef(name, uuid_of(name), self.guests[name]["id"])

    # --- the driver ---

    def change(self, name: str, event: tuple[int, int] = (2, 0), *, gone: bool = False, **changes: Any) -> None:
        """A guest is now so, and an event says it."""
        if gone:
            values = self.guests.pop(name)
        else:
            values = self.guests.setdefault(name, summary())
            values.update(changes)
        self.seq += 1
        made = record(self.seq, name, gone=gone, version=self.seq, epoch=self.epoch, **values)
        made["data"]["event"], made["data"]["detail"] = event
        self.publish(Position(1, self.seq, self.epoch, self.seq, Published.EVENT), pack_value(made))

    def emit(self, kind: str, name: str | None, data: dict[str, Any]) -> None:
        """An event that changes nothing."""
        self.seq += 1
        made = record(self.seq, name or "x", version=self.seq, epoch=self.epoch, **(self.guests.get(name or "", {})))
        made["kind"], made["data"] = kind, data
        if name is None:
            made["object"] = made["summary"] = None
        self.publish(Position(1, self.seq, self.epoch, self.seq, Published.EVENT), pack_value(made))

    def publish(self, position: Position, body: bytes) -> None:
        message = ("test", position, body)
        if self.publishing:
            self.queue.put_nowait(message)
        else:
            self.held.append(message)

    def release(self) -> None:
        """Publishes what was held back."""
        self.publishing = True
        held, self.held = self.held, []
        for message in held:
            self.queue.put_nowait(message)

    def alive(self) -> None:
        self.publish(Position(1, self.seq, self.epoch, self.seq, Published.ALIVE), b"")

    def say_state(self, state: str) -> None:
        self.state = state
        body = pack_value({"state": state, "why": "a test"})
        self.publish(Position(1, self.seq, self.epoch, self.seq, Published.STATE), body)

    def _snapshot(self) -> dict[str, Any]:
        objects = [
            {"type": "domain", "key": uuid_of(name), "name": name, "version": 1, "summary": values, "scope": SCOPE}
            for name, values in self.guests.items()
        ]
        return {"epoch": self.epoch, "seq": self.seq, "objects": objects}

    def _by_name(self, args: Any) -> Any:
        if args.name not in self.guests:
            raise NoSuchDomain(f"no domain with matching name '{args.name}'")
        return self.ref(args.name)

    # --- the broker ---

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        key: bytes | str | None = None,
        deadline_s: float | None = 60.0,
        idempotency_key: str | None = None,
        trace: str | None = None,
        caller: dict[str, Any] | None = None,
        urgent: bool = False,
    ) -> Reply:
        row = need_procedure(procedure)
        rest, files = split_files(body) if row.fds is not None else (body, None)
        args = unpack_args(row, rest)
        self.asked.append(Asked(destination, procedure, args, scope, key, caller, deadline_s, files))
        standard: dict[str, Callable[[Any], Any]] = {
            "broker_status": lambda a: {"status": {"actors": {"test": {"state": self.state}, "gateway": {}}}},
            "actor_snapshot": lambda a: self._snapshot(),
            "actor_capabilities": lambda a: sorted(READERS),
            "connect_open": lambda a: None,
            "connect_close": lambda a: None,
            "connect_get_uri": lambda a: scope,
            "domain_lookup_by_name": self._by_name,
        }
        answer = self.answers.get(procedure) or standard.get(procedure)
        if answer is None:
            raise UnsupportedCall("not by this fake")
        values = answer(args)
        if inspect.isawaitable(values):
            values = await values
        ticket = None
        if isinstance(values, Answer):
            values, ticket = values.values, values.ticket
        found = find_procedure(procedure)
        assert found is not None
        return Reply(destination, self.epoch, self.seq, pack_result(found, values), ticket)

    def begin_call(
        self,
        outcome: Outcome,
        destination: str,
        prologue: CallPrologue,
        body: bytes,
        *,
        deadline_s: float | None = 60.0,
        urgent: bool = False,
    ) -> None:
        async def run() -> None:
            try:
                reply = await self.call(
                    destination,
                    prologue.procedure,
                    body,
                    scope=prologue.scope,
                    key=prologue.key,
                    deadline_s=deadline_s,
                    trace=prologue.trace,
                    caller=prologue.caller,
                    urgent=urgent,
                )
            except VirtError as exc:
                outcome.set_exception(exc)
            else:
                outcome.set_result(reply)

        task = asyncio.ensure_future(run())
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def head(self) -> Cursor:
        return Cursor(1, self.seq)

    async def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        for _, position, body in list(self.held):
            if position.what == Published.EVENT and position.offset > after.offset:
                yield Cursor(position.generation, position.offset), body

    @asynccontextmanager
    async def listen(self, sources: Sequence[str] | None) -> AsyncIterator[ScriptedPeer]:
        yield self

    async def next(self) -> tuple[str, Position, bytes]:
        return await self.queue.get()
