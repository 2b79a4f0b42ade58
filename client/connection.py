"""A connection to one driver: its guests, networks and pools, its host, and what happens to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack
from uuid import UUID

from broker.wire import Cursor
from client.calling import Called, Caller, CallOptions
from client.domain import Domain
from client.errors import (
    Busy,
    CallPending,
    DeadlinePassed,
    DriverDegraded,
    DriverGone,
    DriverStopped,
    InvalidArguments,
    UnsupportedCall,
)
from client.events import EventStream, cursor_from
from client.facts import NodeInfo, Version
from client.guests import Guest, list_guests
from client.link import Link
from client.network import Network
from client.outcome import Outcome, find_outcome
from client.snapshot import Snapshot, known_objects
from client.storage_pool import StoragePool
from schema.enums.connect import ConnectListAllDomainsFlags
from schema.enums.domain import DomainCreateFlags, DomainDefineFlags, DomainSaveRestoreFlags
from schema.enums.network import ConnectListAllNetworksFlags
from schema.enums.storage_pool import ConnectListAllStoragePoolsFlags
from schema.table import all_events, find_event

SILENT: Final = (Busy, CallPending, DeadlinePassed, DriverDegraded, DriverGone, DriverStopped, UnsupportedCall)
"""The errors of a driver that cannot be asked now, as opposed to one that answers with an error."""

_SHARED_SERVICES: Final = ("hypervisor", "network", "storage", "nodedev", "interface", "nwfilter", "secret")
_KIND_PREFIXES: Final = ("", "domain_event_", "qemu_domain_")


class Connection:
    """A connection, made by `virtroupe.connect`.

    Any number of tasks may call at once. A cancelled task cancels its call; the driver then leaves the object in a
    valid state. Restarts of drivers and of the broker show only as calls that take a little longer. Every method that
    calls takes the `CallOptions`: `timeout`, `idempotency_key`, `trace`.
    """

    def __init__(self, link: Link, uri: str, scope: str, *, read_only: bool = False) -> None:
        self._link = link
        self._caller = Caller(link, scope)
        self.uri = uri
        self.scope = scope
        self.read_only = read_only

    def __repr__(self) -> str:
        return f"<Connection {self.uri!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection; guests do not notice."""
        await self._link.aclose()

    # Any call

    async def call(
        self,
        procedure: str,
        args: Mapping[str, object] | None = None,
        /,
        *,
        timeout: float | None = -1.0,
        idempotency_key: str | None = None,
        trace: str | None = None,
        **more: object,
    ) -> Any:
        """Calls any procedure of the schema by its name: `await conn.call("domain_get_state", dom=domain)`.

        `Domain` objects stand for their references, and `flags` may be left out. An argument that is itself named
        `timeout` goes into the map `args`. The result has the schema's fields as attributes.
        """
        options = CallOptions()
        if timeout != -1.0:
            options["timeout"] = timeout
        if idempotency_key is not None:
            options["idempotency_key"] = idempotency_key
        if trace is not None:
            options["trace"] = trace
        return (await self.called(procedure, {**(args or {}), **more}, options)).result

    async def called(
        self,
        procedure: str,
        args: Mapping[str, object],
        options: CallOptions | None = None,
        *,
        destination: str | None = None,
    ) -> Called:
        """Like `call`, with who answered and where its events stood."""
        return await self._caller.call(procedure, args, options or {}, destination=destination)

    async def outcome_of(self, pending: CallPending | str, **options: Unpack[CallOptions]) -> Outcome:
        """What became of a change whose driver died, once it is back; the text is the id in `CallPending.call`."""
        return await find_outcome(self, pending, options)

    async def open(self, **options: Unpack[CallOptions]) -> None:
        """Lets the driver check the URI; `virtroupe.connect` does so.

        Raises NoConnection when the driver does not serve it.
        """
        try:
            await self.called("connect_open", {"name": self.scope, "flags": int(self.read_only)}, options)
        except (DriverDegraded, DriverStopped):
            pass  # what it last knew can still be asked for

    # Guests

    async def list_domains(
        self, flags: ConnectListAllDomainsFlags | int = 0, **options: Unpack[CallOptions]
    ) -> list[Domain]:
        """The guests that fit the flags, all without."""
        told = await self.called("connect_list_all_domains", {"flags": int(flags)}, options)
        return [Domain(self, ref) for ref in told.result.domains]

    async def list_guests(
        self, flags: ConnectListAllDomainsFlags | int = 0, **options: Unpack[CallOptions]
    ) -> list[Guest]:
        """The guests that fit the flags with what lists tell of them, in a single call.

        While the driver is down for good they are what was last known, their states marked unknown.
        """
        return await list_guests(self, int(flags), options)

    async def domain(self, which: str | int | UUID, **options: Unpack[CallOptions]) -> Domain:
        """The guest of that id, uuid or name; a text is tried as each, in this order.

        Raises NoSuchDomain.
        """
        from client.finding import find_domain

        return await find_domain(self, which, options)

    async def domain_by_name(self, name: str, **options: Unpack[CallOptions]) -> Domain:
        """The guest of that name. Raises NoSuchDomain."""
        return Domain(self, (await self.called("domain_lookup_by_name", {"name": name}, options)).result.dom)

    async def domain_by_uuid(self, uuid: UUID | str, **options: Unpack[CallOptions]) -> Domain:
        """The guest of that uuid. Raises NoSuchDomain."""
        key = (uuid if isinstance(uuid, UUID) else UUID(uuid)).bytes
        return Domain(self, (await self.called("domain_lookup_by_uuid", {"uuid": key}, options)).result.dom)

    async def domain_by_id(self, id: int, **options: Unpack[CallOptions]) -> Domain:
        """The running guest of that id. Raises NoSuchDomain."""
        return Domain(self, (await self.called("domain_lookup_by_id", {"id": id}, options)).result.dom)

    async def define(self, xml: str, flags: DomainDefineFlags | int = 0, **options: Unpack[CallOptions]) -> Domain:
        """Defines a guest, or changes the definition of the one with its uuid; does not start it."""
        told = await self.called("domain_define_xml_flags", {"xml": xml, "flags": int(flags)}, options)
        return Domain(self, told.result.dom)

    async def create(
        self, xml: str, flags: DomainCreateFlags = DomainCreateFlags.NONE, **options: Unpack[CallOptions]
    ) -> Domain:
        """Starts a guest that is gone when it ends."""
        told = await self.called("domain_create_xml", {"xml_desc": xml, "flags": int(flags)}, options)
        return Domain(self, told.result.dom)

    async def restore(
        self,
        path: str | os.PathLike[str],
        *,
        xml: str | None = None,
        flags: DomainSaveRestoreFlags | int = 0,
        **options: Unpack[CallOptions],
    ) -> None:
        """Lets the guest that `Domain.save` wrote to a file on the host go on."""
        source = Path(path).absolute()
        await self.called("domain_restore_flags", {"from": str(source), "dxml": xml, "flags": int(flags)}, options)

    # Networks and storage

    async def list_networks(
        self, flags: ConnectListAllNetworksFlags | int = 0, **options: Unpack[CallOptions]
    ) -> list[Network]:
        """The virtual networks that fit the flags, all without."""
        told = await self.called("connect_list_all_networks", {"flags": int(flags)}, options)
        return [Network(self, ref) for ref in told.result.nets]

    async def network_by_name(self, name: str, **options: Unpack[CallOptions]) -> Network:
        """The virtual network of that name. Raises NoSuchNetwork."""
        return Network(self, (await self.called("network_lookup_by_name", {"name": name}, options)).result.net)

    async def list_storage_pools(
        self, flags: ConnectListAllStoragePoolsFlags | int = 0, **options: Unpack[CallOptions]
    ) -> list[StoragePool]:
        """The storage pools that fit the flags, all without."""
        told = await self.called("connect_list_all_storage_pools", {"flags": int(flags)}, options)
        return [StoragePool(self, ref) for ref in told.result.pools]

    async def storage_pool_by_name(self, name: str, **options: Unpack[CallOptions]) -> StoragePool:
        """The storage pool of that name. Raises NoSuchStoragePool."""
        told = await self.called("storage_pool_lookup_by_name", {"name": name}, options)
        return StoragePool(self, told.result.pool)

    # The host

    async def hypervisor(self, **options: Unpack[CallOptions]) -> str:
        """The hypervisor's name, as the driver calls it."""
        return str((await self.called("connect_get_type", {}, options)).result.type)

    async def version(self, **options: Unpack[CallOptions]) -> Version:
        """The hypervisor's version."""
        return Version.from_number((await self.called("connect_get_version", {}, options)).result.hv_ver)

    async def api_version(self, **options: Unpack[CallOptions]) -> Version:
        """The version of libvirt whose API the driver answers."""
        return Version.from_number((await self.called("connect_get_lib_version", {}, options)).result.lib_ver)

    async def hostname(self, **options: Unpack[CallOptions]) -> str:
        """The host's name."""
        return str((await self.called("connect_get_hostname", {}, options)).result.hostname)

    async def capabilities(self, **options: Unpack[CallOptions]) -> str:
        """What host and driver can do, as XML."""
        return str((await self.called("connect_get_capabilities", {}, options)).result.capabilities)

    async def node_info(self, **options: Unpack[CallOptions]) -> NodeInfo:
        """The host's processors and memory."""
        told = (await self.called("node_get_info", {}, options)).result
        model = bytes(told.model).rstrip(b"\0").decode(errors="replace")
        return NodeInfo(model, told.memory, told.cpus, told.mhz, told.nodes, told.sockets, told.cores, told.threads)

    # What happens

    async def cursor(self) -> Cursor:
        """Where the journal of events ends now."""
        return await self._link.head()

    def events(
        self,
        after: Cursor | str | None = None,
        *,
        kinds: Collection[str] | None = None,
        objects: Collection[Domain | UUID | str | bytes] | None = None,
        everywhere: bool = False,
    ) -> EventStream:
        """What happens to the objects of this connection, from a cursor or from now on: ordered, without a gap.

        `kinds` are event names of the schema, of which `domain_event_` may be left out (`lifecycle`, `reboot`);
        `objects` are guests, or names and uuids of any object. `everywhere` takes in all drivers of the agent.
        The stream goes on across restarts of everything. Where history is lost it yields a `Resync`.
        """
        sources = None if everywhere else self.sources()
        return EventStream(
            self._link,
            self._link.listen,
            lambda: self.snapshot(everywhere=everywhere),
            after=cursor_from(after),
            sources=sources,
            scope=None if everywhere else self.scope,
            kinds=None if kinds is None else {full for kind in kinds for full in kind_names(kind)},
            objects=None if objects is None else {_event_key(item) for item in objects},
        )

    def sources(self) -> list[str]:
        """The actors that answer for the objects of this connection."""
        from settings.drivers import actor_for

        return sorted({actor_for(service, self.scope) for service in _SHARED_SERVICES})

    async def snapshot(self, *, everywhere: bool = False) -> Snapshot:
        """All objects of this connection, or of the agent, as their drivers tell them now.

        Drivers that cannot be asked are named in `unknown`.
        """
        sources = await self._all_sources() if everywhere else self.sources()
        scope = None if everywhere else self.scope
        answers = await asyncio.gather(*(self._snapshot_of(source) for source in sources))
        return Snapshot(
            [
                known
                for source, told in zip(sources, answers, strict=True)
                if told is not None
                for known in known_objects(source, told.result.objects, scope)
            ],
            [source for source, told in zip(sources, answers, strict=True) if told is None],
        )

    async def status(self, **options: Unpack[CallOptions]) -> dict[str, Any]:
        """What the broker knows of its journal, its clients and the actors."""
        told: dict[str, Any] = (await self.called("broker_status", {}, options)).result.status
        return told

    async def _all_sources(self) -> list[str]:
        actors = (await self.status()).get("actors") or {}
        return sorted(name for name in actors if name not in ("gateway", "warden"))

    async def _snapshot_of(self, source: str) -> Called | None:
        try:
            return await self.called("actor_snapshot", {}, destination=source)
        except SILENT:
            return None


def kind_names(kind: str) -> list[str]:
    """The events of the schema that a kind means: one of them, or the short form of one about guests.

    Raises InvalidArguments when there is none.
    """
    names = [prefix + kind for prefix in _KIND_PREFIXES if find_event(prefix + kind) is not None]
    if not names:
        known = ", ".join(event.name.removeprefix("domain_event_") for event in all_events())
        raise InvalidArguments(f"there is no event '{kind}', there are {known}")
    return names


def _event_key(item: Domain | UUID | str | bytes) -> str | bytes:
    if isinstance(item, Domain):
        return item.ref.uuid
    return item.bytes if isinstance(item, UUID) else item
