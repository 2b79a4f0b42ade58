"""Places on buses: what is taken, what is next, what is added."""

from __future__ import annotations

import pytest

from conf.domain.address import PciAddress, UsbAddress
from conf.domain.addresses.chipset import i440fx, q35
from conf.domain.addresses.mainframe import assign_ccw, assign_spapr_vio
from conf.domain.addresses.pci import PciOptions, assign_pci
from conf.domain.addresses.pci_buses import Connect, PciBuses, new_bus
from conf.domain.addresses.usb import assign_usb
from conf.domain.addresses.virtio_serial import assign_virtio_serial
from conf.domain.aliases import assign_aliases, clear_aliases, next_alias
from conf.domain.controller import ControllerType, PciModel
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from schema.errors import RefusedDocument, XmlError

DEVICE = Connect.PCI_DEVICE | Connect.HOTPLUG
EXPRESS = Connect.PCIE_DEVICE | Connect.HOTPLUG


def domain_of(devices: str) -> Domain:
    return parse_domain(
        "<domain type='test'><name>a</name><memory>1</memory><os><type arch='x86_64'>hvm</type></os>"
        f"<devices>{devices}</devices></domain>"
    )


def test_conventional_devices_fill_slots_in_order() -> None:
    buses = PciBuses([new_bus(PciModel.PCI_ROOT)])
    assert [buses.take_next(DEVICE).slot for _ in range(3)] == [1, 2, 3]
    buses.reserve(PciAddress(slot=4), DEVICE)
    assert buses.take_next(DEVICE).slot == 5


def test_a_full_bus_gets_a_bridge() -> None:
    buses = PciBuses([new_bus(PciModel.PCI_ROOT)])
    places = [buses.take_next(DEVICE) for _ in range(32)]
    assert (places[-1].bus, places[-1].slot) == (1, 1)
    assert buses.buses[1].model is PciModel.PCI_BRIDGE


def test_express_devices_get_root_ports() -> None:
    buses = PciBuses([new_bus(PciModel.PCIE_ROOT)])
    assert [buses.take_next(EXPRESS).bus for _ in range(3)] == [1, 2, 3]
    assert all(bus.model is PciModel.PCIE_ROOT_PORT for bus in buses.buses[1:])


def test_conventional_devices_on_express_get_a_bridge_behind_a_port_of_its_own() -> None:
    buses = PciBuses([new_bus(PciModel.PCIE_ROOT)])
    assert buses.take_next(DEVICE).bus == 2
    assert [bus.model for bus in buses.buses[1:]] == [PciModel.PCIE_ROOT_PORT, PciModel.PCIE_TO_PCI_BRIDGE]
    assert buses.take_next(EXPRESS).bus == 3


def test_root_ports_share_a_slot() -> None:
    buses = PciBuses([new_bus(PciModel.PCIE_ROOT)])
    needs = Connect.PCIE_ROOT_PORT | Connect.AGGREGATE
    places = [buses.take_next(needs) for _ in range(9)]
    assert [(one.slot, one.function) for one in places] == [(1, n) for n in range(8)] + [(2, 0)]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (PciAddress(slot=32), "slot must be <= 31"),
        (PciAddress(slot=0, function=1), "slot must be >= 1"),
        (PciAddress(domain=1, slot=1), "Only PCI domain 0 is available"),
        (PciAddress(bus=300, slot=1), "bus must be <= 255"),
    ],
)
def test_places_that_do_not_exist_are_refused(address: PciAddress, message: str) -> None:
    buses = PciBuses([new_bus(PciModel.PCI_ROOT)])
    with pytest.raises(XmlError, match=message):
        buses.reserve(address, DEVICE)


def test_a_place_is_given_once() -> None:
    buses = PciBuses([new_bus(PciModel.PCI_ROOT)])
    buses.reserve(PciAddress(slot=3), DEVICE)
    with pytest.raises(XmlError, match=r"Attempted double use of PCI Address 0000:00:03\.0"):
        buses.reserve(PciAddress(slot=3), DEVICE)


def test_old_pc() -> None:
    domain = domain_of(
        "<controller type='pci' index='0' model='pci-root'/><controller type='usb' index='0' model='piix3-uhci'/>"
        "<disk type='file'><source file='/x'/><target dev='vda'/></disk><disk type='file'><source file='/x'/>"
        "<target dev='hda'/></disk>"
        "<interface type='user'><model type='e1000'/></interface><video><model type='cirrus'/></video>"
    )
    assign_pci(domain, PciOptions(chipset=i440fx))
    found = {str(device.address) for device in domain.devices.all() if isinstance(device.address, PciAddress)}
    assert found == {"0000:00:01.1", "0000:00:01.2", "0000:00:02.0", "0000:00:03.0", "0000:00:04.0"}
    assert str(domain.devices.videos[0].address) == "0000:00:02.0"


def test_new_pc_gets_a_spare_port_once() -> None:
    domain = domain_of(
        "<controller type='pci' index='0' model='pcie-root'/><controller type='sata' index='0'/>"
        "<interface type='user'><model type='virtio'/></interface>"
    )
    assign_pci(domain, PciOptions(chipset=q35))
    ports = [one for one in domain.devices.controllers if one.model == PciModel.PCIE_ROOT_PORT]
    assert [str(one.address) for one in ports] == ["0000:00:01.0", "0000:00:01.1"]
    assert isinstance(ports[0].address, PciAddress)
    assert ports[0].address.multifunction is True
    assert [one.target.port for one in ports if one.target is not None] == [8, 9]
    before = domain.copy()
    assign_pci(domain, PciOptions(chipset=q35))
    assert domain == before


def test_primary_controllers_have_their_place() -> None:
    domain = domain_of(
        "<controller type='pci' index='0' model='pci-root'/><controller type='ide' index='0'>"
        "<address type='pci' slot='5'/></controller>"
    )
    with pytest.raises(RefusedDocument, match=r"Primary IDE controller must have PCI address 0:0:1\.1"):
        assign_pci(domain, PciOptions(chipset=i440fx))


def test_usb_ports_and_hubs() -> None:
    domain = domain_of("<controller type='usb' index='0' model='piix3-uhci'/>" + "<redirdev bus='usb' type='pty'/>" * 3)
    assign_usb(domain)
    ports = [one.address.port for one in domain.devices.redirdevs if isinstance(one.address, UsbAddress)]
    assert len(domain.devices.hubs) == 1
    assert ports == ["2", "1.1", "1.2"]


def test_usb_port_is_given_once() -> None:
    domain = domain_of(
        "<controller type='usb' index='0' model='piix3-uhci'/>"
        + "<redirdev bus='usb' type='pty'><address type='usb' bus='0' port='1'/></redirdev>" * 2
    )
    with pytest.raises(XmlError, match="Duplicate USB address"):
        assign_usb(domain)


def test_virtio_serial_ports_begin_at_one_for_channels() -> None:
    domain = domain_of(
        "<controller type='virtio-serial' index='0' ports='3'/>"
        + "".join(f"<channel type='pty'><target type='virtio' name='c{n}'/></channel>" for n in range(3))
    )
    assign_virtio_serial(domain)
    places = [(one.address.controller, one.address.port) for one in domain.devices.channels]  # type: ignore[union-attr]
    assert places == [(0, 1), (0, 2), (1, 1)]


def test_channels_of_a_mainframe_are_numbered() -> None:
    domain = domain_of(
        "<disk type='file'><source file='/x'/><target dev='vda'/>"
        "<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0000'/></disk>"
        "<disk type='file'><source file='/x'/><target dev='vdb'/><address type='ccw'/></disk>"
    )
    assign_ccw(domain)
    assert [one.address.devno for one in domain.devices.disks] == [0, 1]  # type: ignore[union-attr]


def test_registers_of_power_are_counted_on() -> None:
    domain = domain_of("<interface type='user'/><interface type='user'/>")
    for interface in domain.devices.interfaces:
        assign_spapr_vio(domain, interface, 0x1000)
    assert [one.address.reg for one in domain.devices.interfaces] == [0x1000, 0x2000]  # type: ignore[union-attr]


def test_aliases() -> None:
    domain = domain_of(
        "<controller type='pci' index='0' model='pci-root'/><controller type='usb' index='0'/>"
        "<disk type='file'><source file='/x'/><target dev='vdb'/></disk><disk type='file'><source file='/x'/>"
        "<target dev='hda'/></disk>"
        "<disk type='file'><source file='/x'/><target dev='sdb'/></disk>"
        "<interface type='user'><alias name='ua-mine'/></interface><interface type='user'/>"
        "<serial type='pty'/><memballoon model='virtio'/>"
    )
    assign_aliases(domain, builtin=lambda one: "ide" if one.type is ControllerType.IDE else None)
    found = [device.alias for device in domain.devices.all()]
    for alias in ("virtio-disk1", "ide0-0-0", "scsi0-0-0-1", "ua-mine", "net0", "serial0", "balloon0", "pci.0", "usb"):
        assert alias in found
    assert "ide" in found
    assert next_alias(domain.devices.interfaces, "net") == "net1"
    clear_aliases(domain)
    assert [device.alias for device in domain.devices.all() if device.alias] == ["ua-mine"]
