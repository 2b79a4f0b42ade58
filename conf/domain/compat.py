"""Does a guest see a difference between two definitions? What a running, saved or moving guest may not meet.

The definition that the guest runs with is the source, the other the target; only what the guest's hardware is made of
counts: images, host paths, limits and names of host devices may change. Words and order are libvirt's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conf.domain.address import (
    Address,
    CcidAddress,
    DimmAddress,
    DriveAddress,
    IsaAddress,
    PciAddress,
    VirtioSerialAddress,
)
from conf.domain.compat_machine import check_machine, text_of
from conf.domain.device import Device
from conf.domain.domain import Devices, Domain
from schema.errors import ConfigUnsupported


def check_compatible(source: Domain, target: Domain, *, with_current_memory: bool = True) -> None:
    """Raises ConfigUnsupported for the first difference that the guest would see.

    `with_current_memory` is off where the balloon may have moved since the source was written.
    """
    check_machine(source, target, with_current_memory=with_current_memory)
    for name, noun, check in _LISTS:
        sources, targets = _of(source.devices, name), _of(target.devices, name)
        if len(sources) != len(targets):
            raise ConfigUnsupported(f"Target domain {noun} count {len(targets)} does not match source {len(sources)}")
        for old, new in zip(sources, targets, strict=True):
            check(old, new)


def check_device_compatible(source: Device, target: Device) -> None:
    """Raises ConfigUnsupported if the guest would see one device become the other."""
    for name, _, check in _LISTS:
        declared = next(one for one in Devices.declared if one.name == name)
        if isinstance(source, declared.element_classes()[0]):
            check(source, target)


def _of(devices: Devices, name: str) -> Sequence[Any]:
    found = getattr(devices, name)
    if isinstance(found, list):
        return found
    return () if found is None else (found,)


def _fields(*known: tuple[str, str]) -> Callable[[Any, Any], None]:
    """Compares parts of two devices (`path to the part`, `noun in the message`), then their places."""

    def check(source: Any, target: Any) -> None:
        for path, noun in known:
            old, new = _part(source, path), _part(target, path)
            if old != new:
                raise ConfigUnsupported(f"Target {noun} {text_of(new)} does not match source {text_of(old)}")
        _check_virtio(source, target)
        if isinstance(source, Device) and isinstance(target, Device):
            _check_address(source.address, target.address)

    return check


def _part(element: Any, path: str) -> Any:
    for name in path.split("."):
        element = getattr(element, name, None)
    return element


def _check_virtio(source: Any, target: Any) -> None:
    for name in ("iommu", "ats", "packed", "page_per_vq"):
        old, new = _part(source, f"driver.{name}"), _part(target, f"driver.{name}")
        if old != new:
            raise ConfigUnsupported(
                f"Target device {name} option '{text_of(new)}' does not match source '{text_of(old)}'"
            )


_PLACES: dict[type[Address], tuple[str, Callable[[Any], str]]] = {
    PciAddress: ("PCI", str),
    DriveAddress: ("drive", lambda one: f"{one.controller}:{one.bus}:{one.unit}"),
    VirtioSerialAddress: ("virtio serial", lambda one: f"{one.controller}:{one.bus}:{one.port}"),
    CcidAddress: ("ccid", lambda one: f"{one.controller}:{one.slot}"),
    IsaAddress: ("isa", lambda one: f"{one.iobase or 0}:{one.irq or 0}"),
}


def _check_address(source: Address | None, target: Address | None) -> None:
    if type(source) is not type(target):
        raise ConfigUnsupported(
            f"Target device address type {_kind_of(target)} does not match source {_kind_of(source)}"
        )
    if source is None or target is None:
        return
    if isinstance(source, DimmAddress) and isinstance(target, DimmAddress):
        if source.slot != target.slot:
            raise ConfigUnsupported(
                f"Target device dimm slot {text_of(target.slot)} does not match source {text_of(source.slot)}"
            )
        if source.base != target.base:
            raise ConfigUnsupported(
                f"Target device dimm base address '{target.base or 0:x}' does not match source '{source.base or 0:x}'"
            )
        return
    noun, place = _PLACES.get(type(source), ("", str))
    if noun and place(source) != place(target):
        raise ConfigUnsupported(f"Target device {noun} address {place(target)} does not match source {place(source)}")


def _kind_of(address: Address | None) -> str:
    return "none" if address is None else address.fixed["type"]


def _check_disk(source: Any, target: Any) -> None:
    if source.readonly != target.readonly or source.shareable != target.shareable:
        raise ConfigUnsupported("Target disk access mode does not match source")
    _disk(source, target)


_disk = _fields(
    ("device", "disk device"),
    ("target.bus", "disk bus"),
    ("target.dev", "disk"),
    ("serial", "disk serial"),
    ("wwn", "disk wwn"),
    ("model", "disk model"),
)


def _check_filesystem(source: Any, target: Any) -> None:
    if source.target_dir != target.target_dir:
        raise ConfigUnsupported(
            f"Target filesystem guest target {text_of(target.target_dir)} does not match source "
            f"{text_of(source.target_dir)}"
        )
    if source.readonly != target.readonly:
        raise ConfigUnsupported("Target filesystem access mode does not match source")
    _fields(("model", "filesystem model"))(source, target)


_LISTS: tuple[tuple[str, str, Callable[[Any, Any], None]], ...] = (
    ("disks", "disk", _check_disk),
    (
        "controllers",
        "controller",
        _fields(
            ("type", "controller type"),
            ("index", "controller index"),
            ("model", "controller model"),
            ("ports", "controller ports"),
            ("vectors", "controller vectors"),
        ),
    ),
    ("filesystems", "filesystem", _check_filesystem),
    (
        "interfaces",
        "net card",
        _fields(("mac.address", "network card mac"), ("model", "network card model"), ("mtu", "network card MTU")),
    ),
    (
        "inputs",
        "input device",
        _fields(("type", "input device type"), ("bus", "input device bus"), ("model", "input model")),
    ),
    ("sounds", "sound card", _fields(("model", "sound card model"))),
    (
        "videos",
        "video card",
        _fields(
            ("model.type", "video card model"),
            ("model.ram_kib", "video card ram"),
            ("model.vram_kib", "video card vram"),
            ("model.vgamem_kib", "video card vgamem"),
            ("model.heads", "video card heads"),
            ("model.acceleration.accel2d", "video card 2d accel"),
            ("model.acceleration.accel3d", "video card 3d accel"),
        ),
    ),
    ("hostdevs", "host device", _fields(("mode", "host device mode"), ("type", "host device subsystem"))),
    ("smartcards", "smartcard", _fields()),
    ("serials", "serial port", _fields(("target.type", "serial type"), ("target.port", "serial port"))),
    ("parallels", "parallel port", _fields(("target.port", "parallel port"))),
    ("channels", "channel", _fields(("target.type", "channel type"), ("target.name", "channel name"))),
    ("consoles", "console", _fields(("target.type", "console type"))),
    ("hubs", "hub device", _fields(("type", "hub device type"))),
    ("redirdevs", "redirected devices", _fields(("bus", "redirected device bus"))),
    ("watchdog", "watchdog", _fields(("model", "watchdog model"))),
    (
        "memballoon",
        "memory balloon",
        _fields(("model", "balloon model"), ("autodeflate", "balloon autodeflate attribute value")),
    ),
    ("rngs", "RNG device", _fields(("model", "RNG model"))),
    ("nvram", "NVRAM device", _fields()),
    ("panics", "panic device", _fields(("model", "panic model"))),
    (
        "shmems",
        "shared memory device",
        _fields(("name", "shared memory name"), ("model", "shared memory model"), ("size.value", "shared memory size")),
    ),
    ("tpms", "TPM device", _fields(("model", "TPM device model"), ("backend.version", "TPM version"))),
    (
        "memories",
        "memory device",
        _fields(
            ("model", "memory device model"),
            ("target.node", "memory device targetNode"),
            ("target.size_kib", "memory device size"),
        ),
    ),
    ("iommu", "IOMMU device", _fields(("model", "domain IOMMU device model"))),
    ("vsock", "vsock device", _fields(("model", "vsock device model"))),
)
"""The devices in libvirt's order: where they are, what a number of them is called, and how two are compared."""
