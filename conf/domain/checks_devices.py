"""Devices that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

from conf.domain import checks_disks, checks_interfaces, defaults_chardev
from conf.domain.address import CcidAddress, CcwAddress, DriveAddress, PciAddress, UnassignedAddress, UsbAddress
from conf.domain.chardev import CharDevice, CharType, Console, Serial
from conf.domain.chardev_users import RedirDev, Rng, Smartcard, Tpm
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import Domain, VirtType
from conf.domain.filesystem import Filesystem, FilesystemType
from conf.domain.graphics import Graphics, ListenType
from conf.domain.hostdev import Hostdev, HostdevMode, HostdevType, MdevSource, ScsiHostSource, UsbHostSource
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice, MemoryDeviceTarget, MemoryModel
from conf.domain.os import OsType
from conf.domain.rules import DomainRules
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputBus, InputType, Iommu, Vsock
from conf.domain.sound import Audio
from conf.domain.video import Video, VideoType
from schema.enums.error import ErrorCode, ErrorDomain
from schema.errors import ConfigUnsupported, RefusedDocument, VirtError, XmlDetailError, XmlError


def check(device: Device | Graphics | Audio, domain: Domain, rules: DomainRules) -> None:
    """Refuses a device that contradicts itself."""
    if isinstance(device, Device):
        _check_address(device)
    if isinstance(device, Disk):
        checks_disks.check(device, rules)
    elif isinstance(device, Hostdev):
        _check_hostdev(device)
    elif isinstance(device, Controller):
        _check_controller(device)
    elif isinstance(device, Video):
        _check_video(device, domain)
    elif isinstance(device, Interface):
        checks_interfaces.check(device)
    elif isinstance(device, Filesystem):
        _check_filesystem(device)
    elif isinstance(device, Tpm):
        _check_tpm(device)
    elif isinstance(device, MemoryDevice):
        _check_memory(device, domain)
    elif isinstance(device, Shmem):
        _check_shmem(device)
    elif isinstance(device, Input):
        _check_input(device, domain)
    elif isinstance(device, Iommu):
        _check_iommu(device)
    elif isinstance(device, Vsock):
        address = device.cid.address if device.cid is not None else None
        if address is not None and address < _LOWEST_CID:
            raise ConfigUnsupported(f"guest CIDs must be >= {_LOWEST_CID}")
    elif isinstance(device, Smartcard):
        if device.address is not None and not isinstance(device.address, CcidAddress):
            raise ConfigUnsupported("Controllers must use the 'ccid' address type")
        defaults_chardev.check_source(device)
    elif isinstance(device, CharDevice | Rng | RedirDev):
        kind = device.target.type if isinstance(device, Serial) and device.target is not None else None
        if kind == "usb-serial" and device.address is not None and not isinstance(device.address, UsbAddress):
            raise ConfigUnsupported("usb-serial requires address of usb type")
        # a console that stands for a serial port has no host end of its own
        if not (isinstance(device, Console) and device.target is not None and device.target.type == "serial"):
            defaults_chardev.check_source(device)
    elif isinstance(device, Graphics):
        for listen in device.listens:
            if listen.type is ListenType.NETWORK and not listen.network:
                raise XmlError("'network' attribute is required for listen type 'network'")
        if device.p2p and device.address is not None:
            raise XmlError("D-Bus p2p with an address is not supported")


_LOWEST_CID = 3
_THP_KIB = 2048
"""The size of a transparent huge page."""


def _check_tpm(device: Tpm) -> None:
    backend = device.backend
    if backend.active_pcr_banks is not None and backend.version != "2.0":
        raise XmlError("<active_pcr_banks/> requires TPM version '2.0'")
    if backend.type == "external":
        source = backend.source
        if source is None:
            raise XmlError("missing external TPM backend type")
        if source.type is not CharType.UNIX:
            raise XmlError("only source type 'unix' is supported for external TPM device")
        if source.mode == "bind":
            raise XmlError("only 'client' mode is supported for external TPM device")
        if source.path is None:
            raise XmlError("missing socket path for external TPM device")


def _detail(message: str) -> XmlDetailError:
    return XmlDetailError(message, domain=ErrorDomain.DOMAIN)


def _check_memory(device: MemoryDevice, domain: Domain) -> None:
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    node, target, source = device.target.node, device.target, device.source
    if node is not None:
        if not cells:
            raise _detail("can't add memory backend as guest has no NUMA nodes configured")
        if node >= len(cells):
            raise _detail(
                f"can't add memory backend for guest node '{node}' as the guest has only '{len(cells)}' "
                "NUMA nodes configured"
            )
    path = source.path if source is not None else None
    match device.model:
        case MemoryModel.NVDIMM:
            if not path:
                raise _detail("path is required for model 'nvdimm'")
            if device.discard:
                raise ConfigUnsupported("discard is not supported for nvdimms")
            if domain.os.kind.arch in ("ppc64", "ppc64le"):
                if target.label is None:
                    raise ConfigUnsupported("label size is required for NVDIMM device")
            elif device.uuid is not None:
                raise ConfigUnsupported("UUID is not supported for NVDIMM device")
        case MemoryModel.VIRTIO_PMEM:
            if not path:
                raise _detail("path is required for model 'virtio-pmem'")
            if device.discard:
                raise ConfigUnsupported("discard is not supported for model 'virtio-pmem'")
            if device.access != "shared":
                raise ConfigUnsupported("shared access mode required for virtio-pmem device")
            if node is not None:
                raise ConfigUnsupported("virtio-pmem does not support NUMA nodes")
        case MemoryModel.VIRTIO_MEM:
            _check_virtio_mem(target)
        case MemoryModel.SGX_EPC if device.address is not None:
            raise ConfigUnsupported("memory device address is not supported for model 'sgx-epc'")
        case _:
            pass


def _check_virtio_mem(target: MemoryDeviceTarget) -> None:
    requested, block = target.requested_kib or 0, target.block_kib or 0
    if requested > target.size_kib:
        raise _detail(f"requested size must be smaller than or equal to @size ({target.size_kib}KiB)")
    if not block or block & (block - 1):
        raise _detail("block size must be a power of two")
    if block < _THP_KIB:
        raise _detail(f"block size too small, must be at least {_THP_KIB}KiB")
    if requested % block:
        raise _detail("requested size must be an integer multiple of block size")


def _check_shmem(device: Shmem) -> None:
    if "/" in device.name:
        raise ConfigUnsupported("shmem name cannot include '/' character")
    if device.name in (".", ".."):
        raise ConfigUnsupported(f"shmem name cannot be equal to '{device.name}'")


def _check_input(device: Input, domain: Domain) -> None:
    kind, bus = device.type, device.bus
    is_whole = domain.os.kind.type == OsType.HVM and domain.type not in (VirtType.PARALLELS, VirtType.VZ)
    if is_whole and bus is InputBus.XEN:
        raise RefusedDocument(f"unsupported input bus {bus.value}")
    if bus is InputBus.PS2 and kind not in (InputType.MOUSE, InputType.KEYBOARD):
        raise RefusedDocument(f"ps2 bus does not support {kind.value} input device")
    if bus is InputBus.XEN and kind not in (InputType.MOUSE, InputType.KEYBOARD):
        raise RefusedDocument(f"xen bus does not support {kind.value} input device")
    if kind is InputType.PASSTHROUGH and bus is not InputBus.VIRTIO:
        raise ConfigUnsupported("only bus 'virtio' is supported for 'passthrough' input devices")
    if kind is InputType.EVDEV and bus not in (None, InputBus.NONE):
        raise ConfigUnsupported("input evdev doesn't support bus element")
    if device.model is not None and bus is not InputBus.VIRTIO:
        raise ConfigUnsupported(f"only bus 'virtio' is supported for input model '{device.model}'")


def _check_iommu(device: Iommu) -> None:
    if device.model == "intel" and device.address is not None:
        raise XmlError(f"iommu model '{device.model}' can't have address")
    if device.model in ("smmuv3", "virtio"):
        if device.driver is not None and any(one is not None for one in vars(device.driver).values()):
            raise XmlError(f"iommu model '{device.model}' doesn't support additional attributes")
        if device.model == "smmuv3" and device.address is not None:
            raise XmlError(f"iommu model '{device.model}' can't have address")


def _check_filesystem(device: Filesystem) -> None:
    is_virtiofs = device.driver is not None and device.driver.type == "virtiofs"
    if device.boot is not None and device.boot.order and not is_virtiofs:
        raise ConfigUnsupported("boot order is only supported for virtiofs")
    if device.source is None and device.type is not FilesystemType.RAM:
        raise VirtError(device.target_dir or "", code=ErrorCode.NO_SOURCE)
    if device.target_dir is None:
        parts = vars(device.source) if device.source is not None else {}
        name = next((str(one) for key in ("dir", "dev", "file", "name") if (one := parts.get(key))), "")
        raise VirtError(name, code=ErrorCode.NO_TARGET)


def _check_video(device: Video, domain: Domain) -> None:
    model = device.model
    videos = domain.devices.videos
    if len(videos) > 1 and any(one.model.type is VideoType.NONE for one in videos):
        raise ConfigUnsupported("a 'none' video type must be the only video device defined for the domain")
    if model.type is VideoType.DEFAULT:
        raise RefusedDocument("missing video model and cannot determine default")
    acceleration = model.acceleration
    if acceleration is not None and not any(one is not None for one in vars(acceleration).values()):
        raise ConfigUnsupported("missing values for acceleration")
    is_vhost = device.driver is not None and device.driver.name == "vhostuser"
    if is_vhost and model.type is not VideoType.VIRTIO:
        raise ConfigUnsupported("'vhostuser' driver is only supported with 'virtio' device")
    for option in ("iommu", "ats", "packed", "page_per_vq"):
        if (
            model.type is not VideoType.VIRTIO
            and device.driver is not None
            and getattr(device.driver, option) is not None
        ):
            raise ConfigUnsupported(f"{option} driver option is only supported for virtio devices")
    if model.resolution is not None and not (model.resolution.x and model.resolution.y):
        raise ConfigUnsupported("video resolution values must be greater than 0")
    if model.type is not VideoType.QXL:
        for name, amount in (("ram", model.ram_kib), ("vram64", model.vram64_kib), ("vgamem", model.vgamem_kib)):
            if amount:
                raise ConfigUnsupported(f"{name} attribute only supported for video type qxl")
    if model.type is VideoType.RAMFB and device.address is not None:
        raise XmlError("address not supported for video type ramfb")
    if acceleration is not None and acceleration.rendernode is not None and not is_vhost:
        raise ConfigUnsupported("unsupported rendernode accel attribute without 'vhostuser'")


def _check_address(device: Device) -> None:
    address = device.address
    if isinstance(address, PciAddress):
        address.check()
    is_usb = isinstance(device, RedirDev) or (isinstance(device, Input) and device.bus is InputBus.USB)
    if is_usb and address is not None and not isinstance(address, UsbAddress):
        raise XmlError("Invalid address for a USB device")
    rom = device.rom
    if rom is not None and rom.enabled is False and (rom.bar is not None or rom.file is not None):
        raise ConfigUnsupported("ROM tuning is not supported when ROM is disabled")
    boot = device.boot
    if boot is not None and boot.loadparm is not None and not 1 <= len(boot.loadparm) <= 8:
        raise RefusedDocument(f"loadparm value '{boot.loadparm}' must be between 1 and 8 characters")


def _check_hostdev_address(device: Hostdev) -> None:
    address = device.address
    if address is None or device.mode is not HostdevMode.SUBSYSTEM:
        return
    if isinstance(address, UnassignedAddress) and device.type is HostdevType.PCI:
        return
    wanted: dict[HostdevType, tuple[tuple[type, ...], str]] = {
        HostdevType.PCI: ((PciAddress,), "PCI host devices must use 'pci' or 'unassigned' address type"),
        HostdevType.SCSI: ((DriveAddress,), "SCSI host device must use 'drive' address type"),
        HostdevType.SCSI_HOST: ((PciAddress, CcwAddress), "SCSI_host host device must use 'pci' or 'ccw' address type"),
        HostdevType.USB: ((UsbAddress,), "USB host device must use 'usb' address type"),
    }
    if device.type in wanted and not isinstance(address, wanted[device.type][0]):
        if device.type is HostdevType.PCI:
            raise RefusedDocument(wanted[device.type][1])
        raise ConfigUnsupported(wanted[device.type][1])


_MDEV_ADDRESSES: dict[str, type[PciAddress] | type[CcwAddress]] = {"vfio-pci": PciAddress, "vfio-ccw": CcwAddress}


def _check_hostdev(device: Hostdev) -> None:
    if device.source is None:
        raise XmlError("Missing <source> element in hostdev device")
    if device.mode is HostdevMode.SUBSYSTEM and device.type is not HostdevType.SCSI:
        for name in ("sgio", "rawio"):
            if getattr(device, name) is not None:
                raise XmlError(f"{name} is only supported for scsi host device")
    if device.sgio == "unfiltered":
        raise ConfigUnsupported("unfiltered sgio is no longer supported")
    if isinstance(device.source, UsbHostSource) and (device.source.vendor is None) != (device.source.product is None):
        raise RefusedDocument(f"missing {'vendor' if device.source.vendor is None else 'product'}")
    if isinstance(device.source, ScsiHostSource) and device.source.protocol != "iscsi":
        if device.source.address is None:
            raise XmlError("'address' must be specified for scsi hostdev source")
        if device.source.adapter is None:
            raise XmlError("'adapter' name must be specified for scsi hostdev source")
    _check_hostdev_address(device)
    if device.teaming is not None:
        if device.teaming.type != "transient":
            raise ConfigUnsupported("teaming hostdev devices must have type='transient'")
        if not device.teaming.persistent:
            raise ConfigUnsupported("missing required persistent attribute in hostdev teaming element")
        if device.type is not HostdevType.PCI:
            raise ConfigUnsupported("teaming is only supported for pci hostdev devices")
    if device.type is not HostdevType.MDEV:
        return
    if isinstance(device.source, MdevSource) and device.source.address is None:
        raise XmlError("Missing <address> element")
    wanted = _MDEV_ADDRESSES.get(device.model or "")
    if device.address is not None and wanted is not None and not isinstance(device.address, wanted):
        raise XmlError(
            f"Unsupported address type '{device.address.fixed['type']}' with mediated device model '{device.model}'"
        )


def check_hostdevs(domain: Domain) -> None:
    """Refuses devices of the host that cannot be in one guest."""
    hostdevs = domain.devices.hostdevs
    for place, device in enumerate(hostdevs):
        if any(device.type is other.type and device.source == other.source for other in hostdevs[:place]):
            raise XmlError("Hostdev already exists in the domain configuration")
    if sum(bool(one.ramfb) for one in hostdevs) > 1:
        raise ConfigUnsupported("Only one vgpu device can have 'ramfb' enabled")


def _check_controller(device: Controller) -> None:
    if device.type is not ControllerType.PCI:
        return
    if device.model is None:
        raise RefusedDocument("PCI controller model was not set correctly")
    if device.model in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT) and device.index == 0 and device.address is not None:
        raise ConfigUnsupported("pci-root and pcie-root controllers should not have an address")
    target = device.target
    if target is None:
        return
    for name, number, lowest, highest in (
        ("target index", target.index, 0, 30),
        ("chassisNr", target.chassis_nr, 1, 255),
        ("chassis", target.chassis, 0, 255),
        ("port", target.port, 0, 255),
        ("busNr", target.bus_nr, 1, 254),
    ):
        if number is not None and not lowest <= number <= highest:
            raise ConfigUnsupported(f"PCI controller {name} '{number}' out of range - must be {lowest}-{highest}")
    if target.index is not None and (device.index == 0) != (target.index == 0):
        raise ConfigUnsupported("Only the PCI controller with index 0 can have target index 0, and vice versa")
    if device.index == 0 and target.node is not None:
        raise ConfigUnsupported("The PCI controller with index=0 can't be associated with a NUMA node")
