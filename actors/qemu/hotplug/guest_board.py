"""The board of a real guest: its monitor, the host's resources, and how a change becomes real on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.qemu import records
from actors.qemu.block.chain import take_number
from actors.qemu.claims import claim_device, leases_back, settle_claims
from actors.qemu.guest import Guest
from actors.qemu.helpers.plugging import GuestHelpers
from actors.qemu.host import QemuHost
from actors.qemu.host_options import options_of
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.departures import Removal
from actors.qemu.images import complete_chains
from actors.qemu.lending.guests import find_device, lend_device
from actors.qemu.linking.scripts import run_scripts
from actors.qemu.monitor.link import Command, CommandRefused, MonitorGone
from actors.qemu.needs import ask_ports
from actors.qemu.resources import StartResources
from actors.qemu.rules import QemuRules
from actors.qemu.states import Told
from actors.qemu.traces import CHANNELS
from actors.qemu.transient import plug_overlay
from actors.qemu.tuning.bandwidth import shape_interface
from actors.runtime.intents import Intent
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.documents import write_device, write_domain
from conf.domain.domain import Domain
from conf.domain.interface import Interface
from conf.element import Element
from conf.flags import XmlFlags
from schema.errors import HostSystemError, HypervisorGone, InternalError


class GuestTalk:
    """A guest's monitor as plugging uses it."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """The value of one command. Raises as `Guest.ask` does."""
        return await self._guest.ask(name, arguments)

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Gives QEMU a descriptor under a name. Raises InternalError, HypervisorGone."""
        with _told(self._guest):
            await self._guest.need_monitor().hand_over(name, descriptor)

    async def hand_over_set(self, descriptor: int, opaque: str, number: int | None = None) -> int:
        """Gives QEMU a descriptor that it opens by name. Raises InternalError, HypervisorGone."""
        with _told(self._guest):
            return await self._guest.need_monitor().hand_over_set(descriptor, opaque, number)

    def take_back(self, commands: Sequence[Command]) -> None:
        """Sends commands that may fail; a guest that is gone needs none."""
        monitor = self._guest.monitor
        if monitor is not None and commands:
            monitor.submit(commands)


@contextlib.contextmanager
def _told(guest: Guest) -> Iterator[None]:
    try:
        yield
    except CommandRefused as exc:
        raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc


class GuestDeparture:
    """Waits for a device of a guest to go."""

    def __init__(self, guest: Guest, alias: str, limit_s: float) -> None:
        self._guest, self._alias, self._limit_s = guest, alias, limit_s
        self._future = guest.departures.expect(alias)

    async def wait(self) -> Removal:
        """What came of it; PENDING when the guest takes longer than the limit."""
        done, _ = await asyncio.wait([self._future], timeout=self._limit_s)
        return self._future.result() if done else Removal.PENDING

    def close(self) -> None:
        """Nobody waits any more: what comes later is taken up as it comes."""
        self._guest.departures.forget(self._alias, self._future)


async def rules_of(host: QemuHost, guest: Guest, *, live: bool) -> QemuRules:
    """The rules of the emulator that a guest runs with, or will run with next."""
    if live:
        return host.rules(await host.emulator_for(None, guest.need_run().emulator))
    config = guest.config
    return host.rules(await host.emulator_for(config.os.kind.arch, config.devices.emulator))


def _has_vfio() -> bool:
    groups = Path("/sys/kernel/iommu_groups")
    return groups.is_dir() and any(groups.iterdir())


class Plans:
    """What an intent holds of a change: the devices that are about to be, and what takes back their parts."""

    def __init__(self, host: QemuHost, guest: Guest, intent: Intent | None) -> None:
        self._host, self._guest, self._intent = host, guest, intent
        self.devices: list[str] = []
        self.undo: list[list[Any]] = []

    async def note(self, device: Element, undo: list[Command]) -> None:
        """Adds a device, before QEMU is told of it; the guest has what it needs of the host then."""
        undo = [*undo, *await leases_back(self._host, self._guest, device)]
        self.devices.append(write_device(device, XmlFlags.SECURE))
        self.undo = [[name, dict(arguments or {})] for name, arguments in undo]
        if self._intent is not None:
            await self._intent.note(devices=self.devices, undo=self.undo)
        await lend_device(self._host, self._guest, device)
        await claim_device(self._host, self._guest, device)
        if isinstance(device, Interface):
            await run_scripts([device])
            await shape_interface(device)


@contextlib.asynccontextmanager
async def open_board(host: QemuHost, guest: Guest, intent: Intent | None = None) -> AsyncIterator[Board]:
    """The board of a running guest. What was opened on the host goes again when the block fails."""
    rules = await rules_of(host, guest, live=True)
    resources = StartResources(guest.folder, guest.fd_groups)

    async def read_chain(disk: Disk) -> None:
        probe = Domain.__new__(Domain)
        probe.__dict__.update(guest.live.__dict__)
        probe.devices = type(guest.live.devices)(disks=[disk])
        await host.runtime.in_thread(complete_chains, probe)

    options = options_of(host)

    async def meet(device: Element) -> None:
        resources.take(await ask_ports(device, host.needed, guest.folder, options))
        await find_device(host, device)

    async def make_overlay(disk: Disk) -> None:
        resources.made.append(Path(await plug_overlay(disk, guest.name)))

    board = Board(
        domain=guest.live.copy(),
        rules=rules,
        options=options,
        folder=Path(guest.need_run().folder),
        channels=host.run_folder / CHANNELS,
        talk=GuestTalk(guest),
        resources=resources,
        number=lambda: take_number(guest),
        note=Plans(host, guest, intent).note,
        expect=lambda alias: GuestDeparture(guest, alias, host.config.qemu.unplug_wait_s),
        read_chain=read_chain,
        guest_id=guest.id,
        has_vfio=_has_vfio,
        meet=meet,
        make_overlay=make_overlay,
    )
    helpers = GuestHelpers(host, guest, board.domain, resources.ends)
    board.start_helper, board.end_helpers = helpers.start, helpers.end
    try:
        yield board
    except BaseException:
        resources.undo()
        await asyncio.shield(settle_claims(host, guest))
        raise
    resources.close()


async def commit(
    host: QemuHost,
    guest: Guest,
    *,
    live: Domain | None = None,
    config: Domain | None = None,
    told: Sequence[Told] = (),
    completes: bool = False,
    publishes: bool = True,
    origin: str | None = None,
) -> None:
    """Writes what a guest has become, and tells it. Raises HostSystemError when the disk refuses."""
    record = guest.record
    known = guest.live if live is not None else None
    if live is not None and known is not None:
        catch_up(known, live)
        xml = write_domain(live, XmlFlags.SECURE, id=guest.id)
        record = guest.running(xml=xml, facts=records.facts_of(live))
    if config is not None:
        record = msgspec.structs.replace(record, xml=text_of(config), facts=records.facts_of(config))
    await host.write(guest, record, live=live, config=config, completes=completes)
    if live is not None and known is not None and guest.run is not None and catch_up(known, live):
        host.keep_soon(guest)  # it did something while the disk was written
    if live is not None:
        await settle_claims(host, guest)
    if publishes:
        host.publish(guest, told, origin=origin)


async def commit_surely(
    host: QemuHost, guest: Guest, live: Domain, draft: Domain | None, told: Sequence[Told] = ()
) -> None:
    """The same where the guest has changed already: that the disk refuses is no reason to say that it has not.

    Raises HostSystemError only when the definition for the next start was to change as well.
    """
    try:
        await commit(host, guest, live=live, config=draft, told=told)
    except HostSystemError as exc:
        host.log.warning("a guest's devices could not be written", guest=guest.name, error=exc.message)
        guest.adopt(guest.running(xml=write_domain(live, XmlFlags.SECURE, id=guest.id)), live=live)
        host.publish(guest, told)
        host.keep_soon(guest)
        if draft is not None:
            raise


def text_of(config: Domain | None) -> str:
    """A definition for the next start as intents hold it; empty for none."""
    return "" if config is None else write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)


def catch_up(known: Domain, live: Domain) -> bool:
    """What a guest did by itself while its definition was changed stands in the changed one too; was there any?"""
    before = live.devices.copy()
    states = {one.alias: one.target.state for one in known.devices.channels if one.target is not None}
    for channel in live.devices.channels:
        if channel.target is not None and channel.alias in states:
            channel.target.state = states[channel.alias]
    sizes = {one.alias: one.target.current_kib for one in known.devices.memories}
    for module in live.devices.memories:
        if sizes.get(module.alias) is not None:
            module.target.current_kib = sizes[module.alias]
    return before != live.devices


def added(guest: Guest, device: Element) -> Told:
    """libvirt's event for a device that has come."""
    return "domain_event_device_added", {"dom": guest.ref, "devAlias": _alias(device)}


def removed(guest: Guest, device: Element) -> Told:
    """libvirt's event for a device that has gone."""
    return "domain_event_device_removed", {"dom": guest.ref, "devAlias": _alias(device)}


def _alias(device: Element) -> str:
    return (device.alias if isinstance(device, Device) else None) or ""
