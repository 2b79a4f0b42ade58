"""Controllers: buses that devices sit on."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.device import (
    NON_TRANSITIONAL,
    TRANSITIONAL,
    add_device,
    address_properties,
    simple_device,
    virtio_driver,
    virtio_properties,
)
from actors.qemu.command.launch import Launch, alias_of, is_i440fx, is_pseries, is_q35, is_virt
from actors.qemu.command.line import CommandLine, Properties
from conf.domain.controller import Controller, ControllerType, PciModel, ScsiModel, UsbModel
from schema.errors import ConfigUnsupported

_ORDER: Final = (
    ControllerType.PCI,
    ControllerType.USB,
    ControllerType.SCSI,
    ControllerType.IDE,
    ControllerType.SATA,
    ControllerType.VIRTIO_SERIAL,
)
_USB: Final = {
    UsbModel.PIIX3_UHCI: "piix3-usb-uhci",
    UsbModel.PIIX4_UHCI: "piix4-usb-uhci",
    UsbModel.EHCI: "usb-ehci",
    UsbModel.ICH9_EHCI1: "ich9-usb-ehci1",
    UsbModel.ICH9_UHCI1: "ich9-usb-uhci1",
    UsbModel.ICH9_UHCI2: "ich9-usb-uhci2",
    UsbModel.ICH9_UHCI3: "ich9-usb-uhci3",
    UsbModel.VT82C686B_UHCI: "vt82c686b-usb-uhci",
    UsbModel.PCI_OHCI: "pci-ohci",
    UsbModel.NEC_XHCI: "nec-usb-xhci",
    UsbModel.QEMU_XHCI: "qemu-xhci",
}
_USB_FLAGS: Final = {
    UsbModel.EHCI: "usb-ehci",
    UsbModel.ICH9_UHCI1: "ich9-usb-ehci1",
    UsbModel.ICH9_UHCI2: "ich9-usb-ehci1",
    UsbModel.ICH9_UHCI3: "ich9-usb-ehci1",
}
"""The flags of models that have another than their driver's name."""
_SCSI: Final = {
    ScsiModel.LSILOGIC: "lsi",
    ScsiModel.IBMVSCSI: "spapr-vscsi",
    ScsiModel.LSISAS1068: "mptsas1068",
    ScsiModel.LSISAS1078: "megasas",
    ScsiModel.VMPVSCSI: "pvscsi",
    ScsiModel.DC390: "dc390",
    ScsiModel.AM53C974: "am53c974",
}


def add_controllers(launch: Launch, line: CommandLine) -> None:
    """Every controller that the machine does not have by itself. Raises ConfigUnsupported for unknown models."""
    for kind in _ORDER:
        for controller in launch.domain.devices.controllers:
            if controller.type is kind and not is_built_in(launch, controller):
                properties = _device(launch, controller)
                if properties is not None:
                    add_device(launch, line, controller, properties)
    _add_old_usb(launch, line)


def _add_old_usb(launch: Launch, line: CommandLine) -> None:
    """Machines of old have a USB controller of their own, which is asked for when the definition names no other."""
    models = [one.model for one in launch.domain.devices.controllers if one.type is ControllerType.USB]
    if models.count(None) > 1:
        raise ConfigUnsupported("Multiple legacy USB controllers are not supported")
    if (
        any(models)
        or is_q35(launch.machine)
        or is_virt(launch.arch, launch.machine)
        or launch.arch in ("s390", "s390x")
    ):
        return
    line.add("-usb")


def add_ccid_controllers(launch: Launch, line: CommandLine) -> None:
    """Smart card readers, which sit on USB and come after its hubs."""
    for controller in launch.domain.devices.controllers:
        if controller.type is ControllerType.CCID:
            line.add_json("-device", simple_device(launch, "usb-ccid", controller))


def is_built_in(launch: Launch, controller: Controller) -> bool:
    """The machine has this controller without being asked."""
    if controller.type is ControllerType.PCI:
        if controller.model == PciModel.PCI_ROOT and is_pseries(launch.arch, launch.machine):
            return not (controller.target is not None and controller.target.index)
        return controller.model in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT)
    if controller.type is ControllerType.IDE:
        if is_i440fx(launch.machine):
            if controller.index:
                raise ConfigUnsupported("Only a single IDE controller is supported for this machine type")
            return True
        raise ConfigUnsupported("IDE controllers are unsupported for this QEMU binary or machine type")
    if controller.type is ControllerType.SATA:
        return not controller.index and is_q35(launch.machine)
    if controller.type is ControllerType.USB:
        if controller.model is None and is_q35(launch.machine):
            raise ConfigUnsupported("no model provided for USB controller")
        return controller.model in (None, UsbModel.NONE)
    if controller.type is ControllerType.SCSI:
        # a board has it soldered on
        return controller.model == ScsiModel.NCR53C90
    return False


def _device(launch: Launch, controller: Controller) -> Properties | None:
    match controller.type:
        case ControllerType.PCI:
            return _pci(launch, controller)
        case ControllerType.USB:
            return _usb(launch, controller)
        case ControllerType.SCSI:
            return _scsi(launch, controller)
        case ControllerType.SATA:
            return simple_device(launch, "ahci", controller)
        case ControllerType.VIRTIO_SERIAL:
            return _virtio_serial(launch, controller)
        case _:
            return None


def _pci(launch: Launch, controller: Controller) -> Properties:
    target, name = controller.target, controller.model_name
    properties: Properties = {}
    match controller.model:
        case PciModel.PCI_ROOT:
            properties["driver"] = name or "spapr-pci-host-bridge"
            properties["index"] = target.index if target is not None else None
            properties["id"] = alias_of(controller)
            properties["numa_node"] = target.node if target is not None else None
            return properties
        case PciModel.PCI_BRIDGE:
            properties["driver"] = name or "pci-bridge"
            properties["chassis_nr"] = target.chassis_nr if target is not None else controller.index
        case PciModel.PCI_EXPANDER_BUS | PciModel.PCIE_EXPANDER_BUS:
            default = "pxb" if controller.model == PciModel.PCI_EXPANDER_BUS else "pxb-pcie"
            properties["driver"] = name or default
            properties["bus_nr"] = target.bus_nr if target is not None else None
            properties["id"] = alias_of(controller)
            properties["numa_node"] = target.node if target is not None else None
        case PciModel.PCIE_ROOT_PORT | PciModel.PCIE_SWITCH_DOWNSTREAM_PORT:
            default = "pcie-root-port" if controller.model == PciModel.PCIE_ROOT_PORT else "xio3130-downstream"
            properties["driver"] = name or default
            properties["port"] = target.port if target is not None else None
            properties["chassis"] = target.chassis if target is not None else None
        case PciModel.DMI_TO_PCI_BRIDGE:
            properties["driver"] = name or "i82801b11-bridge"
        case PciModel.PCIE_TO_PCI_BRIDGE:
            properties["driver"] = name or "pcie-pci-bridge"
        case PciModel.PCIE_SWITCH_UPSTREAM_PORT:
            properties["driver"] = name or "x3130-upstream"
        case _:
            raise ConfigUnsupported(f"wrong PCI controller model '{controller.model}'")
    properties["id"] = alias_of(controller)
    if target is not None and target.hotplug is not None:
        properties["hotplug"] = target.hotplug
    properties.update(address_properties(launch, controller))
    return properties


def _usb(launch: Launch, controller: Controller) -> Properties:
    try:
        model = UsbModel(controller.model or "")
        driver = _USB[model]
    except (ValueError, KeyError) as exc:
        raise ConfigUnsupported(f"{controller.model} not supported in this QEMU binary") from exc
    if not launch.caps.has(_USB_FLAGS.get(model, driver)):
        raise ConfigUnsupported(f"USB controller model '{model}' not supported in this QEMU binary")
    properties: Properties = {"driver": driver}
    if model in (UsbModel.NEC_XHCI, UsbModel.QEMU_XHCI):
        properties["p2"] = controller.ports
        properties["p3"] = controller.ports
    elif controller.ports is not None:
        raise ConfigUnsupported(f"usb controller type '{model.value}' doesn't support 'ports' with this QEMU binary")
    if controller.master_startport is not None:
        properties["masterbus"] = f"{alias_of(controller)}.0"
        properties["firstport"] = controller.master_startport
    else:
        properties["id"] = alias_of(controller)
    properties.update(address_properties(launch, controller))
    return properties


def _scsi(launch: Launch, controller: Controller) -> Properties:
    model, driver = controller.model, controller.driver
    properties: Properties = {}
    if model in (ScsiModel.VIRTIO_SCSI, TRANSITIONAL, NON_TRANSITIONAL):
        properties["driver"] = virtio_driver(launch, "virtio-scsi", controller, model)
        if driver is not None and driver.iothread is not None:
            properties["iothread"] = f"iothread{driver.iothread}"
        properties.update(virtio_properties(driver))
    elif model is not None and model in _SCSI:
        properties["driver"] = _SCSI[ScsiModel(model)]
    else:
        raise ConfigUnsupported(f"Unsupported controller model: {model}")
    properties["id"] = alias_of(controller)
    if driver is not None:
        properties["num_queues"] = driver.queues or None
        properties["cmd_per_lun"] = driver.cmd_per_lun or None
        properties["max_sectors"] = driver.max_sectors or None
        properties["ioeventfd"] = driver.ioeventfd
    properties.update(address_properties(launch, controller))
    return properties


def _virtio_serial(launch: Launch, controller: Controller) -> Properties:
    properties: Properties = {
        "driver": virtio_driver(launch, "virtio-serial", controller, controller.model),
        **virtio_properties(controller.driver),
        "id": alias_of(controller),
        "max_ports": controller.ports,
        "vectors": controller.vectors,
    }
    properties.update(address_properties(launch, controller))
    return properties
