"""All guests at a glance: one answer of the driver instead of one question per guest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from client.calling import CallOptions
from client.domain import state_of
from client.errors import DriverDegraded, DriverStopped, NoSuchDomain, UnsupportedCall
from client.event import KnownObject
from client.facts import DomainStateInfo, state_from_numbers
from client.snapshot import known_objects
from schema.objects import DomainRef
from schema.summaries import DomainSummary, domain_selection

if TYPE_CHECKING:
    from client.connection import Connection

AT_ONCE: Final = 256
"""Questions about single guests that are on their way at the same time."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What lists tell of a guest; what is not known is None."""

    name: str
    uuid: UUID
    id: int | None
    state: DomainStateInfo
    persistent: bool | None = None
    autostart: bool | None = None
    managed_save: bool | None = None
    max_memory_kib: int | None = None
    memory_kib: int | None = None
    vcpus: int | None = None
    title: str | None = None
    os_type: str | None = None


async def list_guests(conn: Connection, flags: int, options: CallOptions) -> list[Guest]:
    """The guests that `connect_list_all_domains` would list with these flags, running ones first."""
    try:
        told = await conn.called("actor_snapshot", {}, options)
    except (DriverDegraded, DriverStopped, UnsupportedCall):
        guests = await _one_by_one(conn, flags, options)
    else:
        wanted = domain_selection(flags)
        guests = [
            _guest(known)
            for known in known_objects(told.source, told.result.objects, conn.scope)
            if known.type == "domain" and wanted(cast("DomainSummary", known.summary))
        ]
    return sorted(guests, key=lambda guest: (guest.id is None, guest.id or 0, guest.name))


def _guest(known: KnownObject) -> Guest:
    summary: Mapping[str, Any] = known.summary
    return Guest(
        name=known.name,
        uuid=UUID(bytes=known.key),
        id=None if summary["id"] == -1 else summary["id"],
        state=state_from_numbers(summary["state"], summary["reason"]),
        persistent=summary["persistent"],
        autostart=summary["autostart"],
        managed_save=summary["managed_save"],
        max_memory_kib=summary["max_mem"],
        memory_kib=summary["mem"],
        vcpus=summary["vcpus"],
        title=summary["title"],
        os_type=summary["os_type"],
    )


async def _one_by_one(conn: Connection, flags: int, options: CallOptions) -> list[Guest]:
    # what a replica answers while the driver is down for good
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(ref: DomainRef) -> Guest | None:
        async with turn:
            try:
                state = state_of(await conn.called("domain_get_state", {"dom": ref}, options))
            except NoSuchDomain:
                return None
        return Guest(ref.name, UUID(bytes=ref.uuid), None if ref.id == -1 else ref.id, state)

    listed = await conn.called("connect_list_all_domains", {"flags": flags}, options)
    asked = [asyncio.ensure_future(ask(ref)) for ref in listed.result.domains]
    try:
        # no TaskGroup: the caller is to meet the error itself, not a group of it
        return [guest for guest in await asyncio.gather(*asked) if guest is not None]
    finally:
        for task in asked:
            task.cancel()
