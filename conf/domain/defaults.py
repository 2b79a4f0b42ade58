"""The common defaults of a domain, in the order in which they build on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conf.domain import (
    defaults_chardev,
    defaults_controller,
    defaults_disk,
    defaults_graphics,
    defaults_interface,
    defaults_text,
    defaults_video,
)
from conf.domain.address import SourcePciAddress
from conf.domain.chardev import CharDevice
from conf.domain.controller import Controller
from conf.domain.defaults_text import kib
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import NO_UUID, Domain
from conf.domain.filesystem import Filesystem, MountSource, RamSource
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev, HostdevMode, HostdevType, PciHostSource, ScsiHostSource
from conf.domain.identities import new_uuid
from conf.domain.interface import Interface
from conf.domain.os import Boot, BootDevice, OsType
from conf.domain.rules import DomainRules
from conf.domain.seclabel import Seclabel, SeclabelType
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputBus, InputType
from conf.domain.sound import Audio
from conf.domain.video import Video
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, XmlError


def complete(
    domain: Domain, rules: DomainRules, flags: ParseFlags, check_text: Callable[[Domain], None] | None = None
) -> None:
    """Fills in everything that a definition leaves open; `check_text` looks at what the text itself says."""
    for controller in domain.devices.controllers:
        defaults_controller.check_kind(controller)
    defaults_text.normalize(domain, flags)
    if check_text is not None:
        check_text(domain)
    domain.seclabels = [_complete_seclabel(one, domain, rules, flags) for one in domain.seclabels]
    if domain.genid == NO_UUID:
        domain.genid = new_uuid(rules)
    rules.basic(domain, flags)
    if domain.os.kind.arch is None:
        domain.os.kind.arch = rules.default_arch
    defaults_controller.number_controllers(domain)
    rules.domain(domain, flags)
    defaults_chardev.complete_consoles(domain)
    if rules.adds_video:
        defaults_video.add_video(domain)
    _drop_namespaces(domain, rules)
    for device in list(walk(domain)):
        complete_device(device, domain, rules, flags)
    _complete_memory(domain, flags)
    _complete_boot(domain, rules)
    defaults_controller.add_implicit_controllers(domain)
    defaults_video.complete_videos(domain)
    rules.assign_addresses(domain, flags)


_NAMESPACES = {
    "qemu": ("qemu_commandline", "qemu_capabilities", "qemu_deprecation", "qemu_override"),
    "lxc": ("lxc_namespace",),
    "vmware": ("datacenterpath",),
    "bhyve": ("bhyve_commandline",),
    "xen": ("xen_commandline",),
}


def _drop_namespaces(domain: Domain, rules: DomainRules) -> None:
    """What only another hypervisor understands is not kept."""
    for prefix, names in _NAMESPACES.items():
        if prefix not in rules.namespaces:
            for name in names:
                setattr(domain, name, None)


def walk(domain: Domain) -> Iterator[Device | Graphics | Audio]:
    """The devices in the order in which defaults and addresses are given to them."""
    devices = domain.devices
    yield from devices.disks
    yield from devices.interfaces
    yield from devices.sounds
    yield from devices.hostdevs
    yield from devices.videos
    yield from devices.controllers
    yield from devices.smartcards
    yield from devices.serials
    yield from devices.parallels
    yield from devices.channels
    yield from devices.consoles
    yield from devices.inputs
    yield from devices.filesystems
    if devices.watchdog is not None:
        yield devices.watchdog
    if devices.memballoon is not None:
        yield devices.memballoon
    yield from devices.rngs
    if devices.nvram is not None:
        yield devices.nvram
    yield from devices.hubs
    yield from devices.shmems
    yield from devices.tpms
    yield from devices.panics
    yield from devices.memories
    if devices.iommu is not None:
        yield devices.iommu
    if devices.vsock is not None:
        yield devices.vsock
    yield from devices.cryptos
    yield from devices.redirdevs
    yield from devices.graphics
    yield from devices.audios


def complete_device(device: Device | Graphics | Audio, domain: Domain, rules: DomainRules, flags: ParseFlags) -> None:
    """Fills in everything that the definition of one device leaves open."""
    if isinstance(device, Graphics):
        defaults_graphics.normalize(device, flags)
    elif isinstance(device, Disk):
        defaults_disk.normalize(device)
    elif isinstance(device, Controller):
        defaults_controller.check_kind(device)
    elif isinstance(device, Shmem):
        device.model = device.model or "ivshmem"
        if device.size is not None:
            device.size.value, device.size.unit = (
                kib(device.size.value, device.size.unit or "bytes") >> 10,
                "M",
            )
    rules.device(device, domain, flags)
    if isinstance(device, Disk):
        defaults_disk.complete(device, domain, rules)
    elif isinstance(device, Interface):
        defaults_interface.complete(device, rules, flags)
    elif isinstance(device, CharDevice):
        defaults_chardev.complete(device, domain)
    elif isinstance(device, Input):
        _complete_input(device, domain)
    elif isinstance(device, Hostdev):
        _complete_hostdev(device, domain, rules)
    elif isinstance(device, Video):
        defaults_video.complete(device, domain)
    elif isinstance(device, Filesystem):
        _complete_filesystem(device)
    else:
        defaults_chardev.complete_source(device)


def _complete_seclabel(label: Seclabel, domain: Domain, rules: DomainRules, flags: ParseFlags) -> Seclabel:
    inactive = bool(flags & ParseFlags.INACTIVE)
    if label.type is SeclabelType.NONE and label.relabel:
        raise ConfigUnsupported("resource relabeling is not compatible with 'none' label type")
    if label.type is SeclabelType.DYNAMIC and label.relabel is False:
        raise ConfigUnsupported("dynamic label type must use resource relabeling")
    if label.type is SeclabelType.STATIC and label.label is None:
        raise XmlError("security label is missing")
    if label.model is None and len(domain.seclabels) == 1:
        optional = label.type is SeclabelType.NONE or (label.type is SeclabelType.DYNAMIC and label.baselabel is None)
        if not optional and rules.security_model is not None:
            raise XmlError("missing security model in domain seclabel")
        label.model = rules.security_model
    if label.model == "none" and inactive:
        # with no security driver there is nothing to label
        label.type, label.relabel = SeclabelType.NONE, None
    if label.type is None:
        return label
    if label.type is SeclabelType.NONE:
        label.label = label.imagelabel = label.baselabel = None
        label.relabel = None
        return label
    if label.type is SeclabelType.DYNAMIC:
        label.relabel = True
        if inactive:
            label.label = label.imagelabel = None
    else:
        label.relabel = bool(label.relabel)
        label.baselabel = None
        if inactive:
            label.imagelabel = None
    return label


def _complete_memory(domain: Domain, flags: ParseFlags) -> None:
    """The nodes tell how much memory there is when nothing else does, or when the definition is a new one."""
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    plugged = sum(one.target.size_kib for one in domain.devices.memories)
    if cells and (flags & ParseFlags.ABI_UPDATE or not domain.memory.kib):
        domain.memory.kib = sum(cell.memory for cell in cells) + plugged
    elif plugged > domain.memory.kib:
        raise XmlError("Total size of memory devices exceeds the total memory size")
    if not domain.memory.kib:
        raise XmlError("Memory size must be specified via <memory> or in the <numa> configuration")
    current = domain.current_memory_kib
    if not current or current > domain.memory.kib:
        domain.current_memory_kib = domain.memory.kib


def _complete_boot(domain: Domain, rules: DomainRules) -> None:
    if domain.os.kind.type != OsType.HVM or not rules.has_boot_order or domain.os.boots:
        return
    if domain.bootloader is None and all(device.boot is None for device in domain.devices.all()):
        domain.os.boots.append(Boot(dev=BootDevice.DISK))


def _complete_filesystem(device: Filesystem) -> None:
    is_foreign = isinstance(device.source, MountSource) and device.source.socket is not None
    if device.accessmode is None and not is_foreign:
        device.accessmode = "passthrough"
    if isinstance(device.source, RamSource) and device.source.usage is not None:
        device.source.usage, device.source.units = (
            kib(device.source.usage, device.source.units or "KiB"),
            "KiB",
        )


def _complete_input(device: Input, domain: Domain) -> None:
    if device.bus is None:
        if device.type is InputType.EVDEV:
            return
        if device.type is InputType.PASSTHROUGH:
            device.bus = InputBus.VIRTIO
        elif domain.os.kind.type in (OsType.XEN, OsType.XENPVH):
            device.bus = InputBus.XEN
        elif device.type is not InputType.TABLET and domain.os.kind.arch in ("i686", "x86_64"):
            device.bus = InputBus.PS2
        else:
            device.bus = InputBus.USB


def _complete_hostdev(device: Hostdev, domain: Domain, rules: DomainRules) -> None:
    if device.mode is not HostdevMode.SUBSYSTEM:
        return
    device.managed = bool(device.managed)
    if isinstance(device.source, PciHostSource) and device.source.address is None:
        device.source.address = SourcePciAddress()
    if device.type is HostdevType.SCSI:
        source = device.source
        if isinstance(source, ScsiHostSource) and source.protocol == "iscsi" and "/" not in (source.name or "/"):
            source.name = f"{source.name}/0"
        if device.address is None:
            device.address = defaults_disk.free_scsi_address(domain, rules)
