"""The side that a guest comes to: a process is made there that waits for its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.qemu import states
from actors.qemu.definitions import find_or_make, read_definition
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.arrival import give_up_late
from actors.qemu.migration.checks import KNOWN_FLAGS, check_addresses, check_flags_together, check_rdma
from actors.qemu.migration.cookie import check_cookie, nbd_part, nbd_sizes, our_cookie, own_cookie, write_cookie
from actors.qemu.migration.cookie_document import MigrationCookie
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.places import address_for, nbd_place
from actors.qemu.migration.postcopy import (
    check_resumable,
)
from actors.qemu.migration.settings import check_settings, configure
from actors.qemu.migration.storage import make_images, offer_disks
from actors.qemu.migration.tls import check_is_encrypted, tls_of
from actors.qemu.notices import announce
from actors.qemu.records import Move
from actors.qemu.start import Wish, start_guest
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainPausedReason, DomainShutoffReason, DomainState
from schema.errors import DomainStateError, InvalidArguments, NoSuchDomain


async def prepare(
    host: QemuHost,
    xml: str,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
    *,
    is_tunnel: bool = False,
) -> tuple[bytes, str | None]:
    """Makes a process for the guest that waits for its memory; gives our cookie and where to send it.

    Raises InvalidArguments, InternalError for the same host, DomainStateError when the guest is active here,
    DomainExists, and what a start raises; nothing is left of it then.
    """
    if unknown := flags & ~KNOWN_FLAGS:
        raise InvalidArguments(f"unsupported flags (0x{unknown:x}) in function qemuDomainMigratePrepare3Params")
    check_flags_together(flags)
    # where a tunnel ends is our own doing
    check_addresses(params, flags & ~Flags.TUNNELLED if is_tunnel else flags)
    check_settings(params, flags, incoming=True)
    if not is_tunnel:
        check_is_encrypted(host, flags)
    if flags & Flags.POSTCOPY_RESUME:
        return await _listen_again(host, xml, params, cookie_in)
    definition = await read_definition(host, xml, ran=True)
    cookie = check_cookie(cookie_in, definition, host.state_folder)
    origin = definition.name
    if params.dname:
        if "/" in params.dname:
            raise InvalidArguments(f"name {params.dname} cannot contain '/'")
        definition.name = params.dname
    async with (
        host.runtime.mailbox(("name", definition.name)).change(),
        host.runtime.mailbox(("domain", definition.uuid.bytes)).change(),
    ):
        guest = find_or_make(host, definition)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active")
        if flags & Flags.OFFLINE:
            config = cookie.persistent if cookie is not None and cookie.persistent is not None else definition
            host.arrivals[guest.key] = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
            return write_cookie(own_cookie(definition, origin, host.state_folder)), address_for(host, params)[1]
        return await _wait_here(host, guest, definition, params, cookie, flags, origin, is_tunnel)


async def _listen_again(
    host: QemuHost, xml: str, params: MigrationParameters, cookie_in: bytes
) -> tuple[bytes, str | None]:
    """The connection broke while memory followed: the guest here waits for it to be made anew."""
    definition = await read_definition(host, xml)
    check_cookie(cookie_in, definition, host.state_folder)
    guest = host.guests.get(definition.uuid.bytes)
    if guest is None:
        raise NoSuchDomain(f"no domain with matching name '{params.dname or definition.name}'")
    async with host.runtime.mailbox(("domain", guest.key)).change():
        check_resumable(guest, "in")
        listen, uri_out = address_for(host, params)
        await guest.ask("migrate-recover", {"uri": listen})
    return write_cookie(our_cookie(host, guest)), uri_out


async def _wait_here(
    host: QemuHost,
    guest: Guest,
    definition: Domain,
    params: MigrationParameters,
    cookie: MigrationCookie | None,
    flags: int,
    origin: str,
    is_tunnel: bool,
) -> tuple[bytes, str | None]:
    is_new = guest.key not in host.guests
    sizes = _sizes(cookie, flags)
    await make_images(host, definition, sizes)
    listen, uri_out = address_for(host, params)
    caps = await host.emulator_for(definition.os.kind.arch, definition.devices.emulator)
    check_rdma(definition, listen, caps, incoming=True)
    answer = own_cookie(definition, origin, host.state_folder)
    place: dict[str, Any] = {}
    if sizes:
        place = nbd_place(host, params)
        answer.nbd = nbd_part(int(place["data"]["port"]) if place["type"] == "inet" else None, sizes)
    data = write_cookie(answer)
    persists = None
    if flags & Flags.PERSIST_DEST and cookie is not None and cookie.persistent is not None:
        persists = write_domain(cookie.persistent, XmlFlags.INACTIVE | XmlFlags.SECURE)
    move = Move("in", "waiting", flags=flags, name=origin, persists=persists)
    host.add(guest)
    try:
        result = data if is_tunnel else {"cookie_out": data, "uri_out": uri_out}
        wish = Wish(paused=True, incoming=Path("migration"), move=move, result=result)
        await start_guest(host, guest, definition, wish)
        try:
            await configure(host, guest, params, flags, incoming=True)
            if sizes:
                tls = tls_of(params, flags)
                await offer_disks(guest, sizes, place, tls[0] if tls is not None else None)
            await guest.ask("migrate-incoming", {"uri": listen})
        except BaseException:
            guest.destroys, guest.held = True, None
            await end_process(guest, force=True)
            await host.end(guest, DomainShutoffReason.FAILED, completes=False)
            raise
    except BaseException:
        if is_new and host.guests.get(guest.key) is guest and not guest.is_persistent:
            host.forget(guest)
        raise
    guest.adopt(guest.running(state=int(DomainState.PAUSED), reason=int(DomainPausedReason.MIGRATION)))
    announce(host, guest, [states.started(guest, Started.MIGRATED)])
    host.runtime.spawn(give_up_late(host, guest, guest.id), f"arrival of {guest.name}")
    return data, uri_out


def _sizes(cookie: MigrationCookie | None, flags: int) -> dict[str, int]:
    return nbd_sizes(cookie) if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC) else {}
