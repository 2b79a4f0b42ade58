"""A small driver to test the runtime with: its guests are files."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.runtime.host import Host
from actors.runtime.mailbox import MailboxKey
from actors.runtime.runtime import Runtime
from actors.runtime.streams import Streamed
from broker.stream import Stream
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import DomainExists, DomainStateError, ErrorDomain
from schema.objects import DomainRef
from schema.summaries import DomainSummary
from settings.config import ActorSettings
from tests.contract import house as contract
from tests.contract.house import DEVNULL as DEVNULL
from tests.contract.house import FakeBroker as FakeBroker
from tests.contract.house import House as House

SCOPE = "toy:///"


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


@toy_calls.handles(key="dom")
async def domain_set_memory_flags(host: ToyHost, dom: DomainRef, memory: int, flags: int) -> None:
    host.entered.append("memory")
    entry = host.need_domain(dom)
    await host.store.write(f"mem/{entry.name}", str(memory).encode())
    host.objects.put("domain", entry.key, entry.name, {**entry.summary, "mem": memory})


@toy_calls.handles(key="dom", lane="query")
async def domain_screenshot(host: ToyHost, dom: DomainRef, screen: int, flags: int) -> Streamed:
    """So many MiB of zeros; with `flags` it waits in the middle for a gate that nobody opens."""

    async def serve(stream: Stream) -> None:
        for number in range(screen):
            if flags and number == screen // 2:
                await host.gate.wait()
            await stream.write(bytes(1024 * 1024))
        await stream.finish()

    return Streamed(serve, "image/zeros")


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
            if (memory := runtime.store.read(f"mem/{name}")) is not None:
                state["mem"] = int(memory)
            runtime.objects.restore("domain", name.encode().ljust(16, b"-")[:16], name, summary(**state))
        return host

    async def refresh(self, host: ToyHost, key: MailboxKey) -> None:
        host.refreshed.append(key)


def open_house(
    root: Path,
    *,
    settings: ActorSettings | None = None,
    broker: FakeBroker | None = None,
    epoch: int = 1,
    last: tuple[int, int] | None = None,
    orderly: bool = True,
    history: AsyncIterator[bytes] | None = None,
) -> AbstractAsyncContextManager[House]:
    """A started toy actor."""
    return contract.open_house(
        ToyActor(),
        SCOPE,
        root,
        settings=settings,
        broker=broker,
        epoch=epoch,
        last=last,
        orderly=orderly,
        history=history,
    )
