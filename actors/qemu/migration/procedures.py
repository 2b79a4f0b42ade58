"""libvirt's calls of a migration: version 3 of its protocol, with parameters and in its older form."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from actors.qemu.host import QemuHost
from actors.qemu.migration import arrival, departure, destination, journey, offer
from actors.qemu.migration.leaving import keep
from actors.qemu.migration.parameters import MigrationParameters, read_migration_parameters
from actors.qemu.migration.tunnel import pour
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.runtime.streams import Streamed
from broker.stream import Stream
from schema.enums.domain_state import DomainShutoffReason
from schema.errors import InternalError
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()


@calls.handles()
async def domain_migrate_begin3_params(
    host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int
) -> dict[str, Any]:
    """Where the guest is: whether it can go. Raises as `offer.begin` does, NoSuchDomain."""
    cookie, xml = await offer.begin(host, host.guest(dom), read_migration_parameters(params), flags)
    return {"cookie_out": cookie, "xml": xml}


@calls.handles()
async def domain_migrate_prepare3_params(
    host: QemuHost, params: list[TypedParam], cookie_in: bytes, flags: int
) -> dict[str, Any]:
    """Where it goes: a process waits for it. Raises as `destination.prepare` does."""
    wanted = read_migration_parameters(params)
    if wanted.dest_xml is None:
        raise InternalError("no domain XML passed")
    cookie, uri = await destination.prepare(host, wanted.dest_xml, wanted, cookie_in, flags)
    return {"cookie_out": cookie, "uri_out": uri}


@calls.handles()
async def domain_migrate_prepare_tunnel3_params(
    host: QemuHost, params: list[TypedParam], cookie_in: bytes, flags: int
) -> Streamed:
    """The same where memory comes through this connection. Raises as `destination.prepare` does."""
    wanted = read_migration_parameters(params)
    if wanted.dest_xml is None:
        raise InternalError("no domain XML passed")
    return await _prepare_tunnel(host, wanted.dest_xml, wanted, cookie_in, flags)


async def _prepare_tunnel(
    host: QemuHost, xml: str, params: MigrationParameters, cookie_in: bytes, flags: int
) -> Streamed:
    host.run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = host.run_folder / f"tunnel-{secrets.token_hex(4)}"
    params.uri = f"unix://{path}"
    cookie, _ = await destination.prepare(host, xml, params, cookie_in, flags, is_tunnel=True)

    async def serve(stream: Stream) -> None:
        await pour(stream, path)

    return Streamed(serve, cookie)


@calls.handles()
async def domain_migrate_perform3_params(
    host: QemuHost, dom: DomainRef, dconnuri: str | None, params: list[TypedParam], cookie_in: bytes, flags: int
) -> bytes:
    """Where the guest is: it is sent. Raises as `journey.perform` does, NoSuchDomain."""
    return await _perform(host, dom, dconnuri, read_migration_parameters(params), cookie_in, flags)


@calls.handles()
async def domain_migrate_finish3_params(
    host: QemuHost, params: list[TypedParam], cookie_in: bytes, flags: int, cancelled: int
) -> dict[str, Any]:
    """Where it went: it goes on, or is given up. Raises as `arrival.finish` does."""
    wanted = read_migration_parameters(params)
    if not wanted.dname:
        raise InternalError("no domain name passed")
    dom, cookie = await arrival.finish(host, wanted.dname, wanted, cookie_in, flags, cancelled=bool(cancelled))
    return {"dom": dom, "cookie_out": cookie}


@calls.handles()
async def domain_migrate_confirm3_params(
    host: QemuHost, dom: DomainRef, params: list[TypedParam], cookie_in: bytes, flags: int, cancelled: int
) -> None:
    """Where it was: it ends, or goes on. Raises as `departure.confirm` does, NoSuchDomain."""
    known = host.guests.get(dom.uuid)
    if current_call().is_resend and (known is None or known.leaving is None):
        # the process before this one may have been at it: then it is carried on in the guest's lane
        async with host.runtime.mailbox(("domain", dom.uuid)).change():
            if host.intents.check_verdict():
                return
    guest = host.guest(dom)
    leaving = await keep(host, guest)
    leaving.work = asyncio.current_task()
    try:
        await departure.confirm(host, guest, flags, cancelled=bool(cancelled), cookie_in=cookie_in)
    finally:
        leaving.work = None
        leaving.release()


async def _perform(
    host: QemuHost,
    dom: DomainRef,
    dconnuri: str | None,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
) -> bytes:
    call = current_call()
    known = host.guests.get(dom.uuid)
    if call.is_resend and (known is None or known.leaving is None):
        # the process before this one may have been at its end: then that is carried on in the guest's lane
        async with host.runtime.mailbox(("domain", dom.uuid)).change():
            if host.intents.check_verdict():
                return b""
        if known is not None and not known.is_active and known.record.off_reason == DomainShutoffReason.MIGRATED:
            return b""
    return await journey.perform(host, host.guest(dom), dconnuri, params, cookie_in, flags, is_resend=call.is_resend)


# --- the older form --------------------------------------------------------------------------------------------------


@calls.handles()
async def domain_migrate_begin3(
    host: QemuHost, dom: DomainRef, xmlin: str | None, flags: int, dname: str | None, resource: int
) -> dict[str, Any]:
    """As `domain_migrate_begin3_params`."""
    params = MigrationParameters(dname=dname, dest_xml=xmlin, bandwidth=resource or None)
    cookie, xml = await offer.begin(host, host.guest(dom), params, flags)
    return {"cookie_out": cookie, "xml": xml}


@calls.handles()
async def domain_migrate_prepare3(
    host: QemuHost,
    cookie_in: bytes,
    uri_in: str | None,
    flags: int,
    dname: str | None,
    resource: int,
    dom_xml: str,
) -> dict[str, Any]:
    """As `domain_migrate_prepare3_params`."""
    params = MigrationParameters(dname=dname, uri=uri_in, bandwidth=resource or None)
    cookie, uri = await destination.prepare(host, dom_xml, params, cookie_in, flags)
    return {"cookie_out": cookie, "uri_out": uri}


@calls.handles()
async def domain_migrate_prepare_tunnel3(
    host: QemuHost, cookie_in: bytes, flags: int, dname: str | None, resource: int, dom_xml: str
) -> Streamed:
    """As `domain_migrate_prepare_tunnel3_params`."""
    return await _prepare_tunnel(host, dom_xml, MigrationParameters(dname=dname), cookie_in, flags)


@calls.handles()
async def domain_migrate_perform3(
    host: QemuHost,
    dom: DomainRef,
    xmlin: str | None,
    cookie_in: bytes,
    dconnuri: str | None,
    uri: str | None,
    flags: int,
    dname: str | None,
    resource: int,
) -> bytes:
    """As `domain_migrate_perform3_params`."""
    params = MigrationParameters(dname=dname, dest_xml=xmlin, uri=uri, bandwidth=resource or None)
    return await _perform(host, dom, dconnuri, params, cookie_in, flags)


@calls.handles()
async def domain_migrate_finish3(
    host: QemuHost,
    dname: str,
    cookie_in: bytes,
    dconnuri: str | None,
    uri: str | None,
    flags: int,
    cancelled: int,
) -> dict[str, Any]:
    """As `domain_migrate_finish3_params`."""
    params = MigrationParameters(dname=dname, uri=uri)
    dom, cookie = await arrival.finish(host, dname, params, cookie_in, flags, cancelled=bool(cancelled))
    return {"dom": dom, "cookie_out": cookie}


@calls.handles()
async def domain_migrate_confirm3(host: QemuHost, dom: DomainRef, cookie_in: bytes, flags: int, cancelled: int) -> None:
    """As `domain_migrate_confirm3_params`."""
    await domain_migrate_confirm3_params(host, dom, [], cookie_in, flags, cancelled)
