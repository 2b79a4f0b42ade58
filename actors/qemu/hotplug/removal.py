"""Devices that guests let go, or refuse to, when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.hotplug import detach
from actors.qemu.hotplug.departures import Removal
from actors.qemu.hotplug.guest_board import commit, open_board, removed
from actors.qemu.hotplug.lists import by_alias
from conf.domain.device import Device
from schema.errors import VirtError

_VCPU = "vcpu"


def on_deleted(host: QemuHost, guest: Guest, data: Mapping[str, Any]) -> None:
    """QEMU has dropped a device: whoever waits for that goes on, else its parts are taken out now."""
    alias = data.get("device") or _processor(str(data.get("path", "")))
    if not isinstance(alias, str) or not alias or guest.departures.tell(alias, Removal.GONE):
        return
    host.runtime.spawn(_finish(host, guest, alias), f"device {alias} of {guest.name} is gone")


def _processor(path: str) -> str | None:
    """The processor whose part has gone: of one that is emulated QEMU tells no more than that."""
    alias = path.removeprefix("/machine/peripheral/").partition("/")[0]
    return alias if alias != path and alias.startswith(_VCPU) else None


def on_refused(host: QemuHost, guest: Guest, data: Mapping[str, Any]) -> None:
    """The guest keeps a device that it was asked to let go."""
    alias = data.get("device")
    if not isinstance(alias, str) or not alias:
        return
    guest.departures.tell(alias, Removal.REFUSED)
    _tell_failure(host, guest, alias)


def on_acpi(host: QemuHost, guest: Guest, data: Mapping[str, Any]) -> None:
    """What the guest's firmware interface says of a memory module: it may say that it will not let it go."""
    info = data.get("info") or {}
    alias, source, status = info.get("device"), info.get("source"), info.get("status")
    # requests to eject are 3 and 0x103; 0 is success, 0x84 "in progress"
    if info.get("slot-type") != "DIMM" or source not in (3, 0x103) or status in (0, 0x84) or not isinstance(alias, str):
        return
    guest.departures.tell(alias, Removal.REFUSED)
    _tell_failure(host, guest, alias)


def _tell_failure(host: QemuHost, guest: Guest, alias: str) -> None:
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    data = {"dom": guest.ref, "devAlias": alias}
    host.emit("domain_event_device_removal_failed", data, object=entry, origin="guest")


async def _finish(host: QemuHost, guest: Guest, alias: str) -> None:
    async with host.runtime.mailbox(("domain", guest.key)).change("device removal"):
        try:
            await finish(host, guest, alias)
        except VirtError as exc:
            host.log.warning("what stood behind a device could not be taken out", guest=guest.name, error=exc.message)


async def finish(host: QemuHost, guest: Guest, alias: str) -> None:
    """The device of that alias is gone from QEMU: its parts go, and the guest's definition. Raises VirtError."""
    if guest.run is None or host.guests.get(guest.key) is not guest:
        return
    if alias.startswith(_VCPU):
        from actors.qemu.hotplug.vcpus import refresh

        await refresh(host, guest)
        return
    device = by_alias(guest.live, alias)
    if not isinstance(device, Device):
        return
    async with open_board(host, guest) as board:
        await detach.clean_up(board, by_alias(board.domain, alias))
    await commit(host, guest, live=board.domain, told=[removed(guest, device)], origin="guest")
    host.log.info("a guest has let a device go", guest=guest.name, alias=alias)
