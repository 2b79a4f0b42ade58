"""The domain capabilities document: what a guest on one emulator and machine can have."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from actors.qemu.capabilities.host_model import host_models
from actors.qemu.capabilities.model import Capabilities, CpuModel, Machine
from actors.qemu.command.launch import is_arm_virt, is_i440fx, is_pseries
from actors.qemu.firmware import Descriptor, supported_firmware
from actors.qemu.processors import Processors
from conf.cpu.cpu import CpuFeature
from conf.cpu.cpu import CpuModel as HostModel
from conf.domain_capabilities.capabilities import DomainCapabilities, MemoryBackingSupport
from conf.domain_capabilities.cpu import (
    CpuSupport,
    CustomMode,
    HostModelMode,
    HostPassthroughMode,
    MaximumMode,
    NamedModel,
)
from conf.domain_capabilities.devices import (
    ChannelSupport,
    DeviceSupport,
    DiskSupport,
    FilesystemSupport,
    GraphicsSupport,
    HostdevSupport,
    RedirdevSupport,
    RngSupport,
    TpmSupport,
    VideoSupport,
)
from conf.domain_capabilities.documents import write_domain_capabilities as write_document
from conf.domain_capabilities.features import (
    FeatureSupport,
    GicSupport,
    HypervSupport,
    SevSupport,
    SgxSection,
    SgxSupport,
)
from conf.domain_capabilities.os import LoaderSupport, OsSupport
from conf.domain_capabilities.support import Choice

LOADERS: Final = (
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd",
    "/usr/share/AAVMF/AAVMF_CODE.fd",
    "/usr/share/AAVMF/AAVMF32_CODE.fd",
)
"""Firmware images that are told where they are installed."""
_X86: Final = ("x86_64", "i686")
_S390: Final = ("s390", "s390x")
_WITH_IDE: Final = ("malta", "sun4u", "g3beige")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What of the host the document depends on."""

    arch: str = "x86_64"
    firmwares: Sequence[Descriptor] = ()
    images: Collection[str] = ()
    """The images of those firmwares that are there."""
    loaders: Sequence[str] = ()
    tpm_versions: Sequence[str] = ("1.2", "2.0")
    passes_pci: bool = False
    most_vcpus: int | None = None
    encrypted_guests: tuple[int, int] | None = None
    processors: Processors = field(default_factory=Processors)


def read_host_facts(
    arch: str, firmwares: Sequence[Descriptor], processors: Processors, tpm_versions: Collection[str]
) -> HostFacts:
    """What this host says; it can be TPMs of those versions."""
    groups = Path("/sys/kernel/iommu_groups")
    has_groups = groups.is_dir() and next(groups.iterdir(), None) is not None
    return HostFacts(
        arch=arch,
        firmwares=firmwares,
        images=[one.code for one in firmwares if Path(one.code).exists()],
        loaders=tuple(path for path in LOADERS if Path(path).exists()),
        passes_pci=has_groups and Path("/dev/vfio/vfio").exists(),
        tpm_versions=sorted(tpm_versions),
        most_vcpus=_most_vcpus(),
        encrypted_guests=_encrypted_guests(),
        processors=processors,
    )


_KVM_CHECK_EXTENSION: Final = 0xAE03
_KVM_CAP_MAX_VCPUS: Final = 66
_SEV_LEAF: Final = 0x8000001F


def _most_vcpus() -> int | None:
    """How many processors KVM gives a guest."""
    try:
        descriptor = os.open("/dev/kvm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return fcntl.ioctl(descriptor, _KVM_CHECK_EXTENSION, _KVM_CAP_MAX_VCPUS) or None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _encrypted_guests() -> tuple[int, int] | None:
    """How many guests AMD's processors can encrypt: with memory alone, and with registers too."""
    try:
        with Path("/dev/cpu/0/cpuid").open("rb", buffering=0) as file:
            leaf = os.pread(file.fileno(), 16, _SEV_LEAF)
    except OSError:
        return None
    all_guests, first_plain = int.from_bytes(leaf[8:12], "little"), int.from_bytes(leaf[12:16], "little")
    return all_guests - first_plain + 1, first_plain - 1


def write_domain_capabilities(caps: Capabilities, machine: Machine, virt: str, host: HostFacts) -> str:
    """The document for one emulator, machine and type of virtualization."""
    return write_document(domain_capabilities(caps, machine, virt, host))


def domain_capabilities(caps: Capabilities, machine: Machine, virt: str, host: HostFacts) -> DomainCapabilities:
    """What the document says."""
    vcpus: int | None = machine.max_cpus if virt != "kvm" or caps.kvm else None
    if virt == "kvm" and host.most_vcpus is not None and vcpus is not None:
        vcpus = min(vcpus, host.most_vcpus)
    sources = ["file", "anonymous"] + (["memfd"] if caps.has("memory-backend-memfd") else [])
    return DomainCapabilities(
        path=caps.emulator,
        domain=virt,
        machine=machine.name,
        arch=caps.arch,
        max_vcpus=vcpus,
        iothreads=caps.has("iothread"),
        os=_os(caps, machine, host),
        cpu=_cpu(caps, virt, host),
        memory_backing=MemoryBackingSupport.of(sourceType=sources),
        devices=_devices(caps, machine, host),
        features=_features(caps, machine, virt, host),
    )


def _os(caps: Capabilities, machine: Machine, host: HostFacts) -> OsSupport:
    offered = supported_firmware(host.firmwares, caps.arch, machine.name)
    loader = LoaderSupport(
        supported=True,
        # the lists of old are for machines that no package describes a firmware for
        paths=list(dict.fromkeys(code for code, _ in offered.images if code in host.images)) or list(host.loaders),
        choices=[
            Choice(name="type", values=["rom", "pflash"]),
            Choice(name="readonly", values=["yes", "no"]),
            Choice(name="secure", values=["yes", "no"] if offered.secure else ["no"]),
        ],
    )
    found = OsSupport.of(firmware=offered.interfaces)
    found.loader = loader
    return found


def _is_native(arch: str, host_arch: str) -> bool:
    return arch == host_arch or (host_arch, arch) in (("x86_64", "i686"), ("aarch64", "armv7l"))


def _cpu(caps: Capabilities, virt: str, host: HostFacts) -> CpuSupport:
    found = CpuSupport()
    if virt != "qemu" and _is_native(caps.arch, host.arch):
        moves = ["on", "off"] if caps.has("cpu.migratable") else ["off"]
        found.host_passthrough = HostPassthroughMode.of(hostPassthroughMigratable=moves)
    if caps.has("cpu-max"):
        found.maximum = MaximumMode.of(maximumMigratable=["on", "off"])
    found.host_model = _host_model(caps, virt, host)
    models = caps.cpu_models(virt)
    if models:
        found.custom = CustomMode(supported=True, models=list(_named_models(caps.arch, models, host.processors)))
    return found


def _host_model(caps: Capabilities, virt: str, host: HostFacts) -> HostModelMode:
    if caps.arch in ("ppc64", "ppc64le"):
        own = host.processors.host
        if own is None or own.model is None:
            return HostModelMode(supported=False)
        return HostModelMode(supported=True, model=HostModel(name=own.model.name, fallback="allow"))
    models = host_models(caps, virt, host.processors.x86)
    if models is None:
        return HostModelMode(supported=False)
    cpu = models.reported
    features = [CpuFeature(name=one.name, policy=one.policy) for one in cpu.features]
    return HostModelMode(supported=True, model=cpu.model, vendor=cpu.vendor, features=features)


def _named_models(arch: str, models: Iterable[CpuModel], processors: Processors) -> Iterable[NamedModel]:
    known: dict[str, str | None] | None = None
    if arch in _X86 and processors.x86 is not None:
        known = {name: one.vendor.name if one.vendor else None for name, one in processors.x86.models.items()}
    elif arch in ("ppc64", "ppc64le") and processors.ppc64 is not None:
        known = dict(processors.ppc64)
    for model in models:
        if model.name == "host" or (known is not None and model.name not in known):
            continue
        usable = "unknown" if model.missing is None else ("no" if model.missing else "yes")
        vendor = (known.get(model.name) if known is not None else None) or "unknown"
        yield NamedModel(usable=usable, deprecated=model.deprecated, vendor=vendor, name=model.name)


def _virtio_models(caps: Capabilities) -> list[str]:
    if caps.has("virtio-pci-non-transitional"):
        return ["virtio", "virtio-transitional", "virtio-non-transitional"]
    return ["virtio"]


def _given(caps: Capabilities, choices: Iterable[tuple[str, str | None]]) -> list[str]:
    return [name for name, flag in choices if flag is None or caps.has(flag)]


def _devices(caps: Capabilities, machine: Machine, host: HostFacts) -> DeviceSupport:
    buses = _given(caps, (("usb", "usb-redir"),))
    return DeviceSupport(
        disk=_disk(caps, machine),
        graphics=GraphicsSupport.of(type=_given(caps, _DISPLAYS)),
        video=VideoSupport.of(modelType=_given(caps, _CARDS)),
        hostdev=HostdevSupport.of(
            mode=["subsystem"],
            startupPolicy=["default", "mandatory", "requisite", "optional"],
            subsysType=_given(caps, (("usb", "usb-storage"), ("pci", None), ("scsi", None))),
            capsType=[],
            pciBackend=["default", "vfio"] if host.passes_pci else [],
        ),
        rng=RngSupport.of(
            model=_virtio_models(caps) if caps.has("virtio-rng") else [],
            backendModel=_given(caps, (("random", "rng-random"), ("egd", "rng-egd"), ("builtin", "rng-builtin"))),
        ),
        filesystem=FilesystemSupport.of(
            driverType=_given(caps, (("path", None), ("handle", None), ("virtiofs", "vhost-user-fs")))
        ),
        tpm=_tpm(caps, host),
        redirdev=RedirdevSupport.of(bus=buses) if buses else RedirdevSupport(supported=False),
        channel=ChannelSupport.of(type=_given(caps, (("pty", None), ("unix", None), ("spicevmc", "spice")))),
    )


_DISPLAYS: Final = (
    ("sdl", "sdl"),
    ("vnc", "vnc"),
    ("spice", "spice"),
    ("egl-headless", "egl-headless"),
    ("dbus", "display-dbus"),
)
_CARDS: Final = (
    ("vga", "VGA"),
    ("cirrus", "cirrus-vga"),
    ("vmvga", "vmware-svga"),
    ("qxl", "qxl"),
    ("virtio", "virtio-gpu"),
    ("none", None),
    ("bochs", "bochs-display"),
    ("ramfb", "ramfb"),
)


def _disk(caps: Capabilities, machine: Machine) -> DiskSupport:
    has_floppies = not is_pseries(caps.arch, machine.name)
    devices = ["disk", "cdrom", *(["floppy"] if has_floppies else []), "lun"]
    buses = ["ide"] if is_i440fx(machine.name) or machine.name in _WITH_IDE else []
    buses += ["fdc"] if has_floppies else []
    buses += ["scsi", "virtio", *_given(caps, (("usb", "usb-storage"), ("sata", "ich9-ahci")))]
    return DiskSupport.of(diskDevice=devices, bus=buses, model=_virtio_models(caps))


def _tpm(caps: Capabilities, host: HostFacts) -> TpmSupport:
    names = ("tpm-tis", "tpm-crb", "tpm-spapr", "spapr-tpm-proxy")
    models = [name for name in names if caps.has(name)]
    if not models:
        return TpmSupport(supported=False)
    backends = _given(caps, (("passthrough", "tpm-passthrough"),))
    if not caps.has("tpm-emulator") or not host.tpm_versions:
        return TpmSupport.of(model=models, backendModel=backends)
    return TpmSupport.of(
        model=models, backendModel=[*backends, "emulator", "external"], backendVersion=host.tpm_versions
    )


def _features(caps: Capabilities, machine: Machine, virt: str, host: HostFacts) -> FeatureSupport:
    found = FeatureSupport(
        gic=_gic(caps, machine, virt),
        vmcoreinfo=caps.has("vmcoreinfo"),
        genid=caps.has("vmgenid"),
        backing_store_input=True,
        backup=caps.has("incremental-backup"),
        sev=SevSupport(supported=False),
        sgx=SgxSupport(supported=False),
    )
    if caps.arch in _S390:
        found.s390_pv = caps.has("s390-pv-guest")
    if caps.sev is not None:
        found.sev = SevSupport(supported=True, cbitpos=caps.sev.cbitpos, reduced_phys_bits=caps.sev.reduced_phys_bits)
        if host.encrypted_guests is not None:
            found.sev.max_guests, found.sev.max_es_guests = host.encrypted_guests
    if caps.sgx is not None:
        sections = [SgxSection(node=node, size_kib=size) for node, size in caps.sgx.sections]
        found.sgx = SgxSupport(
            supported=True,
            flc=caps.sgx.flc,
            sgx1=caps.sgx.sgx1,
            sgx2=caps.sgx.sgx2,
            section_size_kib=caps.sgx.section_size_kib,
            sections=sections,
        )
    if caps.hyperv:
        found.hyperv = HypervSupport.of(features=caps.hyperv)
    return found


def _gic(caps: Capabilities, machine: Machine, virt: str) -> GicSupport:
    if not is_arm_virt(caps.arch, machine.name):
        return GicSupport(supported=False)
    # what KVM provides where it is used, else what QEMU itself does
    versions = sorted(one.version for one in caps.gics if (one.kernel if virt == "kvm" else one.emulated))
    return GicSupport.of(version=[str(one) for one in versions]) if versions else GicSupport(supported=False)
