"""What QEMU's interfaces, devices of the host and addresses cannot do, in libvirt's words."""

from __future__ import annotations

import ipaddress

from actors.qemu import rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import (
    CcwAddress,
    DriveAddress,
    PciAddress,
    SpaprVioAddress,
    VirtioS390Address,
)
from conf.domain.controller import ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus
from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev, HostdevMode, HostdevType, PciHostSource, UsbHostSource
from conf.domain.interface import Interface, InterfaceType
from schema.errors import ConfigUnsupported, RefusedDocument

_VIRTIO = ("virtio", "virtio-transitional", "virtio-non-transitional")
_WITH_MTU = (InterfaceType.NETWORK, InterfaceType.BRIDGE, InterfaceType.ETHERNET, InterfaceType.VHOSTUSER)
_WITH_COALESCE = (InterfaceType.NETWORK, InterfaceType.BRIDGE)
_LARGEST_REGISTER = 0xFFFFFFFF
_SHORTEST_PREFIX, _LONGEST_PREFIX = 4, 27


def check_interface(device: Interface, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses an interface that QEMU cannot provide. Raises ConfigUnsupported."""
    kind = device.type
    is_passt = device.backend is not None and device.backend.type == "passt"
    if kind is InterfaceType.USER:
        if not is_passt:
            _check_user_addresses(device)
    elif kind is not InterfaceType.VDPA and (device.ips or device.routes):
        raise ConfigUnsupported(
            "Invalid attempt to set network interface guest-side IP route and/or address info, not supported by QEMU"
        )
    if kind is InterfaceType.VDPA:
        if capabilities.lacks("netdev.vhost-vdpa"):
            raise ConfigUnsupported("vDPA devices are not supported with this QEMU binary")
        if device.model != "virtio":
            raise ConfigUnsupported(f"invalid model for interface of type '{kind.value}': '{device.model}'")
    if device.model in _VIRTIO and device.driver is not None:
        for name in ("rx_queue_size", "tx_queue_size"):
            size = getattr(device.driver, name) or 0
            if size & (size - 1):
                raise ConfigUnsupported(f"{name} has to be a power of two")
        if device.driver.rss and capabilities.lacks("virtio-net.rss"):
            raise ConfigUnsupported("virtio rss is not supported with this QEMU binary")
        if device.driver.rss_hash_report and capabilities.lacks("virtio-net.rss"):
            raise ConfigUnsupported("virtio rss hash report is not supported with this QEMU binary")
    if device.mtu and kind not in _WITH_MTU:
        raise ConfigUnsupported(f"setting MTU on interface type {kind.value} is not supported yet")
    if device.teaming is not None:
        if device.teaming.type == "persistent" and device.model not in _VIRTIO:
            raise ConfigUnsupported(
                f"virtio-net teaming persistent interface must be <model type='virtio'/>, not '{device.model}'"
            )
        if device.teaming.type == "transient" and kind not in (InterfaceType.HOSTDEV, InterfaceType.NETWORK):
            raise ConfigUnsupported(
                f"virtio-net teaming transient interface must be type='hostdev', not '{kind.value}'"
            )
    if device.coalesce is not None and kind not in _WITH_COALESCE:
        raise ConfigUnsupported(f"coalesce settings on interface type {kind.value} are not supported")


def _check_user_addresses(device: Interface) -> None:
    if device.routes:
        raise ConfigUnsupported("Invalid attempt to set network interface guest-side IP route, not supported by QEMU")
    seen: set[int] = set()
    for ip in device.ips:
        if ip.peer is not None:
            raise ConfigUnsupported("Invalid attempt to set peer IP for guest")
        version = ipaddress.ip_address(ip.address).version
        if version in seen:
            raise ConfigUnsupported(f"Only one IPv{version} address per interface is allowed")
        seen.add(version)
        prefix = ip.prefix or 0
        if version == 4 and prefix and not _SHORTEST_PREFIX <= prefix <= _LONGEST_PREFIX:
            raise ConfigUnsupported(f"invalid prefix, must be in range of {_SHORTEST_PREFIX}-{_LONGEST_PREFIX}")
        if version == 6 and prefix > 64:
            raise ConfigUnsupported(f"unsupported IPv6 address prefix='{prefix}' - must be 64")


def check_hostdev(device: Hostdev, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a device of the host that QEMU cannot hand to a guest. Raises ConfigUnsupported."""
    if device.mode is HostdevMode.CAPABILITIES:
        raise ConfigUnsupported(f"hostdev mode 'capabilities' is not supported in {domain.type.value}")
    boots = device.boot is not None and bool(device.boot.order)
    source = device.source
    match device.type:
        case HostdevType.USB:
            guest_reset = source.guest_reset if isinstance(source, UsbHostSource) else None
            if guest_reset not in (None, "default") and capabilities.lacks("usb-host.guest-resets-all"):
                raise ConfigUnsupported("guestReset is not supported with this version of QEMU")
        case HostdevType.PCI:
            if device.driver == "vfio" and capabilities.lacks("vfio-pci"):
                raise ConfigUnsupported("VFIO PCI device assignment is not supported by this version of QEMU")
            if isinstance(source, PciHostSource) and source.write_filtering is not None:
                raise ConfigUnsupported("Write filtering of PCI device configuration space is not supported by qemu")
        case HostdevType.SCSI_HOST:
            if boots:
                raise ConfigUnsupported("booting from assigned devices is not supported by vhost SCSI devices")
            if capabilities.lacks("vhost-scsi"):
                raise ConfigUnsupported("This QEMU doesn't support vhost-scsi devices")
        case HostdevType.MDEV:
            _check_mediated(device, domain, capabilities, boots=boots)
        case _:
            pass


def _check_mediated(device: Hostdev, domain: Domain, capabilities: Capabilities, *, boots: bool) -> None:
    if device.model == "vfio-pci":
        if capabilities.lacks("vfio-pci"):
            raise ConfigUnsupported("VFIO PCI device assignment is not supported by this version of QEMU")
        if device.display is not None and capabilities.lacks("vfio-pci.display"):
            raise ConfigUnsupported("display property of device vfio-pci is not supported by this version of QEMU")
        if device.display and not domain.devices.graphics:
            raise ConfigUnsupported("graphics device is needed for attribute value 'display=on' in <hostdev>")
    elif device.model == "vfio-ap":
        if capabilities.lacks("vfio-ap"):
            raise ConfigUnsupported("VFIO AP device assignment is not supported by this version of QEMU")
        if boots:
            raise ConfigUnsupported(
                "booting from assigned devices is not supported by mediated devices of model vfio-ap"
            )
        if sum(one.type is HostdevType.MDEV and one.model == "vfio-ap" for one in domain.devices.hostdevs) > 1:
            raise ConfigUnsupported("Only one hostdev of model vfio-ap is supported")
    elif device.model == "vfio-ccw" and capabilities.lacks("vfio-ccw"):
        raise ConfigUnsupported("VFIO CCW device assignment is not supported by this version of QEMU")


def check_address(device: Device, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a place that the machine does not have. Raises ConfigUnsupported."""
    address = device.address
    match address:
        case PciAddress() if address.zpci is not None and capabilities.lacks("zpci"):
            raise ConfigUnsupported("This QEMU binary doesn't support zPCI")
        case SpaprVioAddress() if (address.reg or 0) > _LARGEST_REGISTER:
            raise ConfigUnsupported(f"spapr-vio reg='0x{address.reg:x}' exceeds maximum possible value (0xffffffff)")
        case VirtioS390Address():
            raise ConfigUnsupported("'virtio-s390' addresses are no longer supported")
        case CcwAddress() if not rules_machine.is_s390(domain):
            raise ConfigUnsupported(
                f"cannot use CCW address type for device '{device.alias or '<null>'}' using machine type "
                f"'{rules_machine.machine_of(domain)}'"
            )
        case DriveAddress() if isinstance(device, Disk):
            _check_drive(device, address, domain)
        case _:
            pass
    if device.acpi_index:
        if capabilities.lacks("acpi-index"):
            raise ConfigUnsupported("ACPI index is not supported with this QEMU")
        if address is not None and not isinstance(address, PciAddress):
            raise ConfigUnsupported("ACPI index is only supported for PCI devices")


def _check_drive(disk: Disk, address: DriveAddress, domain: Domain) -> None:
    match disk.target.bus:
        case DiskBus.SCSI:
            controllers = domain.devices.controllers
            model = next(
                (
                    one.model
                    for one in controllers
                    if one.type is ControllerType.SCSI and one.index == address.controller
                ),
                None,
            )
            if address.bus != 0:
                raise ConfigUnsupported("SCSI controller only supports 1 bus")
            if model == "lsilogic" and address.target != 0:
                raise ConfigUnsupported("target must be 0 for controller model 'lsilogic'")
        case DiskBus.IDE:
            if rules_machine.has_builtin_ide(domain) and address.controller != 0:
                raise RefusedDocument("Only 1 IDE controller is supported")
            if address.target != 0:
                raise ConfigUnsupported("target must be 0 for ide controller")
        case DiskBus.FDC:
            if address.controller != 0:
                raise RefusedDocument("Only 1 fdc controller is supported")
            if address.bus != 0:
                raise RefusedDocument("Only 1 fdc bus is supported")
            if address.target != 0:
                raise ConfigUnsupported("target must be 0 for controller fdc")
        case DiskBus.SATA:
            if address.bus != 0:
                raise ConfigUnsupported("bus must be 0 for sata controller")
            if address.target != 0:
                raise ConfigUnsupported("target must be 0 for sata controller")
        case _:
            pass
