"""An actor without processes: a small driver, its runtime on a temporary folder, a broker that only listens."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from actors.runtime.actor import Actor, Stage
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.runtime.host import Host
from actors.runtime.mailbox import MailboxKey
from actors.runtime.runtime import Runtime
from broker.peer import IncomingCall
from broker.wire import CallPrologue, Flag
from schema.body import pack_args, unpack_result
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import DomainExists, DomainStateError, ErrorDomain, VirtError
from schema.objects import DomainRef
from schema.summaries import DomainSummary
from schema.table import need_procedure
from settings.config import ActorSettings, Config
from settings.paths import resolve_paths
from util.structured_log import StructuredLog

SCOPE = "toy:///"
DEVNULL = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # one for all tests


def summary(**values: Any) -> DomainSummary:
    """A guest that is off."""
    whole: dict[str, Any] = {
        "id": -1,
        "state": int(DomainState.SHUTOFF),
        "reason": int(DomainShutoffReason.SHUTDOWN),
        "persistent": True,
        "autostart": False,
        "managed_save": False,
        "os_type": "hvm",
        "max_mem": 1024,
        "mem": 1024,
        "vcpus": 1,
        "title": None,
        "scope": SCOPE,
        "snapshots": 0,
        "checkpoints": 0,
        "since": 1.0,
        **values,
    }
    return whole  # type: ignore[return-value]


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


class ToyHost(Host):
    """What the toy driver's handlers share."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.gate = asyncio.Event()
        self.entered: list[str] = []
        self.ended: list[str] = []
        self.refreshed: list[MailboxKey] = []
        self.ids = itertools.count(1)


toy_calls: Calls[ToyHost] = Calls()


@toy_calls.handles()
async def domain_define_xml_flags(host: ToyHost, xml: str, flags: int) -> DomainRef:
    uuid = xml.encode().ljust(16, b"-")[:16]
    ref = DomainRef(xml, uuid, -1)
    async with host.runtime.mailbox(("domain", uuid)).change():
        if host.objects.find("domain", uuid) and flags:
            raise DomainExists(f"domain '{xml}' already exists")
        await host.store.write(f"domains/{xml}.xml", xml.encode(), result=ref)
        host.objects.put(
            "domain", uuid, xml, summary(), events=[("domain_event_lifecycle", {"dom": ref, "event": 0, "detail": 0})]
        )
    return ref


@toy_calls.handles(key="dom")
async def domain_undefine_flags(host: ToyHost, dom: DomainRef, flags: int) -> None:
    entry = host.need_domain(dom)
    await host.store.remove(f"domains/{entry.name}.xml")
    host.objects.drop(
        "domain", dom.uuid, events=[("domain_event_lifecycle", {"dom": entry.ref, "event": 1, "detail": 0})]
    )


@toy_calls.handles(key="dom")
async def domain_create_with_flags(host: ToyHost, dom: DomainRef, flags: int) -> DomainRef:
    entry = host.need_domain(dom)
    if entry.summary["id"] != -1:
        raise DomainStateError("domain is already running")
    async with host.intents.change("create", {"name": entry.name}) as intent:
        await host.store.write(f"run/{entry.name}", b"1")
        running = summary(id=next(host.ids), state=int(DomainState.RUNNING), reason=1)
        ref = DomainRef(entry.name, entry.key, running["id"])  # type: ignore[arg-type]
        intent.result(ref)
        host.objects.put(
            "domain",
            entry.key,
            entry.name,
            running,
            events=[("domain_event_lifecycle", {"dom": ref, "event": 2, "detail": 0})],
        )
    return ref


@toy_calls.handles(key="dom")
async def domain_suspend(host: ToyHost, dom: DomainRef) -> None:
    """Waits at the gate, as for a hypervisor that hangs."""
    host.need_domain(dom)
    host.entered.append("suspend")
    try:
        await host.gate.wait()
    finally:
        host.ended.append("suspend")


@toy_calls.handles(key="dom", lane="query")
async def domain_memory_stats(host: ToyHost, dom: DomainRef, maxStats: int, flags: int) -> list[Any]:  # noqa: N803
    host.entered.append("stats")
    await host.gate.wait()
    return []


@toy_calls.handles(key="dom", lane="override")
async def domain_destroy_flags(host: ToyHost, dom: DomainRef, flags: int) -> None:
    host.entered.append("destroy")


@toy_calls.handles(key="dom")
async def domain_set_autostart(host: ToyHost, dom: DomainRef, autostart: int) -> None:
    if autostart == 99:
        raise ZeroDivisionError("a fault")
    entry = host.need_domain(dom)
    current_call().progress(1, 2, "half")
    host.objects.put("domain", entry.key, entry.name, {**entry.summary, "autostart": bool(autostart)})


@toy_calls.handles(key="dom", lane="query")
async def domain_get_xml_desc(host: ToyHost, dom: DomainRef, flags: int) -> str:
    return f"<domain><name>{host.need_domain(dom).name}</name></domain>"


class ToyActor(Actor[ToyHost]):
    """A driver whose guests are files: `domains/NAME.xml` defines one, `run/NAME` makes it run."""

    name = "toy"
    schemes = ("toy",)
    calls = (toy_calls,)
    error_domain = ErrorDomain.TEST

    async def start(self, runtime: Runtime) -> ToyHost:
        host = ToyHost(runtime)
        for intent in runtime.intents.open:
            if intent.kind == "create" and runtime.store.read(f"run/{intent.data['name']}") is not None:
                name = intent.data["name"]
                await intent.finish(DomainRef(name, name.encode().ljust(16, b"-")[:16], 1))
        for path in runtime.store.list("domains", ".xml"):
            name = path.removeprefix("domains/").removesuffix(".xml")
            running = runtime.store.read(f"run/{name}") is not None
            state = {"id": next(host.ids), "state": int(DomainState.RUNNING), "reason": 1} if running else {}
            runtime.objects.restore("domain", name.encode().ljust(16, b"-")[:16], name, summary(**state))
        return host

    async def refresh(self, host: ToyHost, key: MailboxKey) -> None:
        host.refreshed.append(key)


class House:
    """One incarnation of the toy actor."""

    def __init__(self, root: Path, settings: ActorSettings, broker: FakeBroker, epoch: int) -> None:
        self.broker = broker
        self.runtime = Runtime(
            "toy", resolve_paths(root), Config(actors={"toy": settings}), StructuredLog("toy", fd=DEVNULL)
        )
        self.actor = ToyActor()
        self.stage = Stage(self.actor, self.runtime)
        self._correlations = itertools.count(1000 * epoch)

    @property
    def host(self) -> ToyHost:
        host: ToyHost = self.stage.host
        return host

    def post(
        self,
        procedure: str,
        *,
        correlation: int | None = None,
        resend: bool = False,
        deadline_s: float | None = 10.0,
        idempotency_key: str | None = None,
        caller: dict[str, Any] | None = None,
        body: bytes | None = None,
        scope: str = SCOPE,
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
            CallPrologue(procedure, scope, None, idempotency_key, "trace-1", caller or {"uid": 7, "read_only": False}),
            body,
        )
        assert self.stage.dispatcher is not None
        self.stage.dispatcher.on_call(call)
        return call

    async def outcome(self, call: IncomingCall) -> Any:
        """The result of a call that was posted; raises its error."""
        async with asyncio.timeout(10):
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
    root: Path,
    *,
    settings: ActorSettings | None = None,
    broker: FakeBroker | None = None,
    epoch: int = 1,
    last: tuple[int, int] | None = None,
    orderly: bool = True,
) -> AsyncIterator[House]:
    """A started toy actor. Not `orderly`: it ends like one that was killed, with nothing recorded at its end."""
    broker = broker or FakeBroker()
    house = House(root, settings or ActorSettings(), broker, epoch)
    await house.stage.set(broker, epoch, broker.last() if last is None else last)
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
