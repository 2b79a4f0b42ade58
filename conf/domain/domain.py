"""The root of a guest's definition: `<domain>`."""

from collections.abc import Iterator
from enum import StrEnum
from uuid import UUID

from conf.cpu.cpu import GuestCpu
from conf.domain.chardev import Channel, Console, ConsoleTarget, Parallel, PtySource, Serial
from conf.domain.chardev_users import RedirDev, Rng, Smartcard, Tpm
from conf.domain.clock import Clock, LifecycleAction, LockFailureAction
from conf.domain.controller import Controller
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.features import Features
from conf.domain.filesystem import Filesystem
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface
from conf.domain.memory import MaxMemory, MemoryBacking, MemorySize, MemTune
from conf.domain.memory_device import MemoryDevice
from conf.domain.namespaces import (
    BhyveCommandLine,
    DataCenterPath,
    LxcNamespace,
    QemuCapabilitiesOverride,
    QemuCommandLine,
    QemuDeprecation,
    QemuOverride,
    XenCommandLine,
)
from conf.domain.numatune import NumaTune
from conf.domain.os import Os
from conf.domain.resources import BlkioTune, IdMap, KeyWrap, LaunchSecurity, Perf, PowerManagement, Resource
from conf.domain.seclabel import Seclabel, shown_seclabels
from conf.domain.shmem import Shmem
from conf.domain.small_devices import (
    Crypto,
    Hub,
    Input,
    Iommu,
    Lease,
    MemBalloon,
    Nvram,
    Panic,
    RedirFilter,
    Vsock,
    Watchdog,
)
from conf.domain.sound import Audio, Sound
from conf.domain.sysinfo import Sysinfo
from conf.domain.vcpu import CpuTune, DefaultIoThread, IoThreadIds, Vcpu, Vcpus
from conf.domain.video import Video
from conf.element import Element, Empty, attr, child, children, size, text, verbatim
from conf.faults import internal, lacking, malformed, unsupported
from conf.values import INT, UINT, UUID_TEXT, Codec, parse_uuid
from schema.enums.error import ErrorCode
from schema.errors import RefusedDocument, VirtError

NO_UUID = UUID(int=0)
"""Stands for "not chosen yet"; `parse_domain` never leaves it."""


GENID: Codec[UUID] = Codec(lambda text: parse_uuid(text) if text.strip() else NO_UUID, str)
"""A generation id; an empty element asks for a new one."""


class VirtType(StrEnum):
    """The hypervisors."""

    QEMU = "qemu"
    KQEMU = "kqemu"
    KVM = "kvm"
    XEN = "xen"
    LXC = "lxc"
    UML = "uml"
    OPENVZ = "openvz"
    TEST = "test"
    VMWARE = "vmware"
    HYPERV = "hyperv"
    VBOX = "vbox"
    PHYP = "phyp"
    PARALLELS = "parallels"
    BHYVE = "bhyve"
    VZ = "vz"
    HVF = "hvf"


def shown_consoles(devices: "Devices") -> list[Console]:
    """The consoles as they are written: one that stands for the first serial port shows that port's host end."""
    consoles, serials = devices.consoles, devices.serials
    if not consoles or not serials or consoles[0].target is None or consoles[0].target.type != "serial":
        return consoles
    serial = serials[0]
    shown = Console(
        type=serial.type,
        source=serial.source,
        second_source=serial.second_source,
        protocol=serial.protocol,
        log=serial.log,
        target=ConsoleTarget(type="serial", port=serial.target.port if serial.target is not None else 0),
        alias=serial.alias,
        address=serial.address,
        acpi_index=serial.acpi_index,
        tty=serial.source.path if isinstance(serial.source, PtySource) else None,
    )
    return [shown, *consoles[1:]]


class Devices(Element, tag="devices", empty=Empty.OPEN):
    """All devices."""

    emulator: str | None = text("emulator", str, default=None)
    disks: list[Disk] = children(Disk, default=[])
    controllers: list[Controller] = children(Controller, default=[])
    leases: list[Lease] = children(Lease, default=[])
    filesystems: list[Filesystem] = children(Filesystem, default=[])
    interfaces: list[Interface] = children(Interface, default=[])
    smartcards: list[Smartcard] = children(Smartcard, default=[])
    serials: list[Serial] = children(Serial, default=[])
    parallels: list[Parallel] = children(Parallel, default=[])
    consoles: list[Console] = children(Console, default=[], shown=lambda self, flags: shown_consoles(self))
    channels: list[Channel] = children(Channel, default=[])
    inputs: list[Input] = children(Input, default=[])
    tpms: list[Tpm] = children(Tpm, default=[])
    graphics: list[Graphics] = children(Graphics, default=[])
    sounds: list[Sound] = children(Sound, default=[])
    audios: list[Audio] = children(Audio, default=[])
    videos: list[Video] = children(Video, default=[])
    hostdevs: list[Hostdev] = children(Hostdev, default=[])
    redirdevs: list[RedirDev] = children(RedirDev, default=[])
    redirfilter: RedirFilter | None = child(RedirFilter, default=None)
    hubs: list[Hub] = children(Hub, default=[])
    watchdog: Watchdog | None = child(Watchdog, default=None)
    memballoon: MemBalloon | None = child(MemBalloon, default=None)
    rngs: list[Rng] = children(Rng, default=[])
    nvram: Nvram | None = child(Nvram, default=None)
    panics: list[Panic] = children(Panic, default=[])
    shmems: list[Shmem] = children(Shmem, default=[])
    memories: list[MemoryDevice] = children(MemoryDevice, default=[])
    cryptos: list[Crypto] = children(Crypto, default=[])
    iommu: Iommu | None = child(Iommu, default=None)
    vsock: Vsock | None = child(Vsock, default=None)

    def all(self) -> Iterator[Device]:
        """Every device that can have an alias or an address, in document order."""
        for part in self.__dict__.values():
            if isinstance(part, list):
                yield from (one for one in part if isinstance(one, Device))
            elif isinstance(part, Device):
                yield part


class Domain(Element, tag="domain", root=True):
    """A guest's definition. Memory is in KiB; `current_memory_kib` None means all of `memory`."""

    type: VirtType = attr(
        "type",
        VirtType,
        missing=lacking(RefusedDocument, "missing domain type attribute"),
        bad=unsupported("invalid domain type {}"),
    )
    id: int | None = attr("id", INT, default=None, live=True)
    name: str = text("name", str, missing=lambda node: VirtError("missing name information", code=ErrorCode.NO_NAME))
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID, bad=internal("malformed uuid element"))
    genid: UUID | None = text("genid", GENID, default=None, keep_empty=True, bad=internal("malformed genid element"))
    title: str | None = text("title", str, default=None)
    description: str | None = text("description", str, default=None)
    metadata: str | None = verbatim("metadata", default=None)
    max_memory: MaxMemory | None = child(MaxMemory, default=None)
    memory: MemorySize = child(MemorySize, default_factory=MemorySize)
    current_memory_kib: int | None = size("currentMemory", default=None)
    blkiotune: BlkioTune | None = child(BlkioTune, default=None)
    memtune: MemTune | None = child(MemTune, default=None)
    memory_backing: MemoryBacking | None = child(MemoryBacking, default=None)
    vcpu: Vcpu = child(Vcpu, default_factory=Vcpu)
    vcpus: Vcpus | None = child(Vcpus, default=None)
    iothreads: int | None = text("iothreads", UINT, default=None, bad=malformed("invalid iothreads count '{}'"))
    iothreadids: IoThreadIds | None = child(IoThreadIds, default=None)
    defaultiothread: DefaultIoThread | None = child(DefaultIoThread, default=None)
    cputune: CpuTune | None = child(CpuTune, default=None)
    numatune: NumaTune | None = child(NumaTune, default=None)
    resource: Resource | None = child(Resource, default=None)
    sysinfos: list[Sysinfo] = children(Sysinfo, default=[])
    bootloader: str | None = text("bootloader", str, default=None, keep_empty=True)
    bootloader_args: str | None = text(
        "bootloader_args",
        str,
        default=None,
        shown=lambda self, flags: None if self.bootloader is None else self.bootloader_args,
    )
    os: Os = child(Os, default_factory=Os)
    idmap: IdMap | None = child(IdMap, default=None)
    features: Features | None = child(Features, default=None)
    cpu: GuestCpu | None = child(GuestCpu, default=None)
    clock: Clock = child(Clock, default_factory=Clock)
    on_poweroff: LifecycleAction = text(
        "on_poweroff",
        LifecycleAction,
        default=LifecycleAction.DESTROY,
        bad=unsupported("unknown on_poweroff action: {}"),
    )
    on_reboot: LifecycleAction = text(
        "on_reboot", LifecycleAction, default=LifecycleAction.RESTART, bad=unsupported("unknown on_reboot action: {}")
    )
    on_crash: LifecycleAction = text(
        "on_crash", LifecycleAction, default=LifecycleAction.DESTROY, bad=unsupported("unknown on_crash action: {}")
    )
    on_lockfailure: LockFailureAction | None = text(
        "on_lockfailure",
        LockFailureAction,
        default=None,
        bad=unsupported("unknown on_lockfailure action: {}"),
        shown=lambda self, flags: None if self.on_lockfailure is LockFailureAction.DEFAULT else self.on_lockfailure,
    )
    pm: PowerManagement | None = child(PowerManagement, default=None)
    perf: Perf | None = child(Perf, default=None)
    devices: Devices = child(Devices, default_factory=Devices)
    seclabels: list[Seclabel] = children(
        Seclabel, default=[], shown=lambda self, flags: shown_seclabels(self.seclabels, flags)
    )
    keywrap: KeyWrap | None = child(KeyWrap, default=None)
    launch_security: LaunchSecurity | None = child(LaunchSecurity, default=None)
    qemu_commandline: QemuCommandLine | None = child(QemuCommandLine, default=None)
    qemu_capabilities: QemuCapabilitiesOverride | None = child(QemuCapabilitiesOverride, default=None)
    qemu_deprecation: QemuDeprecation | None = child(QemuDeprecation, default=None)
    qemu_override: QemuOverride | None = child(QemuOverride, default=None)
    lxc_namespace: LxcNamespace | None = child(LxcNamespace, default=None)
    datacenterpath: DataCenterPath | None = child(DataCenterPath, default=None)
    bhyve_commandline: BhyveCommandLine | None = child(BhyveCommandLine, default=None)
    xen_commandline: XenCommandLine | None = child(XenCommandLine, default=None)
