"""Devices come to guests, go from them and change: in the running one, in the definition for the next start, or both.

Both is all or nothing: what the definition becomes is settled first, then the guest is changed, then one writing makes
both known.
"""

from __future__ import annotations

import asyncio
from typing import Final

from actors.qemu.block.jobs import check_no_job
from actors.qemu.flags import AFFECT, check_flags, impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.hotplug import attach, config, detach, update
from actors.qemu.hotplug.departures import Removal
from actors.qemu.hotplug.guest_board import added, commit, commit_surely, open_board, removed, rules_of, text_of
from actors.qemu.hotplug.lists import by_alias, remove
from actors.runtime.calls import Calls
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.documents import parse_device
from conf.domain.domain import Domain
from conf.domain.small_devices import Lease
from conf.flags import ParseFlags
from schema.enums.domain import DomainDeviceModifyFlags as ModifyFlags
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import HostSystemError, InternalError, NoSuchDomain
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_UPDATE: Final = int(AFFECT | ModifyFlags.FORCE)


@calls.handles(key="dom")
async def domain_attach_device_flags(host: QemuHost, dom: DomainRef, xml: str, flags: int) -> None:
    """Gives a guest a device.

    Raises NoSuchDomain, XmlError, DomainStateError when it has it already or is off, OperationUnsupported for kinds
    that cannot be plugged in, ConfigUnsupported, HostSystemError, InternalError when QEMU refuses.
    """
    check_flags(flags, AFFECT, "qemuDomainAttachDeviceLiveAndConfig")
    guest = host.guest(dom)
    which = impact(guest, flags)
    draft = None
    if which & Impact.CONFIG:
        rules = await rules_of(host, guest, live=False)
        draft = guest.config.copy()
        only = ParseFlags.NONE if which & Impact.LIVE else ParseFlags.INACTIVE
        config.attach(draft, parse_device(xml, draft, rules, ParseFlags.ABI_UPDATE | only), rules)
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "config": text_of(draft)}
    async with host.intents.change("attach", facts) as intent:
        async with open_board(host, guest, intent) as board:
            wanted = parse_device(xml, board.domain, board.rules, ParseFlags.ABI_UPDATE)
            await board.meet(wanted)
            try:
                device = await attach.attach(board, wanted)
            except BaseException:
                # controllers that came for a disk that did not come stay
                await asyncio.shield(_keep_parts(host, guest, board.domain))
                raise
        await commit_surely(host, guest, board.domain, draft, [added(guest, device)])
    host.log.info("a device was plugged in", guest=guest.name, device=device.tag_name)


@calls.handles(key="dom")
async def domain_detach_device_flags(host: QemuHost, dom: DomainRef, xml: str, flags: int) -> None:
    """Takes a device from a guest; one that the guest does not let go within a while goes when it does.

    Raises NoSuchDomain, XmlError, DeviceMissing, OperationUnsupported, OperationFailed when the guest refuses.
    """
    check_flags(flags, AFFECT, "qemuDomainDetachDeviceLiveAndConfig")
    guest = host.guest(dom)
    which = impact(guest, flags)
    draft = None
    if which & Impact.CONFIG:
        rules = await rules_of(host, guest, live=False)
        draft = guest.config.copy()
        wanted = parse_device(xml, draft, rules, _MATCHING | ParseFlags.INACTIVE)
        config.detach(draft, wanted, rules)
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    wanted = parse_device(xml, guest.live, await rules_of(host, guest, live=True), _MATCHING)
    if isinstance(wanted, Lease):
        live = guest.live.copy()
        remove(live, config.choose(live, wanted))
        await commit(host, guest, live=live, config=draft, completes=True)
        return
    device = detach.choose(guest.live, wanted)
    await _detach(host, guest, device, draft)


_MATCHING: Final = ParseFlags.SKIP_VALIDATE
"""A document that only says which device is meant need not be a whole one."""


@calls.handles(key="dom")
async def domain_detach_device_alias(host: QemuHost, dom: DomainRef, alias: str, flags: int) -> None:
    """Asks a guest to let the device of that alias go; it goes when the guest does so, which an event tells.

    Raises NoSuchDomain, InternalError when there is no such device, OperationUnsupported.
    """
    check_flags(flags, AFFECT, "qemuDomainDetachDeviceAliasLiveAndConfig")
    guest = host.guest(dom)
    which = impact(guest, flags)
    draft = None
    if which & Impact.CONFIG:
        if which & Impact.LIVE:
            _check_named_once(guest, alias)
        rules = await rules_of(host, guest, live=False)
        draft = guest.config.copy()
        config.drop(draft, _named(draft, alias), rules)
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    device = _named(guest.live, alias)
    detach.check_removable(guest.live, device)
    await _detach(host, guest, device, draft, waits=False)


def _check_named_once(guest: Guest, alias: str) -> None:
    if not alias.startswith("ua-"):
        raise InternalError(f"no device found with alias {alias}")


def _named(domain: Domain, alias: str) -> Device:
    device = by_alias(domain, alias)
    if device is None:
        error = InternalError(f"no device found with alias {alias}")
        error.expected = True
        raise error
    found: Device = device
    return found


async def _detach(host: QemuHost, guest: Guest, device: Device, draft: Domain | None, *, waits: bool = True) -> None:
    if isinstance(device, Disk):
        check_no_job(guest, device)
    facts = {"uuid": guest.record.uuid, "alias": device.alias, "config": text_of(draft)}
    async with host.intents.change("detach", facts):
        async with open_board(host, guest) as board:
            outcome = await detach.detach(board, by_alias(board.domain, device.alias or ""), waits=waits)
        if outcome is Removal.GONE:
            await commit_surely(host, guest, board.domain, draft, [removed(guest, device)])
            host.log.info("a device was taken out", guest=guest.name, alias=device.alias)
        elif draft is not None:
            await commit(host, guest, config=draft)


@calls.handles(key="dom")
async def domain_update_device_flags(host: QemuHost, dom: DomainRef, xml: str, flags: int) -> None:
    """Changes a device of a guest: media, links, passwords; of the next start's definition, more.

    Raises NoSuchDomain, XmlError, DeviceMissing, OperationUnsupported for what cannot be changed, ConfigUnsupported,
    OperationTimeout when the guest keeps a drive locked, InternalError when QEMU refuses.
    """
    check_flags(flags, _UPDATE, "qemuDomainUpdateDeviceFlags")
    guest = host.guest(dom)
    which = impact(guest, flags & AFFECT)
    draft = None
    if which & Impact.CONFIG:
        rules = await rules_of(host, guest, live=False)
        draft = guest.config.copy()
        only = ParseFlags.NONE if which & Impact.LIVE else ParseFlags.INACTIVE
        config.change(draft, parse_device(xml, draft, rules, only), rules)
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "config": text_of(draft)}
    async with host.intents.change("update", facts) as intent:
        async with open_board(host, guest, intent) as board:
            wanted = parse_device(xml, board.domain, board.rules, ParseFlags.NONE)
            if isinstance(wanted, Disk):
                _check_idle(guest, wanted)
            await board.meet(wanted)
            try:
                await update.update(board, wanted, force=bool(flags & ModifyFlags.FORCE))
            except BaseException:
                # a drive whose old medium is out has none, although the new one did not get in
                await asyncio.shield(_keep_parts(host, guest, board.domain))
                raise
        await commit_surely(host, guest, board.domain, draft)


def _check_idle(guest: Guest, wanted: Disk) -> None:
    for disk in guest.live.devices.disks:
        if disk.target.dev == wanted.target.dev:
            check_no_job(guest, disk)


async def _keep_parts(host: QemuHost, guest: Guest, live: Domain) -> None:
    if guest.run is None or live == guest.live:
        return
    try:
        await commit(host, guest, live=live)
    except (HostSystemError, NoSuchDomain) as exc:
        host.log.warning("a guest's devices could not be written", guest=guest.name, error=exc.message)
