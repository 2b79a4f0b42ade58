"""When guests get devices of the host, and when the host has them back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.lending.ledger import User
from actors.qemu.lending.usb import find_usb_device, find_usb_devices, usb_devices
from actors.qemu.lending.wanted import wanted_of_device, wanted_of_guest
from actors.qemu.memory_lock import apply_lock_limit
from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev, UsbHostSource
from conf.domain.interface import HostdevSource, Interface
from conf.element import Element
from schema.errors import HostSystemError

_PATIENCE_S: Final = 5.0


async def find_devices(host: QemuHost, live: Domain, *, cold: bool) -> None:
    """Says of each USB device of a definition where it is. Raises InternalError, OperationFailed."""
    if live.devices.hostdevs:
        await host.runtime.in_thread(lambda: find_usb_devices(live, cold=cold))


async def find_device(host: QemuHost, device: Element) -> None:
    """The same for a device that a guest gets while it runs. Raises InternalError, OperationFailed."""
    if isinstance(device, Hostdev) and isinstance(device.source, UsbHostSource):
        find_usb_device(device, await host.runtime.in_thread(usb_devices), cold=True)


async def lend_for_start(host: QemuHost, guest: Guest, live: Domain, holder: str, undo: AsyncExitStack) -> None:
    """Gives a guest that starts the devices of its definition; they go back when the start fails.

    Raises as `Lending.lend` does.
    """
    wanted = wanted_of_guest(live)
    if wanted:
        undo.push_async_callback(host.lending.keep, holder)
        await host.lending.lend(User(holder, guest.name), wanted)


async def lend_device(host: QemuHost, guest: Guest, device: Element) -> None:
    """Gives a running guest what a device needs, before QEMU is told of it; `keep_devices` takes it back.

    Raises as `Lending.lend` does.
    """
    wanted = list(wanted_of_device(device))
    if not wanted:
        return
    await host.lending.lend(_user(guest), wanted)
    # what the device reaches directly must stay in memory
    known = guest.live.copy()
    if isinstance(device, Hostdev):
        known.devices.hostdevs.append(device)
    elif isinstance(device, Interface) and isinstance(device.source, HostdevSource):
        known.devices.interfaces.append(device)
    apply_lock_limit(guest.need_run().pid, known)


async def keep_devices(host: QemuHost, guest: Guest) -> None:
    """What a running guest's definition does not name any more is the host's again. Never fails."""
    run = guest.run
    if run is not None and host.lending.ledger.loans:
        user = _user(guest)
        if host.lending.ledger.held_by(user.holder):
            await host.lending.keep(user.holder, {one.key for one in wanted_of_guest(guest.live)})


async def give_devices_back(host: QemuHost, holder: str) -> None:
    """A guest has ended. Never fails; a device that does not let go in time is waited for beside."""
    if host.lending.ledger.held_by(holder):
        work = host.runtime.spawn(host.lending.keep(holder), "devices that go back to the host")
        await asyncio.wait([work], timeout=_PATIENCE_S)


async def take_up_devices(host: QemuHost) -> None:
    """A new driver: devices of guests that ended meanwhile go back. What hangs delays the start little."""
    try:
        host.lending.ledger.read()
    except HostSystemError as exc:
        host.log.error("it is not known which devices of the host are lent", error=exc.message)
        return
    if host.lending.ledger.loans:
        holders = {_user(guest).holder for guest in host.guests.values() if guest.run is not None}
        work = host.runtime.spawn(host.lending.take_up(holders), "devices of the host")
        await asyncio.wait([work], timeout=_PATIENCE_S)


def know_devices(host: QemuHost, guest: Guest) -> None:
    """A guest that runs has devices that libvirtd has given it. Never fails."""
    host.lending.know(_user(guest), wanted_of_guest(guest.live))


def _user(guest: Guest) -> User:
    # the same name as files and leases know a run by
    return User(f"{guest.record.uuid}/{guest.need_run().id}", guest.name)
