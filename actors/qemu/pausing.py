"""Stopping a guest's processors while something of it is kept, and letting them go again."""

from __future__ import annotations

from actors.qemu import states
from actors.qemu.claims import ensure_leases
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainState


async def pause(host: QemuHost, guest: Guest, reason: DomainPausedReason, detail: Suspended = Suspended.PAUSED) -> None:
    """The guest stands still, and subscribers hear of it. Raises as `Guest.ask` does."""
    guest.expected.add("STOP")
    try:
        await guest.ask("stop")
    finally:
        guest.expected.discard("STOP")
    take_pause(host, guest, reason, detail)


def take_pause(host: QemuHost, guest: Guest, reason: DomainPausedReason, detail: Suspended = Suspended.PAUSED) -> None:
    """The guest stands still already."""
    if guest.state is DomainState.RUNNING:
        host.change_state(guest, DomainState.PAUSED, reason, [states.suspended(guest, detail)])


async def go_on(host: QemuHost, guest: Guest, reason: DomainRunningReason = DomainRunningReason.UNPAUSED) -> None:
    """The guest goes on, and subscribers hear of it. Raises as `Guest.ask` does, ResourceBusy."""
    await ensure_leases(host, guest)
    guest.expected.add("RESUME")
    try:
        await guest.ask("cont")
    finally:
        guest.expected.discard("RESUME")
    if guest.run is not None and guest.state is not DomainState.RUNNING:
        host.change_state(guest, DomainState.RUNNING, reason, [states.resumed(guest)])
