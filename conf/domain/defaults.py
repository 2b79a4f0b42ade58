"""The common defaults of a domain, in the order in which they build on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from lxml import etree

from conf.domain import defaults_chardev, defaults_controller, defaults_disk, defaults_graphics, defaults_processor
from conf.domain.address import DimmAddress, PciAddress, SourcePciAddress
from conf.domain.chardev import CharDevice, ConsoleTarget
from conf.domain.clock import Clock, ClockOffset
from conf.domain.controller import Controller
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import NO_UUID, Domain, VirtType
from conf.domain.features import Features
from conf.domain.filesystem import Filesystem, MountSource, RamSource
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev, HostdevMode, HostdevType, PciHostSource, ScsiHostSource
from conf.domain.interface import Interface, InterfaceType, Mac
from conf.domain.memory import MemTune
from conf.domain.os import ARCHITECTURES, Boot, BootDevice, LoaderType, OsType
from conf.domain.rules import DomainRules
from conf.domain.seclabel import Seclabel, SeclabelType
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputBus, InputType, RedirFilter
from conf.domain.sound import Audio, AudioSettings, AudioType
from conf.domain.sysinfo import Sysinfo
from conf.domain.video import Video, VideoModel, VideoType
from conf.flags import ParseFlags
from conf.network.parts import VirtualPort, VirtualPortParameters
from conf.nwfilter.reference import tidy_parameters
from conf.values import bytes_per_unit
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, InvalidArguments, RefusedDocument, XmlDetailError, XmlError


def complete(
    domain: Domain, rules: DomainRules, flags: ParseFlags, check_text: Callable[[Domain], None] | None = None
) -> None:
    """Fills in everything that a definition leaves open; `check_text` looks at what the text itself says."""
    for controller in domain.devices.controllers:
        defaults_controller.check_kind(controller)
    _normalize(domain, flags)
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
        _add_video(domain)
    _drop_namespaces(domain, rules)
    for device in list(walk(domain)):
        complete_device(device, domain, rules, flags)
    _complete_memory(domain, flags)
    _complete_boot(domain, rules)
    defaults_controller.add_implicit_controllers(domain)
    _complete_videos(domain)
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
            device.size.value, device.size.unit = kib(device.size.value, device.size.unit or "bytes") >> 10, "M"
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
        _complete_hostdev(device, domain, rules)
    elif isinstance(device, Video):
        _complete_video(device, domain)
    elif isinstance(device, Filesystem):
        _complete_filesystem(device)
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
    for device in domain.devices.all():
        if isinstance(device.address, PciAddress):
            device.address.check()
        elif isinstance(device.address, DimmAddress) and device.address.slot is None:
            raise XmlError("Missing required attribute 'slot' in element 'address'")
    loader = domain.os.loader
    if loader is not None and loader.path is not None and loader.type is None:
        loader.type = LoaderType.ROM
    bootmenu = domain.os.bootmenu
    if bootmenu is not None and not bootmenu.enable:
        bootmenu.timeout_ms = None
    if domain.memtune is not None:
        _normalize_memtune(domain.memtune)
    if domain.features is not None:
        _normalize_features(domain.features)
    if domain.os.kind.type != OsType.EXE:
        # only containers start with a program
        domain.os.init = domain.os.initdir = domain.os.inituser = domain.os.initgroup = None
        domain.os.initargs, domain.os.initenvs = [], []
    if domain.bootloader is not None and domain.os.kind.type not in (None, OsType.HVM, OsType.EXE):
        # the boot loader finds the kernel
        domain.os.kernel = domain.os.initrd = domain.os.cmdline = domain.os.root = None
    balloon = domain.devices.memballoon
    if balloon is not None and balloon.model == "none":
        # nothing that could have a name or a place
        balloon.alias = balloon.address = None
    for info in domain.sysinfos:
        _normalize_sysinfo(info)
    for smartcard in domain.devices.smartcards:
        if smartcard.mode != "host-certificates":
            smartcard.certificates, smartcard.database = [], None
        if smartcard.mode != "passthrough":
            smartcard.type = smartcard.source = smartcard.protocol = None
    for audio in domain.devices.audios:
        _normalize_audio(audio)
    for entry in domain.devices.inputs:
        if entry.type not in (InputType.PASSTHROUGH, InputType.EVDEV):
            entry.source = None
    for hostdev in domain.devices.hostdevs:
        if hostdev.type is not HostdevType.SCSI:
            hostdev.readonly = hostdev.shareable = False
    defaults_controller.add_for_hostdevs(domain)
    for place, console in enumerate(domain.devices.consoles):
        console.target = console.target or ConsoleTarget()
        console.target.port = place
    if domain.devices.redirfilter is not None:
        _normalize_filter(domain.devices.redirfilter)


def check_kind(text: str | None, node: etree._Element | None) -> None:
    """Looks at `<os><type>` before anything else is read.

    Raises XmlError without a type, ConfigUnsupported for an unknown type or architecture.
    """
    if not text or node is None:
        raise XmlError("an os <type> must be specified")
    if text not in _OS_TYPES:
        raise ConfigUnsupported(f"unknown OS type '{text}'")
    arch = node.get("arch")
    if arch is not None and arch not in ARCHITECTURES:
        raise ConfigUnsupported(f"Unknown architecture {arch}")


def _normalize_features(features: Features) -> None:
    """A feature that is named is on."""
    for one in (features.vmcoreinfo, features.hap, features.pvspinlock, features.pmu, features.smm):
        if one is not None and one.state is None:
            one.state = True
    tseg = features.smm.tseg if features.smm is not None else None
    if tseg is not None and tseg.value is not None:
        factor = bytes_per_unit(tseg.unit or "MiB")
        if factor is None:
            raise InvalidArguments(f"unknown suffix '{tseg.unit}'")
        tseg.value, tseg.unit = defaults_processor.pretty(tseg.value * factor)


_OS_TYPES = frozenset(one.value for one in OsType)

UNLIMITED_KIB = (1 << 53) - 1
"""From this on, a limit on memory is none."""


def _normalize_memtune(tune: MemTune) -> None:
    for name in ("hard_limit_kib", "soft_limit_kib", "min_guarantee_kib", "swap_hard_limit_kib"):
        if (getattr(tune, name) or 0) >= UNLIMITED_KIB:
            setattr(tune, name, None)


def _normalize_filter(filter: RedirFilter) -> None:
    for rule in filter.rules:
        for name in ("usb_class", "vendor", "product", "version"):
            if getattr(rule, name) == "-1":
                setattr(rule, name, None)


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
            raise RefusedDocument("missing 'timezone' attribute for clock with offset='timezone'")
        clock.adjustment = clock.basis = None
    else:
        clock.adjustment = clock.basis = None
    if clock.offset is not ClockOffset.TIMEZONE:
        clock.timezone = None
    if clock.offset is not ClockOffset.ABSOLUTE:
        clock.start = None
    elif clock.start is None:
        raise RefusedDocument("missing 'start' attribute for clock with offset='absolute'")


def _adjustment(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise XmlError(f"unknown clock adjustment '{text}'") from None


def _complete_seclabel(label: Seclabel, domain: Domain, rules: DomainRules, flags: ParseFlags) -> Seclabel:
    inactive = bool(flags & ParseFlags.INACTIVE)
    if label.model is None and len(domain.seclabels) == 1:
        label.model = rules.security_model
    if label.model == "none" and inactive:
        # with no security driver there is nothing to label
        label.type, label.relabel = SeclabelType.NONE, None
    if label.type is None:
        return label
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
    else:
        label.relabel = bool(label.relabel)
        label.baselabel = None
        if label.label is None:
            raise XmlError("security label is missing")
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


def new_uuid(rules: DomainRules) -> UUID:
    """A random identity."""
    return UUID(bytes=rules.random_bytes(16), version=4)


def new_mac(rules: DomainRules) -> str:
    """A random address below the driver's prefix."""
    return rules.mac_prefix + "".join(f":{byte:02x}" for byte in rules.random_bytes(3))


def _complete_interface(device: Interface, rules: DomainRules) -> None:
    if device.mac is None or not device.mac.address:
        device.mac = Mac(address=new_mac(rules))
    device.managed = device.managed or None
    if device.type is not InterfaceType.HOSTDEV:
        _normalize_driver(device)
    if device.type not in (InterfaceType.ETHERNET, InterfaceType.NETWORK, InterfaceType.BRIDGE):
        device.filterref = None
    if device.filterref is not None:
        tidy_parameters(device.filterref)
    if device.bandwidth is not None:
        for rate in (device.bandwidth.inbound, device.bandwidth.outbound):
            if rate is not None and rate.average is None and rate.floor is None:
                raise XmlDetailError("Missing mandatory average or floor attributes", domain=ErrorDomain.DOMAIN)
    ends = [device.ips, device.source.ips if device.source is not None else []]
    for ip in (one for ips in ends for one in ips):
        ip.family = ip.family or "ipv4"
    if device.virtualport is not None:
        _complete_port(device.virtualport, rules)
    if device.coalesce is not None and not (device.coalesce.rx and device.coalesce.rx.frames_max):
        device.coalesce = None


def _complete_port(port: VirtualPort, rules: DomainRules) -> None:
    """Switches that know ports by number get one."""
    parameters = port.parameters or VirtualPortParameters()
    if port.type == "802.1Qbg" and parameters.instanceid is None:
        parameters.instanceid = new_uuid(rules)
    elif port.type == "openvswitch" and parameters.interfaceid is None:
        parameters.interfaceid = new_uuid(rules)
    else:
        return
    port.parameters = parameters


_VIRTIO = ("virtio", "virtio-transitional", "virtio-non-transitional")


def _normalize_driver(device: Interface) -> None:
    """Only virtio interfaces have a driver of the host's; one queue is what there is anyway."""
    if device.model not in _VIRTIO:
        device.driver = None
        if device.backend is not None:
            device.backend.vhost = None
    elif device.driver is not None and device.driver.queues in (0, 1):
        device.driver.queues = None


def _complete_filesystem(device: Filesystem) -> None:
    is_foreign = isinstance(device.source, MountSource) and device.source.socket is not None
    if device.accessmode is None and not is_foreign:
        device.accessmode = "passthrough"
    if isinstance(device.source, RamSource) and device.source.usage is not None:
        device.source.usage, device.source.units = kib(device.source.usage, device.source.units or "KiB"), "KiB"


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


def _add_video(domain: Domain) -> None:
    """A display needs a card to show."""
    devices = domain.devices
    if not devices.graphics or devices.videos:
        return
    devices.videos.append(Video(model=VideoModel(type=VideoType.DEFAULT)))


_VIDEO_TYPES = {VirtType.VBOX: VideoType.VBOX, VirtType.VMWARE: VideoType.VMVGA, VirtType.BHYVE: VideoType.GOP}


_SYSINFO = {
    "bios": ("vendor", "version", "date", "release"),
    "system": ("manufacturer", "product", "version", "serial", "uuid", "sku", "family"),
    "baseBoard": ("manufacturer", "product", "version", "serial", "asset", "location"),
    "chassis": ("manufacturer", "version", "serial", "asset", "sku"),
}
"""The strings that each table has, in their order."""


def _normalize_sysinfo(info: Sysinfo) -> None:
    for block in (info.bios, info.system, *info.base_boards, info.chassis):
        if block is not None:
            known = {one.name: one for one in reversed(block.entries)}
            block.entries = [known[name] for name in _SYSINFO[block.tag_name] if name in known]


_AUDIO_PARTS: dict[AudioType, tuple[str, ...]] = {
    AudioType.ALSA: ("dev",),
    AudioType.COREAUDIO: ("buffer_count",),
    AudioType.JACK: ("server_name", "client_name", "connect_ports", "exact_name"),
    AudioType.OSS: ("dev", "buffer_count", "try_poll"),
    AudioType.PULSEAUDIO: ("name", "stream_name", "latency"),
    AudioType.SDL: ("buffer_count",),
}
"""What directions of each backend have beyond the rest."""


def _normalize_audio(audio: Audio) -> None:
    """Keeps what the backend knows."""
    kept = _AUDIO_PARTS.get(audio.type, ())
    for direction in (audio.input, audio.output):
        if direction is None:
            continue
        if direction.fixed_settings:
            direction.settings = direction.settings or AudioSettings()
            if direction.mixing_engine is False:
                raise ConfigUnsupported("fixed audio settings requires mixing engine")
        elif direction.settings is not None:
            raise ConfigUnsupported("audio settings specified without fixed settings flag")
        for names in _AUDIO_PARTS.values():
            for name in names:
                if name not in kept:
                    setattr(direction, name, None)


def _default_video(domain: Domain) -> VideoType:
    """The card of hypervisors that have one kind only."""
    if domain.type in (VirtType.XEN, VirtType.TEST):
        paravirtual = domain.os.kind.type in (OsType.XEN, OsType.XENPVH, OsType.LINUX)
        return VideoType.XEN if paravirtual else VideoType.CIRRUS
    return _VIDEO_TYPES.get(domain.type, VideoType.DEFAULT)


_VIDEO_MEMORY_KIB = {
    VideoType.VGA: 16 * 1024,
    VideoType.CIRRUS: 16 * 1024,
    VideoType.VMVGA: 16 * 1024,
    VideoType.BOCHS: 16 * 1024,
    VideoType.XEN: 4 * 1024,
    VideoType.QXL: 64 * 1024,
    VideoType.GOP: 0,
}


def _power_of_two(amount: int | None) -> int | None:
    """The next power of two, which guests' drivers expect."""
    return 1 << (amount - 1).bit_length() if amount else amount


def _complete_video(device: Video, domain: Domain) -> None:
    model = device.model
    if model.type is VideoType.DEFAULT:
        model.type = _default_video(domain)
    if model.vram_kib is None:
        model.vram_kib = _VIDEO_MEMORY_KIB.get(model.type) or None
    if model.type is VideoType.QXL and model.ram_kib is None:
        model.ram_kib = 64 * 1024
    model.ram_kib, model.vram_kib, model.vgamem_kib = map(
        _power_of_two, (model.ram_kib, model.vram_kib, model.vgamem_kib)
    )
    if device.driver is not None and model.type is not VideoType.GOP:
        device.driver.vgaconf = None
    if model.heads is None and model.type not in (VideoType.NONE, VideoType.RAMFB):
        model.heads = 1


def _complete_videos(domain: Domain) -> None:
    """The first card is the primary one unless another was named."""
    videos = [one for one in domain.devices.videos if one.model.type is not VideoType.NONE]
    for video in videos:
        if video.model.primary:
            domain.devices.videos.remove(video)
            domain.devices.videos.insert(0, video)
            return
    if videos:
        videos[0].model.primary = True
