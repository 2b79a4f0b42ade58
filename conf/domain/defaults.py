"""The common defaults of a domain, in the order in which they build on each other."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from conf.domain import defaults_chardev, defaults_controller, defaults_disk, defaults_graphics, defaults_processor
from conf.domain.chardev import CharDevice
from conf.domain.clock import Clock, ClockOffset
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev, HostdevMode
from conf.domain.interface import Interface, InterfaceType, Mac
from conf.domain.os import Boot, BootDevice, OsType
from conf.domain.rules import DomainRules
from conf.domain.seclabel import Seclabel, SeclabelType
from conf.domain.small_devices import Input, InputBus, InputType
from conf.domain.sound import Audio
from conf.domain.video import Video, VideoType
from conf.flags import ParseFlags
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, InvalidArguments, XmlError


def complete(domain: Domain, rules: DomainRules, flags: ParseFlags) -> None:
    """Fills in everything that a definition leaves open."""
    _normalize(domain, flags)
    rules.basic(domain, flags)
    if domain.os.kind.arch is None:
        domain.os.kind.arch = rules.default_arch
    defaults_controller.number_controllers(domain)
    rules.domain(domain, flags)
    for device in list(walk(domain)):
        complete_device(device, domain, rules, flags)
    _complete_memory(domain)
    _complete_boot(domain, rules)
    defaults_controller.add_implicit_controllers(domain)
    defaults_chardev.complete_consoles(domain)
    _complete_videos(domain)
    rules.assign_addresses(domain, flags)


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
    rules.device(device, domain, flags)
    if isinstance(device, Disk):
        defaults_disk.complete(device, domain, rules)
    elif isinstance(device, Interface):
        _complete_interface(device, rules)
    elif isinstance(device, CharDevice):
        defaults_chardev.complete(device, domain)
    elif isinstance(device, Input):
        _complete_input(device, domain)
    elif isinstance(device, Hostdev):
        _complete_hostdev(device)
    elif isinstance(device, Video):
        _complete_video(device)
    else:
        defaults_chardev.complete_source(device)


def _normalize(domain: Domain, flags: ParseFlags) -> None:
    """What reading a text settles before any rule looks at it."""
    _normalize_memory_backing(domain)
    defaults_processor.normalize(domain)
    _normalize_clock(domain.clock)
    if domain.features is not None and domain.features.hyperv is not None:
        domain.features.hyperv.mode = domain.features.hyperv.mode or "custom"
    defaults_disk.sort_disks(domain)
    defaults_controller.sort_controllers(domain)
    domain.seclabels = [one for one in (_normalize_seclabel(one, flags) for one in domain.seclabels) if one]


def _normalize_memory_backing(domain: Domain) -> None:
    backing = domain.memory_backing
    if backing is None or backing.hugepages is None:
        return
    for page in backing.hugepages.pages:
        page.size = kib(page.size, page.unit)
        page.unit = "KiB"


def kib(amount: int, unit: str | None) -> int:
    """The amount in KiB, rounded up; without a unit it is in KiB already."""
    factor = bytes_per_unit(unit) if unit else 1024
    if factor is None:
        raise InvalidArguments(f"unknown suffix '{unit}'")
    return -(-amount * factor // 1024)


def _normalize_clock(clock: Clock) -> None:
    if clock.offset in (ClockOffset.UTC, ClockOffset.LOCALTIME):
        if clock.adjustment is not None and clock.adjustment != "reset":
            number = _adjustment(clock.adjustment)
            clock.basis = str(clock.offset.value)
            clock.offset = ClockOffset.VARIABLE
            clock.adjustment = str(number)
        else:
            clock.basis = None
    elif clock.offset is ClockOffset.VARIABLE:
        clock.adjustment = str(_adjustment(clock.adjustment or "0"))
        clock.basis = clock.basis or "utc"
    elif clock.offset is ClockOffset.TIMEZONE:
        if clock.timezone is None:
            raise XmlError("missing 'timezone' attribute for clock with offset='timezone'")
        clock.adjustment = clock.basis = None
    else:
        clock.adjustment = clock.basis = None
    if clock.offset is not ClockOffset.TIMEZONE:
        clock.timezone = None
    if clock.offset is not ClockOffset.ABSOLUTE:
        clock.start = None
    elif clock.start is None:
        raise XmlError("missing 'start' attribute for clock with offset='absolute'")


def _adjustment(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise XmlError(f"unknown clock adjustment '{text}'") from None


def _normalize_seclabel(label: Seclabel, flags: ParseFlags) -> Seclabel | None:
    inactive = bool(flags & ParseFlags.INACTIVE)
    if label.type is None:
        label.type = SeclabelType.DYNAMIC
    if label.type is SeclabelType.NONE:
        label.label = label.imagelabel = label.baselabel = None
        if label.relabel:
            raise ConfigUnsupported("resource relabeling is not compatible with 'none' label type")
        label.relabel = None
        return label
    if label.type is SeclabelType.DYNAMIC:
        if label.relabel is False:
            raise ConfigUnsupported("dynamic label type must use resource relabeling")
        label.relabel = True
        if inactive:
            label.label = label.imagelabel = None
            if label.model is None and label.baselabel is None:
                return None
    else:
        label.relabel = bool(label.relabel)
        label.baselabel = None
        if label.label is None:
            raise XmlError("security label is missing")
        if inactive:
            label.imagelabel = None
    return label


def _complete_memory(domain: Domain) -> None:
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if cells:
        plugged = sum(one.target.size_kib for one in domain.devices.memories)
        domain.memory.kib = sum(cell.memory for cell in cells) + plugged
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


def new_mac(prefix: str) -> str:
    """A random address below a vendor's prefix."""
    return prefix + "".join(f":{byte:02x}" for byte in secrets.token_bytes(3))


def _complete_interface(device: Interface, rules: DomainRules) -> None:
    if device.mac is None:
        device.mac = Mac(address=new_mac(rules.mac_prefix))
    if device.type is InterfaceType.HOSTDEV:
        device.managed = bool(device.managed)


def _complete_input(device: Input, domain: Domain) -> None:
    if device.bus is None:
        if device.type is InputType.EVDEV:
            device.bus = InputBus.NONE
        elif device.type is InputType.PASSTHROUGH:
            device.bus = InputBus.VIRTIO
        elif domain.os.kind.type in (OsType.XEN, OsType.XENPVH):
            device.bus = InputBus.XEN
        elif device.type is not InputType.TABLET and domain.os.kind.arch in ("i686", "x86_64"):
            device.bus = InputBus.PS2
        else:
            device.bus = InputBus.USB


def _complete_hostdev(device: Hostdev) -> None:
    if device.mode is HostdevMode.SUBSYSTEM:
        device.managed = bool(device.managed)


_VIDEO_MEMORY_KIB = {
    VideoType.VGA: 16 * 1024,
    VideoType.CIRRUS: 16 * 1024,
    VideoType.VMVGA: 16 * 1024,
    VideoType.BOCHS: 16 * 1024,
    VideoType.XEN: 4 * 1024,
    VideoType.QXL: 64 * 1024,
    VideoType.GOP: 0,
}


def _complete_video(device: Video) -> None:
    model = device.model
    if model.vram_kib is None:
        model.vram_kib = _VIDEO_MEMORY_KIB.get(model.type) or None
    if model.type is VideoType.QXL and model.ram_kib is None:
        model.ram_kib = 64 * 1024
    if model.heads is None and model.type not in (VideoType.NONE, VideoType.RAMFB):
        model.heads = 1


def _complete_videos(domain: Domain) -> None:
    """The first card is the primary one unless another was named."""
    videos = domain.devices.videos
    for place, video in enumerate(videos):
        if video.model.primary:
            videos.insert(0, videos.pop(place))
            return
    if videos:
        videos[0].model.primary = True
