"""What QEMU's machines and devices cannot do together, in libvirt's words."""

from __future__ import annotations

import re

from actors.qemu import rules_machine, rules_offered
from actors.qemu.capabilities.model import Capabilities
from conf.cpu.cpu import CpuMode
from conf.domain.address import PciAddress, UsbAddress
from conf.domain.chardev import Serial
from conf.domain.chardev_users import Tpm, TpmModel
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus
from conf.domain.domain import Domain, VirtType
from conf.domain.graphics import Graphics, GraphicsType
from conf.domain.hostdev import Hostdev, HostdevType
from conf.domain.interface import Interface
from conf.domain.small_devices import Iommu, Panic, PanicModel
from conf.domain.sound import Audio
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, InternalError, XmlError

_MIB = 1 << 20
_MAX_XHCI_PORTS = 15
_PARTITION = re.compile(r"(?:[hsv]d|xvd)[a-z]+\d+\Z").match


def check(domain: Domain, capabilities: Capabilities, accelerators: tuple[VirtType, ...]) -> None:
    """Refuses a domain that QEMU cannot run. Raises ConfigUnsupported, XmlError."""
    _check_emulator(domain, capabilities, accelerators)
    _check_features(domain)
    _check_cpu(domain)
    _check_topology(domain)
    _check_tuning(domain)
    _check_timers(domain)
    _check_firmware(domain)
    _check_graphics(domain)
    _check_tpms(domain)
    _check_pci(domain)
    rules_offered.check(domain, capabilities)
    if rules_machine.is_s390(domain) and domain.devices.parallels:
        raise ConfigUnsupported("parallel ports are not supported")


def check_device(device: Device | Graphics | Audio, domain: Domain) -> None:
    """Refuses a device that QEMU cannot provide. Raises ConfigUnsupported, InternalError, XmlError."""
    match device:
        case Disk():
            _check_disk(device)
        case Hostdev():
            _check_hostdev(device)
        case Interface():
            if (device.ips or device.routes) and device.type != "user":
                raise ConfigUnsupported(
                    "Invalid attempt to set network interface guest-side IP route and/or address info, "
                    "not supported by QEMU"
                )
        case Controller() if device.model in ("nec-xhci", "qemu-xhci") and (device.ports or 0) > _MAX_XHCI_PORTS:
            raise ConfigUnsupported(f"'{device.model}' controller only supports up to '{_MAX_XHCI_PORTS}' ports")
        case Iommu():
            _check_iommu(device, domain)
        case Panic():
            if device.model is PanicModel.PSERIES and device.address is not None:
                raise ConfigUnsupported("setting the panic device address is not supported for model 'pseries'")
        case Serial():
            _check_serial(device, domain)
        case Tpm():
            if device.backend.version == "1.2" and rules_machine.arch_of(domain) in rules_machine.ARM:
                raise ConfigUnsupported("TPM 1.2 is not supported on ARM")
        case _:
            pass


_FAMILIES = {"i686": "x86", "x86_64": "x86", "armv7l": "arm", "aarch64": "arm"}


def _check_emulator(domain: Domain, capabilities: Capabilities, accelerators: tuple[VirtType, ...]) -> None:
    emulator = domain.devices.emulator
    arch = rules_machine.arch_of(domain)
    same = arch == capabilities.arch or _FAMILIES.get(arch, arch) == _FAMILIES.get(capabilities.arch, "")
    if not same:
        raise ConfigUnsupported(f"Emulator '{emulator}' does not support arch '{arch}'")
    if domain.type not in accelerators:
        raise ConfigUnsupported(f"Emulator '{emulator}' does not support virt type '{domain.type.value}'")


def _check_features(domain: Domain) -> None:
    features = domain.features
    if features is None:
        return
    where = f"architecture '{rules_machine.arch_of(domain)}' or machine type '{rules_machine.machine_of(domain)}'"
    needs = (
        ("gic", features.gic is not None, rules_machine.is_arm_virt(domain)),
        ("hpt", features.hpt is not None, rules_machine.is_pseries(domain)),
        ("htm", features.htm is not None, rules_machine.is_pseries(domain)),
        ("nested-hv", features.nested_hv is not None, rules_machine.is_pseries(domain)),
        ("ccf-assist", features.ccf_assist is not None, rules_machine.is_pseries(domain)),
        ("cfpc", features.cfpc is not None, rules_machine.is_pseries(domain)),
        ("sbbc", features.sbbc is not None, rules_machine.is_pseries(domain)),
        ("ibs", features.ibs is not None, rules_machine.is_pseries(domain)),
    )
    for name, given, possible in needs:
        if given and not possible:
            raise ConfigUnsupported(f"The '{name}' feature is not supported for {where}")
    smm = features.smm
    if smm is None:
        return
    if smm.state and not rules_machine.is_q35(domain) and smm.tseg is not None:
        raise ConfigUnsupported("SMM TSEG is only supported with q35 machine type")
    if smm.tseg is not None and smm.tseg.value is not None:
        factor = bytes_per_unit(smm.tseg.unit or "MiB") or 1
        if smm.tseg.value * factor % _MIB:
            raise ConfigUnsupported("SMM TSEG size must be divisible by 1 MiB")


_HOST_MODES = (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM)


def _check_cpu(domain: Domain) -> None:
    cpu = domain.cpu
    if cpu is None:
        return
    cache = cpu.cache
    if cache is not None:
        if cache.mode == "passthrough":
            if cpu.mode not in _HOST_MODES:
                raise ConfigUnsupported(
                    "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs"
                )
            if cache.level is not None:
                raise ConfigUnsupported("unsupported CPU cache level for mode 'passthrough'")
        elif cache.mode == "emulate" and cache.level not in (None, 3):
            raise ConfigUnsupported("CPU cache mode 'emulate' can only be used with level='3'")
    width = cpu.maxphysaddr
    if width is not None and width.mode == "passthrough":
        if cpu.mode not in _HOST_MODES:
            raise ConfigUnsupported(
                "CPU maximum physical address bits mode 'passthrough' can only be used with "
                "'host-passthrough' / 'maximum' CPUs"
            )
        if width.bits is not None:
            raise ConfigUnsupported(
                "CPU maximum physical address bits number specification cannot be used with mode='passthrough'"
            )


def _check_topology(domain: Domain) -> None:
    topology = domain.cpu.topology if domain.cpu is not None else None
    if topology is None:
        return
    if topology.sockets * topology.dies * topology.cores * topology.threads != domain.vcpu.count:
        raise ConfigUnsupported("CPU topology doesn't match maximum vcpu count")


def _check_tuning(domain: Domain) -> None:
    if domain.memtune is not None and domain.memtune.min_guarantee_kib:
        raise ConfigUnsupported("Parameter 'min_guarantee' not supported by QEMU.")
    has_nodes = bool(domain.cpu and domain.cpu.numa and domain.cpu.numa.cells) or rules_machine.is_pseries(domain)
    if domain.max_memory is not None and domain.devices.memories and not has_nodes:
        raise ConfigUnsupported("At least one numa node has to be configured when enabling memory hotplug")
    if len(domain.devices.smartcards) > 1:
        raise ConfigUnsupported("this QEMU binary lacks multiple smartcard support")


def _check_timers(domain: Domain) -> None:
    if rules_machine.is_x86(domain):
        return
    for timer in domain.clock.timers:
        if timer.present is not False and timer.name in ("tsc", "kvmclock", "hypervclock"):
            raise ConfigUnsupported(
                f"Configuring the '{timer.name}' timer is not supported for virtType={domain.type.value} "
                f"arch={rules_machine.arch_of(domain)} machine={rules_machine.machine_of(domain)} guests"
            )


def _check_firmware(domain: Domain) -> None:
    loader = domain.os.loader
    is_uefi = domain.os.firmware == "efi" or (loader is not None and loader.type == "pflash")
    has_acpi = domain.features is not None and domain.features.acpi
    if is_uefi and rules_machine.is_x86(domain) and not has_acpi:
        raise ConfigUnsupported("UEFI requires ACPI on this architecture")


def _check_graphics(domain: Domain) -> None:
    graphics = domain.devices.graphics
    kinds = [one.type for one in graphics]
    opengl = [one for one in graphics if one.type is GraphicsType.EGL_HEADLESS or (one.gl and one.gl.enable)]
    if len(opengl) > 1:
        raise ConfigUnsupported("multiple OpenGL displays are not supported by QEMU")
    others = set(kinds) - {GraphicsType.EGL_HEADLESS}
    if GraphicsType.EGL_HEADLESS in kinds and others and not {GraphicsType.VNC, GraphicsType.SPICE} & others:
        raise ConfigUnsupported(
            "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types"
        )


def _check_tpms(domain: Domain) -> None:
    proxies = [one for one in domain.devices.tpms if one.model is TpmModel.SPAPR_PROXY]
    if len(proxies) > 1:
        raise ConfigUnsupported("only a single TPM Proxy device is supported")
    if len(domain.devices.tpms) - len(proxies) > 1:
        raise ConfigUnsupported("only a single TPM non-proxy device is supported")


def _check_pci(domain: Domain) -> None:
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    for controller in domain.devices.controllers:
        if controller.type is not ControllerType.PCI:
            continue
        _check_pci_controller(controller, domain)
        node = controller.target.node if controller.target is not None else None
        if node is not None and node >= len(cells):
            raise XmlError(
                f"{controller.model} with index {controller.index} is configured for a NUMA node ({node}) not present "
                f"in the domain's <cpu><numa> array ({len(cells)})"
            )


def _check_pci_controller(controller: Controller, domain: Domain) -> None:
    is_root = controller.model in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT)
    if is_root and controller.index != 0 and not rules_machine.is_pseries(domain):
        raise XmlError("pci-root and pcie-root controllers should have index 0")


def _check_disk(disk: Disk) -> None:
    if _PARTITION(disk.target.dev):
        raise ConfigUnsupported(f"invalid disk target '{disk.target.dev}', partitions can't appear in disk targets")
    if disk.target.bus is DiskBus.USB and disk.address is not None and not isinstance(disk.address, UsbAddress):
        raise InternalError("unexpected address type for usb disk")
    if (disk.vendor or disk.product) and disk.target.bus is not DiskBus.SCSI:
        raise ConfigUnsupported("Only scsi disk supports vendor and product")
    if disk.driver is not None and disk.driver.copy_on_read and disk.readonly:
        raise ConfigUnsupported(f"copy_on_read is not compatible with read-only disk '{disk.target.dev}'")
    encryption = disk.encryption or getattr(disk.source, "encryption", None)
    image_format = disk.driver.type if disk.driver is not None else None
    is_ours = encryption is not None and encryption.engine != "librbd"
    if is_ours and image_format not in (None, "raw", "qcow2"):
        raise ConfigUnsupported("encryption is supported only with 'raw' and 'qcow2' image format")


def _check_hostdev(device: Hostdev) -> None:
    if device.boot is None or device.boot.order is None:
        return
    if device.type is HostdevType.SCSI_HOST:
        raise ConfigUnsupported("booting from assigned devices is not supported by vhost SCSI devices")
    if device.type is HostdevType.MDEV and device.model == "vfio-ap":
        raise ConfigUnsupported(
            f"booting from assigned devices is not supported by mediated devices of model {device.model}"
        )


def _check_iommu(device: Iommu, domain: Domain) -> None:
    if device.model == "virtio":
        if not rules_machine.is_q35(domain) and not rules_machine.is_arm_virt(domain):
            raise ConfigUnsupported("IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines")
        if domain.features is None or not domain.features.acpi:
            raise ConfigUnsupported("IOMMU device: 'virtio' requires ACPI")
        if isinstance(device.address, PciAddress) and device.address.bus != 0:
            raise XmlError(f"The device at PCI address {device.address} needs to be an integrated device (bus=0)")
    elif device.model == "intel" and not rules_machine.is_q35(domain):
        raise ConfigUnsupported("IOMMU device: 'intel' is only supported with Q35 machines")
    elif device.model == "smmuv3" and not rules_machine.is_arm_virt(domain):
        raise ConfigUnsupported("IOMMU device: 'smmuv3' is only supported with ARM Virt machines")


def _check_serial(device: Serial, domain: Domain) -> None:
    target = device.target
    if target is None:
        return
    possible = {
        "isa-serial": rules_machine.is_x86(domain),
        "spapr-vio-serial": rules_machine.is_pseries(domain),
        "system-serial": rules_machine.is_arm_virt(domain) or rules_machine.is_riscv_virt(domain),
        "sclp-serial": rules_machine.is_s390(domain),
    }
    if not possible.get(target.type or "", True):
        raise ConfigUnsupported(
            f"Serial device with target type '{target.type}' and target model '{target.model}' not compatible "
            "with guest architecture or machine type"
        )
