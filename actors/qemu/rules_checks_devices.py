"""What QEMU's smaller devices cannot do, in libvirt's words."""

from __future__ import annotations

from actors.qemu import rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import IsaAddress, PciAddress, SpaprVioAddress, UsbAddress
from conf.domain.chardev import CharDevice, CharType, Console, Parallel, Serial, TcpSource, UnixSource
from conf.domain.chardev_users import RedirDev, Rng, Smartcard, Tpm, TpmModel
from conf.domain.device import Device
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem, FilesystemType
from conf.domain.graphics import Graphics, GraphicsType
from conf.domain.memory import MemoryAccess
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.shmem import Shmem
from conf.domain.small_devices import (
    Hub,
    Input,
    InputBus,
    InputType,
    Iommu,
    MemBalloon,
    Nvram,
    Panic,
    PanicModel,
    Vsock,
    Watchdog,
)
from conf.domain.sound import Audio, AudioType, Sound, SoundModel
from schema.errors import ConfigUnsupported, InvalidArguments, XmlError


def check(device: Device | Graphics | Audio, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a device that QEMU cannot provide. Raises ConfigUnsupported, XmlError."""
    match device:
        case CharDevice():
            _check_port(device, domain)
        case Input():
            _check_input(device, domain, capabilities)
        case Filesystem():
            _check_filesystem(device, domain, capabilities)
        case Watchdog():
            _check_watchdog(device, domain)
        case MemBalloon():
            _check_balloon(device, capabilities)
        case Panic():
            _check_panic(device, domain, capabilities)
        case Iommu():
            _check_iommu(device, domain, capabilities)
        case Sound():
            _check_sound(device, capabilities)
        case MemoryDevice():
            _check_memory(device, capabilities)
        case Rng():
            _check_rng(device, domain, capabilities)
        case Smartcard():
            _check_spice(device.type, domain)
            _check_smartcard(device, capabilities)
        case Shmem():
            if capabilities.lacks(device.model or "ivshmem"):
                raise ConfigUnsupported(f"{device.model} device is not supported with this QEMU binary")
        case RedirDev():
            _check_spice(device.type, domain)
            if capabilities.lacks("usb-redir"):
                raise ConfigUnsupported("USB redirection is not supported by this version of QEMU")
        case Vsock():
            if capabilities.lacks("vhost-vsock"):
                raise ConfigUnsupported("vsock device is not supported with this QEMU binary")
        case Hub():
            if capabilities.lacks("usb-hub"):
                raise ConfigUnsupported("usb-hub not supported by QEMU binary")
        case Nvram():
            _check_nvram(device, domain, capabilities)
        case Audio():
            has_spice = any(one.type is GraphicsType.SPICE for one in domain.devices.graphics)
            if device.type is AudioType.SPICE and not has_spice:
                raise ConfigUnsupported("Spice audio is not supported without spice graphics")
            if device.type is AudioType.DBUS and capabilities.lacks("display-dbus"):
                raise ConfigUnsupported("D-Bus audio is not supported with this QEMU")
        case _:
            pass


def _check_spice(kind: CharType | None, domain: Domain) -> None:
    has_spice = any(one.type is GraphicsType.SPICE for one in domain.devices.graphics)
    if kind in (CharType.SPICEVMC, CharType.SPICEPORT) and not has_spice:
        raise ConfigUnsupported(f"chardev '{kind.value}' not supported without spice graphics")


def _check_port(device: CharDevice, domain: Domain) -> None:
    source = device.source
    again = source.reconnect if isinstance(source, TcpSource | UnixSource) else None
    if again is not None and again.enabled and again.timeout_s == 0:
        raise InvalidArguments("chardev reconnect source timeout cannot be '0'")
    _check_spice(device.type, domain)
    if isinstance(device, Parallel) and (rules_machine.is_s390(domain) or rules_machine.is_pseries(domain)):
        raise ConfigUnsupported("parallel ports are not supported")
    if isinstance(device, Serial):
        _check_serial(device, domain)
    elif isinstance(device, Console) and device.target is not None and device.target.type in _FOREIGN_CONSOLES:
        raise ConfigUnsupported(f"unsupported console target type {device.target.type}")


def check_consoles(domain: Domain, capabilities: Capabilities) -> None:
    """Refuses consoles of mainframes that the emulator does not have. Raises ConfigUnsupported."""
    for console in domain.devices.consoles:
        kind = console.target.type if console.target is not None else None
        if kind == "sclp" and capabilities.lacks("s390-sclp"):
            raise ConfigUnsupported("sclpconsole is not supported in this QEMU binary")
        if kind == "sclplm" and capabilities.lacks("sclplmconsole"):
            raise ConfigUnsupported("sclplmconsole is not supported in this QEMU binary")


_FOREIGN_CONSOLES = ("xen", "uml", "lxc", "openvz")
_SERIAL_ADDRESSES: dict[str, tuple[type, str]] = {
    "isa-serial": (IsaAddress, "isa"),
    "isa-debug": (IsaAddress, "isa"),
    "usb-serial": (UsbAddress, "usb"),
    "pci-serial": (PciAddress, "pci"),
    "spapr-vio-serial": (SpaprVioAddress, "spapr-vio"),
}
_SERIAL_TYPES = {
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "spapr-vty": "spapr-vio-serial",
    "pl011": "system-serial",
    "16550a": "system-serial",
    "sclpconsole": "sclp-serial",
    "sclplmconsole": "sclp-serial",
    "isa-debugcon": "isa-debug",
}


def _check_serial(device: Serial, domain: Domain) -> None:
    target = device.target
    if target is None or target.type is None:
        return
    x86 = rules_machine.is_x86(domain)
    if target.type == "isa-debug" and not x86:
        raise ConfigUnsupported("isa-debug serial type only valid on x86 architecture")
    wanted = _SERIAL_ADDRESSES.get(target.type)
    if device.address is not None:
        if wanted is None and target.type in ("system-serial", "sclp-serial"):
            raise ConfigUnsupported(f"Target type '{target.type}' cannot have an associated address")
        if wanted is not None and not isinstance(device.address, wanted[0]):
            raise ConfigUnsupported(f"Target type '{target.type}' requires address type '{wanted[1]}'")
    kind = _SERIAL_TYPES.get(target.model or "")
    if kind is not None and kind != target.type:
        raise ConfigUnsupported(f"Target model '{target.model}' requires target type '{kind}'")
    is_arm, is_riscv = rules_machine.is_arm_virt(domain), rules_machine.is_riscv_virt(domain)
    possible = {
        "isa-serial": x86,
        "spapr-vio-serial": rules_machine.is_pseries(domain),
        "system-serial": target.model is None or is_arm if target.model != "16550a" else is_riscv,
        "sclp-serial": rules_machine.is_s390(domain),
    }
    if not possible.get(target.type, True):
        raise ConfigUnsupported(
            f"Serial device with target type '{target.type}' and target model '{target.model}' not compatible "
            "with guest architecture or machine type"
        )


_INPUT_FLAGS = {
    InputType.MOUSE: "virtio-mouse",
    InputType.TABLET: "virtio-tablet",
    InputType.KEYBOARD: "virtio-keyboard",
    InputType.PASSTHROUGH: "virtio-input-host",
}


def _check_input(device: Input, domain: Domain, capabilities: Capabilities) -> None:
    if device.bus is InputBus.PS2 and not rules_machine.is_x86(domain) and capabilities.lacks("i8042"):
        raise ConfigUnsupported("ps2 is not supported by this QEMU binary")
    if device.type is InputType.EVDEV:
        if capabilities.lacks("input-linux"):
            raise ConfigUnsupported("input-linux is not supported by this QEMU binary")
        return
    if device.bus is InputBus.USB and device.type is InputType.KEYBOARD and capabilities.lacks("usb-kbd"):
        raise ConfigUnsupported("usb keyboard is not supported by this QEMU binary")
    if device.bus is not InputBus.VIRTIO:
        return
    if device.model not in (None, "virtio"):
        raise ConfigUnsupported(
            f"virtio (non-)transitional models are not supported for input type={device.type.value}"
        )
    flag = _INPUT_FLAGS[device.type]
    if capabilities.lacks(flag) and capabilities.lacks(f"{flag}-ccw"):
        raise ConfigUnsupported(f"{flag} is not supported by this QEMU binary")


def shares_memory(domain: Domain) -> bool:
    """Can another process see all of the guest's memory?"""
    backing = domain.memory_backing
    whole = backing is not None and backing.access is MemoryAccess.SHARED
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if not cells:
        return whole
    return all(cell.mem_access == "shared" if cell.mem_access is not None else whole for cell in cells)


def _check_filesystem(device: Filesystem, domain: Domain, capabilities: Capabilities) -> None:
    if device.type is not FilesystemType.MOUNT:
        raise ConfigUnsupported("only supports mount filesystem type")
    if device.multidevs not in (None, "default") and capabilities.lacks("fsdev.multidevs"):
        raise ConfigUnsupported("multidevs is not supported with this QEMU binary")
    has_modes = bool(device.fmode or device.dmode)
    if has_modes and device.accessmode != "mapped":
        raise ConfigUnsupported("fmode and dmode must be used with accessmode=mapped")
    kind = device.driver.type if device.driver is not None else None
    if kind == "handle" and device.accessmode not in (None, "passthrough"):
        raise ConfigUnsupported("only supports passthrough accessmode")
    if kind in ("loop", "nbd", "ploop"):
        raise ConfigUnsupported("Filesystem driver type not supported")
    if kind != "virtiofs":
        if device.binary is not None and device.binary.sandbox_mode is not None:
            raise ConfigUnsupported("sandbox can only be used with driver=virtiofs")
        return
    driver = device.driver
    refusals = (
        (device.readonly, "virtiofs does not yet support read-only mode"),
        (device.accessmode not in (None, "passthrough"), "virtiofs only supports passthrough accessmode"),
        (driver is not None and driver.wrpolicy is not None, "virtiofs does not support wrpolicy"),
        (device.model is not None, "virtiofs does not support model"),
        (driver is not None and driver.format is not None, "virtiofs does not support format"),
        (device.multidevs not in (None, "default"), "virtiofs does not support multidevs"),
        (has_modes, "virtiofs does not support fmode and dmode"),
        (capabilities.lacks("vhost-user-fs"), "virtiofs is not supported with this QEMU binary"),
    )
    for refused, message in refusals:
        if refused:
            raise ConfigUnsupported(message)
    if device.boot is not None and device.boot.order and capabilities.lacks("vhost-user-fs.bootindex"):
        raise ConfigUnsupported("setting virtiofs boot order is not supported with this QEMU binary")
    if not shares_memory(domain):
        raise ConfigUnsupported("'virtiofs' requires shared memory")


def _check_watchdog(device: Watchdog, domain: Domain) -> None:
    model = device.model
    if model == "i6300esb":
        if device.address is not None and not isinstance(device.address, PciAddress):
            raise ConfigUnsupported(f"{model} model of watchdog can go only on PCI bus")
    elif model == "ib700":
        if device.address is not None:
            raise ConfigUnsupported(f"{model} model of watchdog does not support configuring the address")
    elif model == "diag288":
        if device.address is not None:
            raise ConfigUnsupported(f"{model} model of watchdog is virtual and cannot go on any bus.")
        if not rules_machine.is_s390(domain):
            raise ConfigUnsupported(f"{model} model of watchdog is allowed for s390 and s390x only")


def _check_balloon(device: MemBalloon, capabilities: Capabilities) -> None:
    if device.model == "none":
        return
    if not device.model.startswith("virtio"):
        raise ConfigUnsupported(f"Memory balloon device type '{device.model}' is not supported by this version of qemu")
    if device.autodeflate is not None and capabilities.lacks("virtio-balloon-pci.deflate-on-oom"):
        raise ConfigUnsupported("deflate-on-oom is not supported by this QEMU binary")
    if device.free_page_reporting is not None and capabilities.lacks("virtio-balloon.free-page-reporting"):
        raise ConfigUnsupported("freePageReporting is not supported by this QEMU binary")


def _check_panic(device: Panic, domain: Domain, capabilities: Capabilities) -> None:
    needs = {
        PanicModel.S390: (rules_machine.is_s390(domain), "only S390 guests"),
        PanicModel.HYPERV: (rules_machine.is_x86(domain), "only i686 and x86_64 guests"),
        PanicModel.PSERIES: (rules_machine.is_pseries(domain), "only pSeries guests"),
    }
    model = device.model
    if model in needs:
        possible, guests = needs[model]
        if not possible:
            raise ConfigUnsupported(f"{guests} support panic device of model '{model.value}'")
        if device.address is not None:
            raise ConfigUnsupported(f"setting the panic device address is not supported for model '{model.value}'")
    elif model is PanicModel.ISA:
        if capabilities.lacks("pvpanic"):
            raise ConfigUnsupported("the QEMU binary does not support the ISA panic device")
        if device.address is not None and not isinstance(device.address, IsaAddress):
            raise ConfigUnsupported("panic is supported only with ISA address type")


_IOMMU_OPTIONS = (
    ("intremap", "interrupt remapping", "intel-iommu.intremap"),
    ("caching_mode", "caching mode", "intel-iommu.caching-mode"),
    ("eim", "eim", "intel-iommu.eim"),
    ("iotlb", "device IOTLB", "intel-iommu.device-iotlb"),
    ("aw_bits", "aw_bits", "intel-iommu.aw-bits"),
)


def _check_iommu(device: Iommu, domain: Domain, capabilities: Capabilities) -> None:
    lacking = ConfigUnsupported(f"IOMMU device: '{device.model}' is not supported with this QEMU binary")
    q35, arm = rules_machine.is_q35(domain), rules_machine.is_arm_virt(domain)
    if device.model == "virtio":
        if not q35 and not arm:
            raise ConfigUnsupported("IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines")
        if capabilities.lacks("virtio-iommu-pci") or capabilities.lacks("virtio-iommu.boot-bypass"):
            raise lacking
        if domain.features is None or not domain.features.acpi:
            raise ConfigUnsupported("IOMMU device: 'virtio' requires ACPI")
        if device.address is not None and not isinstance(device.address, PciAddress):
            raise ConfigUnsupported("IOMMU device: 'virtio' needs a PCI address")
        if isinstance(device.address, PciAddress) and device.address.bus != 0:
            raise XmlError(f"The device at PCI address {device.address} needs to be an integrated device (bus=0)")
    elif device.model == "intel":
        if not q35:
            raise ConfigUnsupported("IOMMU device: 'intel' is only supported with Q35 machines")
        if capabilities.lacks("intel-iommu"):
            raise lacking
    elif device.model == "smmuv3":
        if not arm:
            raise ConfigUnsupported("IOMMU device: 'smmuv3' is only supported with ARM Virt machines")
        if capabilities.lacks("machine.virt.iommu"):
            raise lacking
    for name, what, flag in _IOMMU_OPTIONS:
        if device.driver is not None and getattr(device.driver, name) and capabilities.lacks(flag):
            raise ConfigUnsupported(f"iommu: {what} is not supported with this QEMU binary")


def _check_sound(device: Sound, capabilities: Capabilities) -> None:
    if device.model is SoundModel.ICH7:
        raise ConfigUnsupported(f"sound card model '{device.model.value}' is not supported by qemu")
    if device.model is SoundModel.USB and capabilities.lacks("usb-audio"):
        raise ConfigUnsupported("usb-audio controller is not supported by this QEMU binary")
    if device.model is SoundModel.ICH9 and capabilities.lacks("ich9-intel-hda"):
        raise ConfigUnsupported("The ich9-intel-hda audio controller is not supported in this QEMU binary")
    if device.model not in (SoundModel.ICH6, SoundModel.ICH9):
        return
    for codec in device.codecs:
        if capabilities.lacks(f"hda-{codec.type}"):
            raise ConfigUnsupported(f"hda-{codec.type} not supported in this QEMU binary")


_MEMORY_FLAGS = {
    MemoryModel.DIMM: ("pc-dimm", "memory hotplug"),
    MemoryModel.NVDIMM: ("nvdimm", "nvdimm"),
    MemoryModel.VIRTIO_PMEM: ("virtio-pmem-pci", "virtio-pmem"),
    MemoryModel.VIRTIO_MEM: ("virtio-mem-pci", "virtio-mem"),
    MemoryModel.SGX_EPC: ("sgx-epc", "sgx epc"),
}


def _check_memory(device: MemoryDevice, capabilities: Capabilities) -> None:
    flag, what = _MEMORY_FLAGS[device.model]
    if capabilities.lacks(flag):
        raise ConfigUnsupported(f"{what} isn't supported by this QEMU binary")
    if device.model is MemoryModel.NVDIMM and device.target.readonly and capabilities.lacks("nvdimm.unarmed"):
        raise ConfigUnsupported("nvdimm readonly property is not available with this QEMU binary")


def _check_rng(device: Rng, domain: Domain, capabilities: Capabilities) -> None:
    _check_spice(device.backend.type, domain)
    if capabilities.lacks("virtio-rng"):
        raise ConfigUnsupported(f"domain configuration does not support rng model '{device.model.value}'")
    if capabilities.lacks(f"rng-{device.backend.model}"):
        raise ConfigUnsupported(f"this qemu doesn't support the rng-{device.backend.model} backend")


def _check_smartcard(device: Smartcard, capabilities: Capabilities) -> None:
    if device.mode in ("host", "host-certificates"):
        if capabilities.lacks("ccid-emulated"):
            raise ConfigUnsupported("this QEMU binary lacks smartcard host mode support")
    elif capabilities.lacks("ccid-passthru"):
        raise ConfigUnsupported("this QEMU binary lacks smartcard passthrough mode support")


def _check_nvram(device: Nvram, domain: Domain, capabilities: Capabilities) -> None:
    if not rules_machine.is_pseries(domain):
        raise ConfigUnsupported("nvram device is only supported for PPC64")
    if capabilities.lacks("nvram"):
        raise ConfigUnsupported("nvram device is not supported by this QEMU binary")
    if device.address is not None and not isinstance(device.address, SpaprVioAddress):
        raise ConfigUnsupported("nvram address type must be spaprvio")


def check_tpm(device: Tpm, domain: Domain, capabilities: Capabilities, versions: frozenset[str] | None) -> None:
    """Refuses a TPM; `versions` are those that the host's emulator can be."""
    version, model = device.backend.version, device.model
    if device.backend.type == "emulator" and versions is not None and version is not None and version not in versions:
        raise ConfigUnsupported(f"TPM version '{version}' is not supported")
    if version == "1.2":
        if model is TpmModel.CRB:
            raise ConfigUnsupported(f"Unsupported interface '{model.value}' for TPM 1.2")
        if model is TpmModel.SPAPR:
            raise ConfigUnsupported("TPM 1.2 is not supported with the SPAPR device model")
        if rules_machine.arch_of(domain) in rules_machine.ARM:
            raise ConfigUnsupported("TPM 1.2 is not supported on ARM")
    if model is TpmModel.SPAPR_PROXY and device.backend.type != "passthrough":
        raise ConfigUnsupported(f"TPM Proxy model {model.value} requires 'Passthrough' backend")
    emulator = domain.devices.emulator
    backend = "emulator" if device.backend.type == "external" else device.backend.type
    if capabilities.lacks(f"tpm-{backend}"):
        raise ConfigUnsupported(
            f"The QEMU executable {emulator} does not support TPM backend type {device.backend.type}"
        )
    if model is not None and capabilities.lacks(model.value):
        raise ConfigUnsupported(f"The QEMU executable {emulator} does not support TPM model {model.value}")
