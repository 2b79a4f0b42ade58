"""Telling when a guest has written beyond a place in one of its images."""

from __future__ import annotations

from typing import Any

from actors.qemu.block.chain import disk_of_index, find_image, images_of, path_of
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.errors import InvalidArguments, VirtError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()


@calls.handles(key="dom")
async def domain_set_block_threshold(host: QemuHost, dom: DomainRef, dev: str, threshold: int, flags: int) -> None:
    """Asks to be told when an image (`vda`, or `vda[2]` further down) is written beyond a place; once.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for an image that is not there.
    """
    check_flags(flags, 0, "qemuDomainSetBlockThreshold")
    guest = host.guest(dom)
    guest.need_run()
    target, bracket, _ = dev.partition("[")
    disk = next((one for one in guest.live.devices.disks if one.target.dev == target), None)
    images = [] if disk is None else images_of(disk)
    if disk is None or not images:
        raise InvalidArguments(f"failed to find disk '{dev}'")
    try:
        place = find_image(images, target, dev) if bracket else 0
    except InvalidArguments as exc:
        raise InvalidArguments(f"failed to find disk '{dev}'") from exc
    node = images[place].storage_node
    await guest.ask("block-set-write-threshold", {"node-name": node, "write-threshold": threshold})


def on_threshold(host: QemuHost, guest: Guest, data: dict[str, Any]) -> None:
    """QEMU tells that a guest has come so far."""
    number = str(data.get("node-name", "")).removeprefix("libvirt-").partition("-")[0]
    found = disk_of_index(guest.live, int(number)) if number.isdigit() else None
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    if found is None:
        return
    disk, image = found
    facts = {
        "dom": guest.ref,
        "path": path_of(image.source),
        "threshold": int(data.get("write-threshold", 0)),
        "excess": int(data.get("amount-exceeded", 0)),
    }
    names = [f"{disk.target.dev}[{image.index}]"]
    if disk.source is image.source:
        names.insert(0, disk.target.dev)
    for name in names:
        host.emit("domain_event_block_threshold", {**facts, "dev": name}, object=entry, origin="guest")
