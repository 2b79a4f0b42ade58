"""The file systems inside guests: what there is, frozen for a while, trimmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.qemu.agent.asking import ask_agent
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.domain.address import PciAddress
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from schema.errors import ArgumentUnsupported
from schema.objects import DomainFsinfo, DomainRef

calls: Calls[QemuHost] = Calls()

_LONGEST_SERIAL = 20


@calls.handles()
async def domain_fsfreeze(host: QemuHost, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
    """Freezes file systems, all of them when none is named; tells how many.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError.
    """
    check_flags(flags, 0, "qemuDomainFSFreeze")
    guest = host.guest(dom)
    if mountpoints:
        return int(await ask_agent(host, guest, "guest-fsfreeze-freeze-list", {"mountpoints": mountpoints}))
    return int(await ask_agent(host, guest, "guest-fsfreeze-freeze"))


@calls.handles()
async def domain_fsthaw(host: QemuHost, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
    """Thaws all file systems; tells how many. Raises as `domain_fsfreeze` does."""
    check_flags(flags, 0, "qemuDomainFSThaw")
    guest = host.guest(dom)
    if mountpoints:
        raise ArgumentUnsupported("specifying mountpoints is not supported")
    return int(await ask_agent(host, guest, "guest-fsfreeze-thaw"))


@calls.handles()
async def domain_fstrim(
    host: QemuHost,
    dom: DomainRef,
    mountPoint: str | None,  # noqa: N803  (the wire's own name)
    minimum: int,
    flags: int,
) -> None:
    """Gives unused blocks back to the host. Raises as `domain_fsfreeze` does."""
    check_flags(flags, 0, "qemuDomainFSTrim")
    guest = host.guest(dom)
    if mountPoint:
        raise ArgumentUnsupported("Specifying mount point is not supported for now")
    await ask_agent(host, guest, "guest-fstrim", {"minimum": minimum})


@calls.handles()
async def domain_get_fsinfo(host: QemuHost, dom: DomainRef, flags: int) -> dict[str, Any]:
    """The file systems that are mounted in a guest, and the disks they are on. Raises as `domain_fsfreeze` does."""
    check_flags(flags, 0, "qemuDomainGetFSInfo")
    guest = host.guest(dom)
    told = await ask_agent(host, guest, "guest-get-fsinfo")
    found = []
    for one in told:
        devices = [disk for part in one.get("disk") or () if (disk := find_guest_disk(guest.live, part)) is not None]
        targets = list(dict.fromkeys(disk.target.dev for disk in devices))
        found.append(DomainFsinfo(str(one["mountpoint"]), str(one["name"]), str(one["type"]), targets))
    # the agent tells the last mounted first
    found.sort(key=lambda one: one.mountpoint)
    return {"info": found, "ret": len(found)}


def find_guest_disk(live: Domain, part: Mapping[str, Any]) -> Disk | None:
    """The disk that an agent means: by its serial number, else by its place on the guest's buses."""
    serial = str(part.get("serial") or "")
    if serial:
        for disk in live.devices.disks:
            if disk.serial and serial.endswith(disk.serial[:_LONGEST_SERIAL]):
                return disk
    place = part.get("pci-controller") or {}
    if not place:
        return None
    wanted = tuple(int(place.get(name, -1)) for name in ("domain", "bus", "slot", "function"))
    for disk in live.devices.disks:
        address = disk.address
        if isinstance(address, PciAddress) and _numbers(address) == wanted:
            return disk
    return _behind_controller(live, part, wanted)


def _numbers(address: PciAddress) -> tuple[int, ...]:
    return (address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0)


def _behind_controller(live: Domain, part: Mapping[str, Any], wanted: tuple[int, ...]) -> Disk | None:
    for controller in live.devices.controllers:
        address = controller.address
        if not isinstance(address, PciAddress) or _numbers(address) != wanted:
            continue
        for disk in live.devices.disks:
            own = disk.address
            if getattr(own, "controller", None) != controller.index or disk.target.bus != controller.type.value:
                continue
            bus, target, unit = (getattr(own, name, None) or 0 for name in ("bus", "target", "unit"))
            if (bus, target, unit) == tuple(int(part.get(name, 0)) for name in ("bus", "target", "unit")):
                return disk
    return None
