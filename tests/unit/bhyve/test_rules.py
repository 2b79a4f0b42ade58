"""bhyve's controllers and slots."""

from __future__ import annotations

import pytest

from actors.bhyve.rules import BhyveRules
from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, XmlError

DISK = "<disk type='file'><source file='/a'/><target dev='{}' bus='{}'/>{}</disk>"
PLACE = "<address type='pci' slot='{}'/>"


def written(devices: str, *, has_many_ports: bool = True) -> str:
    text = (
        "<domain type='bhyve'><name>b</name><uuid>df3be7e7-a104-11e3-aeb0-50e5492bd3dc</uuid><memory>1</memory>"
        f"<os><type>hvm</type></os><devices>{devices}</devices></domain>"
    )
    return write_domain(parse_domain(text, BhyveRules(has_many_ports=has_many_ports), ParseFlags.INACTIVE))


def test_a_root_of_pci_is_always_there() -> None:
    assert "<controller type='pci' index='0' model='pci-root'/>" in written("")


def test_serial_ports_bring_their_bridge_in_the_slot_kept_for_it() -> None:
    text = written("<serial type='nmdm'/>")
    assert "<controller type='isa' index='0'>\n      <address type='pci' domain='0x0000' bus='0x00' slot='0x01'" in text
    assert "master='/dev/nmdmdf3be7e7-a104-11e3-aeb0-50e5492bd3dcA'" in text


def test_the_slot_of_the_bridge_can_be_taken_by_another_device() -> None:
    text = written(DISK.format("vda", "virtio", PLACE.format(1)) + "<serial type='nmdm'/>")
    assert "<controller type='isa' index='0'>\n      <address type='pci' domain='0x0000' bus='0x00' slot='0x02'" in text


@pytest.mark.parametrize(("has_many_ports", "place"), [(True, ("0", "1")), (False, ("1", "0"))])
def test_disks_of_sata_sit_where_their_names_say(has_many_ports: bool, place: tuple[str, str]) -> None:
    text = written(DISK.format("sdb", "sata", ""), has_many_ports=has_many_ports)
    assert f"<address type='drive' controller='{place[0]}' bus='0' target='0' unit='{place[1]}'/>" in text


def test_there_are_only_so_many_slots() -> None:
    names = [f"vd{first}{second}" for first in "ab" for second in "abcdefghijklmnop"]
    with pytest.raises(ConfigUnsupported, match="No more available PCI slots"):
        written("".join(DISK.format(name, "virtio", "") for name in names))


def test_two_devices_cannot_share_a_slot() -> None:
    with pytest.raises(XmlError, match="double use of PCI Address"):
        written("".join(DISK.format(name, "virtio", PLACE.format(5)) for name in ("vda", "vdb")))


def test_a_second_root_is_refused() -> None:
    with pytest.raises(ConfigUnsupported, match="should have index 0"):
        written("<controller type='pci' index='1' model='pci-root'/>")
