"""QEMU's own defaults of single devices."""

from __future__ import annotations

from actors.qemu import rules_checks_controllers, rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.chardev import Serial, SerialTarget
from conf.domain.chardev_users import Tpm, TpmModel
from conf.domain.controller import Controller, ControllerType, PciModel, PciTarget
from conf.domain.device import Device
from conf.domain.disk import BackingStore, Disk, DiskDriver, ImageFormat, Mirror
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.secrets import Encryption
from conf.domain.shmem import Shmem, ShmemMsi, ShmemSize
from conf.domain.small_devices import Panic, PanicModel, Vsock, VsockCid
from conf.domain.sound import Audio
from conf.domain.storage_source import SourceType
from conf.domain.video import Video, VideoType
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, XmlError


def complete(
    device: Device | Graphics | Audio, domain: Domain, capabilities: Capabilities, flags: ParseFlags = ParseFlags.NONE
) -> None:
    """Fills in what QEMU would otherwise choose by itself."""
    match device:
        case Disk():
            _complete_disk(device)
        case Interface():
            _complete_interface(device, domain, capabilities)
        case Controller():
            _complete_controller(device, domain, capabilities, flags)
        case Hostdev() if device.model == "vfio-pci" and device.display is None:
            if capabilities.has("vfio-pci.display"):
                device.display = False
        case Serial():
            _complete_serial(device, domain)
        case Video():
            _complete_video(device, domain, capabilities)
        case Panic():
            if device.model in (None, PanicModel.DEFAULT):
                device.model = _default_panic(domain)
        case Shmem():
            _complete_shmem(device)
        case Vsock():
            device.model = device.model or "virtio"
            device.cid = device.cid or VsockCid(auto=True)
        case Tpm():
            _complete_tpm(device, domain)
        case MemoryDevice() if rules_machine.arch_of(domain) in rules_machine.PPC64 and flags & ParseFlags.ABI_UPDATE:
            align_module(device)
        case _:
            pass


def _complete_disk(disk: Disk) -> None:
    driver = disk.driver or DiskDriver()
    driver.name = driver.name or "qemu"
    if driver.type is None and disk.type is not SourceType.VOLUME:
        driver.type = "raw"
    disk.driver = driver
    if disk.mirror is not None and disk.mirror.format is None:
        disk.mirror.format = ImageFormat(type="raw")
        if disk.mirror.file is not None:
            disk.mirror.file_format = "raw"
    _choose_engine(disk.encryption)
    _choose_engine(getattr(disk.source, "encryption", None))
    below: BackingStore | Mirror | None = disk.mirror or disk.backing_store
    while below is not None:
        _choose_engine(getattr(below.source, "encryption", None))
        below = below.backing_store


def _choose_engine(encryption: Encryption | None) -> None:
    if encryption is not None and encryption.engine is None:
        encryption.engine = "qemu"


def _complete_interface(device: Interface, domain: Domain, capabilities: Capabilities) -> None:
    if device.model is not None or device.type is InterfaceType.HOSTDEV:
        return
    if device.type is InterfaceType.VDPA or rules_machine.is_s390(domain):
        device.model = "virtio"
    elif rules_machine.arch_of(domain) in rules_machine.ARM:
        machine = rules_machine.machine_of(domain)
        if machine == "versatilepb":
            device.model = "scm91c111"
        else:
            device.model = "virtio" if rules_machine.is_arm_virt(domain) else "lan9118"
    elif rules_machine.is_riscv_virt(domain):
        device.model = "virtio"
    else:
        for type_name, model in (("rtl8139", "rtl8139"), ("e1000", "e1000"), ("virtio-net", "virtio")):
            if capabilities.has(type_name):
                device.model = model
                return
        device.model = "rtl8139"


def _complete_controller(device: Controller, domain: Domain, capabilities: Capabilities, flags: ParseFlags) -> None:
    if device.type is ControllerType.SCSI and device.model in (None, "auto"):
        device.model = default_scsi_model(domain, capabilities)
    elif device.type is ControllerType.USB and device.model is None:
        device.model = _default_usb_model(device, domain, capabilities, flags)
    elif device.type is ControllerType.PCI:
        _complete_pci(device, domain, capabilities)
    rules_checks_controllers.check_kind(device, domain)


def default_scsi_model(domain: Domain, capabilities: Capabilities) -> str | None:
    """The model of SCSI controllers of which the definition says nothing."""
    if rules_machine.is_pseries(domain):
        return "ibmvscsi"
    if rules_machine.is_s390(domain):
        return "virtio-scsi"
    if capabilities.has("lsi"):
        return "lsilogic"
    return "virtio-scsi" if capabilities.has("virtio-scsi-pci") else None


_XHCI = (("qemu-xhci", "qemu-xhci"), ("nec-usb-xhci", "nec-xhci"))


def _default_usb_model(device: Controller, domain: Domain, capabilities: Capabilities, flags: ParseFlags) -> str | None:
    arch = rules_machine.arch_of(domain)
    choices: tuple[tuple[str, str], ...] = (("piix3-usb-uhci", "piix3-uhci"),)
    if rules_machine.is_s390(domain) and device.address is None:
        return "none"
    if arch in rules_machine.PPC64:
        # a definition that was made before USB 3 keeps what the guest has seen so far
        choices = (*(_XHCI if flags & ParseFlags.ABI_UPDATE else ()), ("pci-ohci", "pci-ohci"))
    elif arch == "aarch64":
        choices = (*_XHCI, *choices)
    return next((model for type_name, model in choices if capabilities.has(type_name)), None)


_PCI_MODEL_NAMES = {
    PciModel.PCI_BRIDGE: "pci-bridge",
    PciModel.DMI_TO_PCI_BRIDGE: "i82801b11-bridge",
    PciModel.PCIE_TO_PCI_BRIDGE: "pcie-pci-bridge",
    PciModel.PCIE_SWITCH_UPSTREAM_PORT: "x3130-upstream",
    PciModel.PCIE_SWITCH_DOWNSTREAM_PORT: "xio3130-downstream",
    PciModel.PCI_EXPANDER_BUS: "pxb",
    PciModel.PCIE_EXPANDER_BUS: "pxb-pcie",
}


def _complete_pci(device: Controller, domain: Domain, capabilities: Capabilities) -> None:
    if device.model is None or device.model_name is not None:
        return
    model = PciModel(device.model)
    if model is PciModel.PCIE_ROOT_PORT:
        device.model_name = "pcie-root-port" if capabilities.has("pcie-root-port") else "ioh3420"
    elif model is PciModel.PCI_ROOT and rules_machine.is_pseries(domain):
        device.model_name = "spapr-pci-host-bridge"
        device.target = device.target or PciTarget()
        if device.target.index is None:
            device.target.index = _free_target_index(domain)
    else:
        device.model_name = _PCI_MODEL_NAMES.get(model)


def _free_target_index(domain: Domain) -> int:
    taken = {
        one.target.index
        for one in domain.devices.controllers
        if one.type is ControllerType.PCI and one.target is not None and one.target.index is not None
    }
    return next(number for number in range(len(taken) + 1) if number not in taken)


_SERIAL_MODELS = {
    "isa-debug": "isa-debugcon",
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "spapr-vio-serial": "spapr-vty",
    "sclp-serial": "sclpconsole",
}


def _complete_serial(device: Serial, domain: Domain) -> None:
    target = device.target = device.target or SerialTarget()
    if target.type in (None, "none", "isa-serial"):
        if rules_machine.is_x86(domain):
            target.type = "isa-serial"
        elif rules_machine.is_pseries(domain):
            target.type = "spapr-vio-serial"
        elif rules_machine.is_arm_virt(domain) or rules_machine.is_riscv_virt(domain):
            target.type = "system-serial"
        elif rules_machine.is_s390(domain):
            target.type = "sclp-serial"
    if target.model in (None, "none") and target.type is not None:
        if target.type == "system-serial":
            if rules_machine.is_arm_virt(domain):
                target.model = "pl011"
            elif rules_machine.is_riscv_virt(domain):
                target.model = "16550a"
        else:
            target.model = _SERIAL_MODELS.get(target.type)


def _complete_video(device: Video, domain: Domain, capabilities: Capabilities) -> None:
    model = device.model
    if model.type is VideoType.DEFAULT:
        model.type = _default_video(domain, capabilities)
    if model.type is VideoType.QXL and not model.vgamem_kib:
        model.vgamem_kib = 16 * 1024


def _default_video(domain: Domain, capabilities: Capabilities) -> VideoType:
    if rules_machine.arch_of(domain) in rules_machine.PPC64:
        return VideoType.VGA
    if rules_machine.is_arm_virt(domain) or rules_machine.is_riscv_virt(domain) or rules_machine.is_s390(domain):
        return VideoType.VIRTIO
    if capabilities.has("cirrus-vga"):
        return VideoType.CIRRUS
    return VideoType.VGA if capabilities.has("VGA") else VideoType.DEFAULT


def _default_panic(domain: Domain) -> PanicModel:
    if rules_machine.is_pseries(domain):
        return PanicModel.PSERIES
    return PanicModel.S390 if rules_machine.is_s390(domain) else PanicModel.ISA


_LMB_KIB = 256 * 1024


def align_module(device: MemoryDevice) -> None:
    """The size in logical memory blocks of POWER: memory grows to the next, a file holds whole ones and its label.

    Raises XmlError for a file that holds none.
    """
    target = device.target
    if device.model is not MemoryModel.NVDIMM:
        target.size_kib = -(-target.size_kib // _LMB_KIB) * _LMB_KIB
        return
    label_kib = target.label.size_kib if target.label is not None else 0
    blocks = (target.size_kib - label_kib) // _LMB_KIB
    if blocks <= 0:
        raise XmlError("minimum target size for the NVDIMM must be 256MB plus the label size")
    target.size_kib = blocks * _LMB_KIB + label_kib


def _complete_shmem(device: Shmem) -> None:
    _check_shmem(device)
    if device.model == "ivshmem-doorbell":
        device.msi = device.msi or ShmemMsi()
        if device.msi.ioeventfd is None:
            device.msi.ioeventfd = True
    elif device.size is None:
        device.size = ShmemSize(value=4, unit="M")


def _check_shmem(device: Shmem) -> None:
    if device.model == "ivshmem-plain":
        if device.server is not None:
            raise ConfigUnsupported("shmem model 'ivshmem-plain' is supported only with server option disabled")
        if device.msi is not None:
            raise ConfigUnsupported("shmem model 'ivshmem-plain' doesn't support msi")
    elif device.model == "ivshmem-doorbell":
        if device.server is None:
            raise ConfigUnsupported("shmem model 'ivshmem-doorbell' is supported only with server option enabled")
        if device.size is not None:
            raise ConfigUnsupported("shmem model 'ivshmem-doorbell' does not support size setting")


def _complete_tpm(device: Tpm, domain: Domain) -> None:
    if device.model is None:
        device.model = TpmModel.SPAPR if rules_machine.is_pseries(domain) else TpmModel.TIS
    if device.backend.type == "passthrough" and device.backend.device is None:
        device.backend.device = "/dev/tpm0"
    if device.backend.type == "emulator" and device.backend.version is None:
        # the two generations have nothing in common, so a guest stays with one
        modern = device.model in (TpmModel.CRB, TpmModel.SPAPR) or rules_machine.arch_of(domain) in rules_machine.ARM
        device.backend.version = "2.0" if modern else "1.2"
