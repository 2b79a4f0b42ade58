"""The load of a storm: clients that change guests of their own and read everybody's, subscribers that note events.

Each client owns its guests, so that the order of acknowledged changes of a guest is the order of its client's calls.
Calls carry a trace id of their own: events name it, which is how the checker knows what a call caused.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from broker.peer import Peer
from client.event import Event, Resync
from client.events import EventStream
from schema.body import pack_args, unpack_result
from schema.enums.domain_state import DomainState
from schema.errors import VirtError
from schema.objects import DomainRef
from schema.table import need_procedure
from settings.paths import Paths
from tests.storm.history import Happening, History, Operation

STATES: Final = {
    DomainState.RUNNING: "running",
    DomainState.PAUSED: "paused",
    DomainState.SHUTOFF: "shutoff",
}

# state of a guest as its client believes it -> what the client may do next; a wrong belief is answered with an error
MOVES: Final[dict[str | None, tuple[str, ...]]] = {
    None: ("domain_define_xml_flags",),
    "shutoff": (
        "domain_create_with_flags",
        "domain_create_with_flags",
        "domain_undefine_flags",
        "domain_define_xml_flags",
    ),
    "running": ("domain_suspend", "domain_suspend", "domain_destroy_flags"),
    "paused": ("domain_resume", "domain_resume", "domain_destroy_flags"),
}
READS: Final = ("connect_list_all_domains", "connect_num_of_domains", "connect_get_hostname")


@dataclass(slots=True)
class Guest:
    """A guest of one client."""

    name: str
    uuid: uuid.UUID
    state: str | None = None

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.name, self.uuid.bytes, -1)


@dataclass(slots=True)
class StormClient:
    """One closed loop of calls."""

    name: str
    paths: Paths
    destination: str
    scope: str
    document: Callable[[str, uuid.UUID, str], str]
    history: History
    dice: random.Random
    guests: list[Guest]
    deadline_s: float = 60.0
    pause_s: float = 0.0
    reads_failed: list[str] = field(default_factory=list)
    calls: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Calls until told to stop; each call that began is waited for."""
        peer = await Peer.connect_client(self.paths, program=f"storm-{self.name}", wait_s=60.0)
        try:
            while not stop.is_set():
                if self.dice.random() < 0.3:
                    await self._read(peer)
                else:
                    await self._change(peer)
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
        finally:
            await peer.aclose()

    async def _change(self, peer: Peer) -> None:
        guest = self.dice.choice(self.guests)
        procedure = self.dice.choice(MOVES[guest.state])
        self.calls += 1
        call = f"{self.name}-{self.calls:06d}"
        arguments: dict[str, Any] = {"flags": 0}
        if procedure == "domain_define_xml_flags":
            arguments["xml"] = self.document(guest.name, guest.uuid, call)
        else:
            arguments["dom"] = guest.ref
        if procedure in ("domain_suspend", "domain_resume"):
            del arguments["flags"]
        key = guest.uuid.bytes
        op = Operation(self.name, call, procedure, guest.uuid.hex, time.monotonic())
        self.history.operations.append(op)
        try:
            await peer.call(
                self.destination,
                procedure,
                pack_args(need_procedure(procedure), arguments),
                scope=self.scope,
                key=key,
                deadline_s=self.deadline_s,
                trace=op.call,
            )
            op.verdict = "ok"
        except VirtError as error:
            op.verdict, op.message = error.kind, error.message
        op.ended = time.monotonic()
        guest.state = await self._look(peer, guest) if op.verdict != "ok" else _after(procedure, guest.state)

    async def _look(self, peer: Peer, guest: Guest) -> str | None:
        """What the agent says of a guest after a call that did not end well."""
        while True:
            listed = await self._list(peer)
            if listed is not None:
                return listed.get(guest.uuid.hex)

    async def _list(self, peer: Peer) -> dict[str, str] | None:
        try:
            return await list_states(peer, self.destination, self.scope, self.deadline_s)
        except VirtError as error:
            self.reads_failed.append(f"{error.kind}: {error.message}")
            return None

    async def _read(self, peer: Peer) -> None:
        procedure = need_procedure(self.dice.choice(READS))
        arguments = {"need_results": 1, "flags": 0} if procedure.name == "connect_list_all_domains" else {}
        try:
            await peer.call(
                self.destination,
                procedure.name,
                pack_args(procedure, arguments),
                scope=self.scope,
                deadline_s=self.deadline_s,
            )
        except VirtError as error:
            self.reads_failed.append(f"{procedure.name}: {error.kind}: {error.message}")


def _after(procedure: str, before: str | None) -> str | None:
    if procedure == "domain_define_xml_flags":
        return before or "shutoff"
    return {
        "domain_create_with_flags": "running",
        "domain_suspend": "paused",
        "domain_resume": "running",
        "domain_destroy_flags": "shutoff",
        "domain_undefine_flags": None,
    }[procedure]


async def list_states(peer: Peer, destination: str, scope: str, deadline_s: float = 60.0) -> dict[str, str]:
    """uuid in hex -> state of every guest, asked of the driver itself."""
    listing = need_procedure("connect_list_all_domains")
    asking = need_procedure("domain_get_state")
    reply = await peer.call(
        destination,
        listing.name,
        pack_args(listing, {"need_results": 1, "flags": 0}),
        scope=scope,
        deadline_s=deadline_s,
    )
    states: dict[str, str] = {}
    for ref in unpack_result(listing, reply.body).domains:
        try:
            answer = await peer.call(
                destination,
                asking.name,
                pack_args(asking, {"dom": ref, "flags": 0}),
                scope=scope,
                key=ref.uuid,
                deadline_s=deadline_s,
            )
        except VirtError as error:
            if error.kind == "NoSuchDomain":
                continue  # gone between the list and the question
            raise
        state = DomainState(unpack_result(asking, answer.body).state)
        states[ref.uuid.hex()] = STATES.get(state, state.name.lower())
    return states


def happening_of(event: Event) -> Happening:
    """An event as the history keeps it."""
    return Happening(
        generation=event.cursor.generation,
        offset=event.cursor.offset,
        source=event.source,
        epoch=event.epoch,
        seq=event.seq,
        kind=event.kind,
        object=event.object.key.hex() if event.object is not None else "",
        version=event.version,
        call=event.trace,
        data={k: event.data[k] for k in ("event", "detail")} if event.kind == "domain_event_lifecycle" else {},
        gone=event.object is not None and event.summary is None and event.kind != "epoch",
    )


async def write_down(stream: EventStream, seen: list[Happening], slow: Callable[[], float] | None = None) -> None:
    """Writes down all that a subscriber receives until it is cancelled. Here a Resync is a fault."""
    async for event in stream:
        if isinstance(event, Resync):
            raise AssertionError(f"a subscriber was told that history is lost: {event.lost}")
        seen.append(happening_of(event))
        if slow is not None and (nap := slow()):
            await asyncio.sleep(nap)
