"""What QEMU's controllers cannot do, in libvirt's words."""

from __future__ import annotations

from actors.qemu import rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import CcwAddress, PciAddress
from conf.domain.controller import Controller, ControllerType, PciModel, PciTarget
from conf.domain.defaults_processor import iothread_ids
from conf.domain.domain import Domain
from schema.errors import ConfigUnsupported, XmlError

_MAX_XHCI_PORTS = 15
_VIRTIO_SCSI = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")
_SCSI_FLAGS = {
    "lsilogic": ("lsi", "the LSI 53C895A SCSI controller"),
    "virtio-scsi": ("virtio-scsi-pci", "virtio scsi controller"),
    "virtio-transitional": ("virtio-scsi-pci", "virtio scsi controller"),
    "virtio-non-transitional": ("virtio-scsi-pci", "virtio scsi controller"),
    "lsisas1068": ("mptsas1068", "the LSI SAS1068 (MPT Fusion) controller"),
    "lsisas1078": ("megasas", "the LSI SAS1078 (MegaRAID) controller"),
    "vmpvscsi": ("pvscsi", "the pvscsi (VMware paravirtual SCSI) controller"),
    "ncr53c90": ("ncr53c90", "the NCR53C90 (ESP) controller"),
    "dc390": ("dc390", "the DC390 (ESP) controller"),
    "am53c974": ("am53c974", "the AM53C974 (ESP) controller"),
}
_PORTS = (PciModel.PCIE_ROOT_PORT, PciModel.PCIE_SWITCH_DOWNSTREAM_PORT)
_EXPANDERS = (PciModel.PCI_EXPANDER_BUS, PciModel.PCIE_EXPANDER_BUS)
_ROOTS = (PciModel.PCI_ROOT, PciModel.PCIE_ROOT)
_PCI_DEVICES = {
    PciModel.PCI_BRIDGE: ("pci-bridge",),
    PciModel.DMI_TO_PCI_BRIDGE: ("i82801b11-bridge",),
    PciModel.PCIE_TO_PCI_BRIDGE: ("pcie-pci-bridge",),
    PciModel.PCIE_ROOT_PORT: ("ioh3420", "pcie-root-port"),
    PciModel.PCIE_SWITCH_UPSTREAM_PORT: ("x3130-upstream",),
    PciModel.PCIE_SWITCH_DOWNSTREAM_PORT: ("xio3130-downstream",),
    PciModel.PCI_EXPANDER_BUS: ("pxb",),
    PciModel.PCIE_EXPANDER_BUS: ("pxb-pcie",),
}
"""The devices that QEMU has for each model."""
_OTHER_NAMES = {"i82801b11-bridge": "dmi-to-pci-bridge"}
"""PCI controllers that libvirt calls otherwise."""


def check_kind(controller: Controller, domain: Domain) -> None:
    """Refuses a controller that the machine has no place for. Raises ConfigUnsupported, XmlError."""
    if controller.model in ("nec-xhci", "qemu-xhci") and (controller.ports or 0) > _MAX_XHCI_PORTS:
        raise ConfigUnsupported(f"'{controller.model}' controller only supports up to '{_MAX_XHCI_PORTS}' ports")
    if controller.type is ControllerType.USB and controller.model in ("qusb1", "qusb2"):
        raise ConfigUnsupported("USB controller model type 'qusb1' or 'qusb2' is not supported in " + domain.type.value)
    if controller.type is not ControllerType.PCI:
        return
    model = controller.model
    if model in _ROOTS and controller.index != 0 and not rules_machine.is_pseries(domain):
        raise XmlError("pci-root and pcie-root controllers should have index 0")
    if model == PciModel.PCI_EXPANDER_BUS and not rules_machine.is_i440fx(domain):
        raise ConfigUnsupported("pci-expander-bus controllers are only supported on 440fx-based machinetypes")
    if model == PciModel.PCIE_EXPANDER_BUS and not (rules_machine.is_q35(domain) or rules_machine.is_arm_virt(domain)):
        raise ConfigUnsupported("pcie-expander-bus controllers are not supported with this machine type")
    node = controller.target.node if controller.target is not None else None
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if node is not None and node >= len(cells):
        raise XmlError(
            f"{model} with index {controller.index} is configured for a NUMA node ({node}) not present "
            f"in the domain's <cpu><numa> array ({len(cells)})"
        )


def check(controller: Controller, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a controller that QEMU cannot provide. Raises ConfigUnsupported."""
    match controller.type:
        case ControllerType.SCSI:
            _check_scsi(controller, domain, capabilities)
        case ControllerType.IDE:
            if rules_machine.has_builtin_ide(domain):
                if controller.index:
                    raise ConfigUnsupported("Only a single IDE controller is supported for this machine type")
            else:
                raise ConfigUnsupported("IDE controllers are unsupported for this QEMU binary or machine type")
        case ControllerType.SATA:
            builtin = controller.index == 0 and rules_machine.is_q35(domain)
            if not builtin and capabilities.lacks("ich9-ahci"):
                raise ConfigUnsupported("SATA is not supported with this QEMU binary")
        case ControllerType.PCI:
            _check_pci(controller, domain, capabilities)
        case _:
            pass
    _check_attributes(controller)


def _check_attributes(controller: Controller) -> None:
    if controller.driver is None or (controller.type is ControllerType.SCSI and controller.model in _VIRTIO_SCSI):
        return
    for name, verb in (
        ("queues", "by"),
        ("cmd_per_lun", "by"),
        ("max_sectors", "by"),
        ("ioeventfd", "by"),
        ("iothread", "for"),
    ):
        if getattr(controller.driver, name):
            raise ConfigUnsupported(f"'{name}' is only supported {verb} virtio-scsi controller")


def _check_scsi(controller: Controller, domain: Domain, capabilities: Capabilities) -> None:
    if controller.model == "ncr53c90":
        if controller.index:
            raise ConfigUnsupported("ncr53c90 can only be used as first SCSI controller")
        if not _has_builtin_esp(controller, domain):
            raise ConfigUnsupported("ncr53c90 SCSI controller is not a built-in for this machine")
    if controller.model in ("auto", "buslogic"):
        raise ConfigUnsupported(f"Unsupported controller model: {controller.model}")
    known = _SCSI_FLAGS.get(controller.model or "")
    if known is not None and capabilities.lacks(known[0]) and not _has_builtin_esp(controller, domain):
        raise ConfigUnsupported(f"This QEMU doesn't support {known[1]}")
    thread = controller.driver.iothread if controller.driver is not None else None
    if thread and controller.model in _VIRTIO_SCSI:
        if controller.address is not None and not isinstance(controller.address, PciAddress | CcwAddress):
            raise ConfigUnsupported("virtio-scsi IOThreads only available for virtio pci and virtio ccw controllers")
        if thread not in iothread_ids(domain):
            raise ConfigUnsupported(f"controller iothread '{thread}' not defined in iothreadid")


def _has_builtin_esp(controller: Controller, domain: Domain) -> bool:
    if controller.model != "ncr53c90":
        return False
    return rules_machine.arch_of(domain).startswith("sparc") or rules_machine.machine_of(domain) in (
        "magnum",
        "pica61",
    )


class _Option:
    """Words for what is wrong with one option of a PCI controller."""

    def __init__(self, controller: Controller) -> None:
        self.where = (
            f"PCI controller with index '{controller.index}', model '{controller.model}' "
            f"and modelName '{controller.model_name or 'none'}'"
        )

    def surplus(self, name: str) -> ConfigUnsupported:
        return ConfigUnsupported(f"Option '{name}' is not valid for {self.where}")

    def missing(self, name: str) -> ConfigUnsupported:
        return ConfigUnsupported(f"Required option '{name}' is not set for {self.where}")

    def wrong(self, name: str) -> ConfigUnsupported:
        return ConfigUnsupported(f"Option '{name}' has invalid value for {self.where}")


def _check_pci(controller: Controller, domain: Domain, capabilities: Capabilities) -> None:
    option = _Option(controller)
    model = PciModel(controller.model) if controller.model is not None else None
    if model is None:
        return
    pseries = rules_machine.is_pseries(domain)
    _check_model_name(controller, model, option, pseries=pseries)
    if model not in _ROOTS and controller.index == 0:
        raise ConfigUnsupported(f"Index for '{model.value}' controllers must be > 0")
    target = controller.target or PciTarget()
    is_port, is_expander = model in _PORTS, model in _EXPANDERS
    is_host_bridge = model is PciModel.PCI_ROOT and pseries
    if is_host_bridge and target.index is None:
        raise option.missing("targetIndex")
    if not is_host_bridge and target.index is not None:
        raise option.surplus("targetIndex")
    if controller.pcihole64_kib:
        if model not in _ROOTS:
            raise option.surplus("pcihole64")
        machine = rules_machine.machine_of(domain)
        possible = rules_machine.is_i440fx(domain) if model is PciModel.PCI_ROOT else rules_machine.is_q35(domain)
        if not possible:
            raise ConfigUnsupported(f"Setting the 64-bit PCI hole size is not supported for machine '{machine}'")
    for name, value, wanted in (
        ("busNr", target.bus_nr, is_expander),
        ("chassisNr", target.chassis_nr, model is PciModel.PCI_BRIDGE),
        ("chassis", target.chassis, is_port),
        ("port", target.port, is_port),
    ):
        if wanted and value is None:
            raise option.missing(name)
        if not wanted and value is not None:
            raise option.surplus(name)
    if target.node is not None and not is_expander:
        if not is_host_bridge:
            raise option.surplus("numaNode")
        if capabilities.lacks("spapr-pci-host-bridge.numa_node"):
            raise ConfigUnsupported(
                f"Option 'numaNode' is not supported by '{controller.model_name}' device with this QEMU binary"
            )
    _check_hotplug(controller, model, domain, capabilities, option)
    _check_offered(controller, capabilities)


def _check_model_name(controller: Controller, model: PciModel, option: _Option, *, pseries: bool) -> None:
    name = controller.model_name
    if model in _ROOTS:
        if model is PciModel.PCI_ROOT and pseries:
            if name != "spapr-pci-host-bridge":
                raise option.wrong("modelName")
        elif name is not None:
            raise option.surplus("modelName")
    elif name is None:
        raise option.missing("modelName")
    elif name not in _PCI_DEVICES[model]:
        raise option.wrong("modelName")


def _check_hotplug(
    controller: Controller, model: PciModel, domain: Domain, capabilities: Capabilities, option: _Option
) -> None:
    if controller.target is None or controller.target.hotplug is None:
        return
    if model is PciModel.PCI_ROOT and rules_machine.is_i440fx(domain):
        possible = not capabilities.lacks("piix4.acpi-root-pci-hotplug")
    elif model in _PORTS:
        possible = not capabilities.lacks("pcie-root-port.hotplug")
    else:
        raise option.surplus("hotplug")
    if not possible:
        name = controller.model_name or controller.model
        raise ConfigUnsupported(
            f"setting the 'hotplug' property on a '{name}' device is not supported by this QEMU binary"
        )


def _check_offered(controller: Controller, capabilities: Capabilities) -> None:
    name = controller.model_name
    if name is not None and capabilities.lacks(_OTHER_NAMES.get(name, name)):
        raise ConfigUnsupported(f"The '{name}' device is not supported by this QEMU binary")
