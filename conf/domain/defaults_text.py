"""What reading a domain's text settles before any rule looks at it."""

from __future__ import annotations

from lxml import etree

from conf.domain import (
    defaults_controller,
    defaults_disk,
    defaults_numa,
    defaults_processor,
    defaults_resctrl,
    device_text,
)
from conf.domain.address import DimmAddress, PciAddress
from conf.domain.chardev import ConsoleTarget
from conf.domain.clock import Catchup, Clock, ClockOffset
from conf.domain.domain import Domain
from conf.domain.features import ContainerCapabilities, Features
from conf.domain.hostdev import HostdevType
from conf.domain.memory import MemTune
from conf.domain.os import ARCHITECTURES, Firmware, FirmwareFeature, LoaderType, OsType
from conf.domain.resources import BlkioTune
from conf.domain.sysinfo import Sysinfo
from conf.flags import ParseFlags
from conf.values import bytes_per_unit, parse_int
from schema.enums.error import ErrorDomain
from schema.errors import (
    ConfigUnsupported,
    InvalidArguments,
    NumericOverflow,
    RefusedDocument,
    XmlDetailError,
    XmlError,
)


def normalize(domain: Domain, flags: ParseFlags) -> None:
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
    del domain.os.boots[_BOOT_DEVICES:]
    if domain.os.firmware_features is not None:
        _normalize_firmware(domain.os.firmware_features)
    bootmenu = domain.os.bootmenu
    if bootmenu is not None and not bootmenu.enable:
        bootmenu.timeout_ms = None
    if domain.memtune is not None:
        _normalize_memtune(domain.memtune)
    if domain.blkiotune is not None:
        _normalize_blkio(domain.blkiotune)
    if domain.features is not None:
        _normalize_features(domain.features)
    if domain.os.kind.type == OsType.EXE and domain.os.init is None:
        raise XmlError("init binary must be specified")
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
    for one in (*domain.devices.all(), *domain.devices.audios, *domain.devices.leases):
        device_text.normalize(one)
    for hostdev in domain.devices.hostdevs:
        if hostdev.type is not HostdevType.SCSI:
            hostdev.readonly = hostdev.shareable = False
    defaults_controller.add_for_hostdevs(domain)
    for place, console in enumerate(domain.devices.consoles):
        console.target = console.target or ConsoleTarget()
        console.target.port = place
    if domain.devices.redirfilter is not None:
        domain.devices.redirfilter = device_text.normalize_filter(domain.devices.redirfilter)


def check_kind(text: str | None, node: etree._Element | None) -> None:
    """Looks at `<os><type>` before anything else is read.

    Raises XmlError without a type, ConfigUnsupported for an unknown type or architecture.
    """
    if not text or node is None:
        raise XmlError("an os <type> must be specified")
    if text not in _OS_TYPES:
        raise ConfigUnsupported(f"unknown OS type '{text}'")
    arch = node.get("arch")
    if arch and arch not in ARCHITECTURES:
        raise ConfigUnsupported(f"Unknown architecture {arch}")


def _normalize_features(features: Features) -> None:
    """A feature that is named is on."""
    for one in (features.vmcoreinfo, features.hap, features.pvspinlock, features.pmu, features.smm):
        if one is not None and one.state is None:
            one.state = True
    ring = features.kvm.dirty_ring if features.kvm is not None else None
    if ring is not None and not ring.state:
        ring.size = None
    hyperv = features.hyperv
    if hyperv is not None:
        # what is off has no settings
        if hyperv.spinlocks is not None and not hyperv.spinlocks.state:
            hyperv.spinlocks.retries = None
        if hyperv.vendor_id is not None and not hyperv.vendor_id.state:
            hyperv.vendor_id.value = None
        if hyperv.stimer is not None and not (hyperv.stimer.state and hyperv.stimer.direct):
            hyperv.stimer.direct = None
    passthrough = features.xen.passthrough if features.xen is not None else None
    if passthrough is not None and not passthrough.state:
        passthrough.mode = None
    if features.smm is not None and not features.smm.state:
        features.smm.tseg = None
    if features.tcg is not None and not features.tcg.tb_cache_kib:
        features.tcg = None
    if features.capabilities is not None:
        features.capabilities.policy = features.capabilities.policy or "default"
        if features.capabilities == ContainerCapabilities(policy="default"):
            features.capabilities = None
    if features.hpt is not None and features.hpt.resizing is None and not features.hpt.maxpagesize_kib:
        features.hpt = None
    tseg = features.smm.tseg if features.smm is not None else None
    if features.smm is not None and tseg is not None and tseg.value is None:
        features.smm.tseg = None
    elif tseg is not None and tseg.value is not None:
        factor = bytes_per_unit(tseg.unit or "MiB")
        if factor is None:
            raise InvalidArguments(f"unknown suffix '{tseg.unit}'")
        if tseg.value * factor >= 1 << 64:
            raise NumericOverflow(f"value too large: {tseg.value}{tseg.unit or ''}")
        tseg.value, tseg.unit = defaults_resctrl.pretty(tseg.value * factor)


_BOOT_DEVICES = 4
"""As many tries of the firmware as there are kinds of devices; more are passed over."""


def _normalize_firmware(firmware: Firmware) -> None:
    """What is said last of a feature holds; enrolled keys are of no use without secure boot."""
    wanted = {one.name: one.enabled for one in firmware.features}
    if wanted.get("enrolled-keys"):
        wanted.setdefault("secure-boot", True)
    firmware.features = [FirmwareFeature(name=name, enabled=wanted[name]) for name in sorted(wanted)]


_OS_TYPES = frozenset(one.value for one in OsType)

UNLIMITED_KIB = (1 << 53) - 1
"""From this on, a limit on memory is none."""


def _normalize_memtune(tune: MemTune) -> None:
    for name in ("hard_limit_kib", "soft_limit_kib", "min_guarantee_kib", "swap_hard_limit_kib"):
        if (getattr(tune, name) or 0) >= UNLIMITED_KIB:
            setattr(tune, name, None)
    tune.min_guarantee_kib = tune.min_guarantee_kib or None


def _normalize_memory_backing(domain: Domain) -> None:
    backing = domain.memory_backing
    if backing is None:
        return
    if backing.allocation is not None and not backing.allocation.threads:
        backing.allocation.threads = None
        if backing.allocation.mode is None:
            backing.allocation = None
    numa = domain.cpu.numa if domain.cpu is not None else None
    for page in backing.hugepages.pages if backing.hugepages is not None else ():
        if not page.size:
            raise XmlDetailError("hugepage size can't be zero", domain=ErrorDomain.DOMAIN)
        page.size, page.unit = defaults_numa.kib(page.size, page.unit), "KiB"
        if page.nodeset is not None:
            page.nodeset = defaults_processor.processors(page.nodeset, "nodeset")
        if (numa is None or not numa.cells) and page.nodeset == "0":
            # the guest as a whole
            page.nodeset = None


def _normalize_blkio(tune: BlkioTune) -> None:
    """Nothing is a share or limit of 0; a device with none of them is not kept."""
    tune.weight = tune.weight or None
    for device in tune.devices:
        for name, amount in list(vars(device).items()):
            if amount == 0:
                setattr(device, name, None)
    tune.devices = [
        one
        for one in tune.devices
        if one.path is None or any(amount is not None for name, amount in vars(one).items() if name != "path")
    ]


def kib(amount: int, unit: str | None) -> int:
    """The amount in KiB, rounded up; without a unit it is in KiB already."""
    factor = bytes_per_unit(unit) if unit else 1024
    if factor is None:
        raise InvalidArguments(f"unknown suffix '{unit}'")
    return -(-amount * factor // 1024)


def _normalize_clock(clock: Clock) -> None:
    _tidy_timers(clock)
    if clock.offset in (ClockOffset.UTC, ClockOffset.LOCALTIME):
        if clock.adjustment is not None and clock.adjustment != "reset":
            number = _number(clock.adjustment)
            if number is None:
                raise XmlError(f"unknown clock adjustment '{clock.adjustment}'")
            clock.basis = str(clock.offset.value)
            clock.offset = ClockOffset.VARIABLE
            clock.adjustment = str(number)
        else:
            clock.basis = None
    elif clock.offset is ClockOffset.VARIABLE:
        clock.adjustment = str(_number(clock.adjustment or "0") or 0)
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


def _tidy_timers(clock: Clock) -> None:
    """A zero says nothing."""
    for timer in clock.timers:
        timer.frequency = timer.frequency or None
        if timer.catchup is not None:
            catchup = timer.catchup
            catchup.threshold = catchup.threshold or None
            catchup.slew = catchup.slew or None
            catchup.limit = catchup.limit or None
            if catchup == Catchup():
                timer.catchup = None


def _number(text: str) -> int | None:
    try:
        return parse_int(text)
    except ValueError:
        return None


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
            block.entries = [known[name] for name in _SYSINFO[block.tag_name] if name in known and known[name].value]
    # only the host's own has these
    info.processors, info.memory_devices = [], []
    if info.type == "smbios":
        info.entries = []
        return
    info.bios = info.system = info.chassis = info.oem_strings = None
    info.base_boards = []
    for entry in info.entries:
        if entry.file is not None:
            entry.value = None
