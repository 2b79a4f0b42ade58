from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.records import Facts, Record
from actors.qemu.statistics_off import image_paths, look_at_images, part_of
from schema.enums.domain_resources import DomainStatsTypes as StatsTypes
from schema.objects import DomainStatsRecord

ALL = int(StatsTypes.STATE | StatsTypes.BALLOON | StatsTypes.VCPU | StatsTypes.BLOCK)
XML = (
    "<domain type='qemu'><name>web1</name><uuid>c392d804-a481-463a-92cb-27325f277164</uuid><memory>65536</memory>"
    "<vcpu current='2'>4</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda'/>"
    "</disk></devices></domain>"
)


def guest(**values: Any) -> Guest:
    facts = Facts(max_mem=65536, mem=32768, vcpus=2, vcpus_max=4, **{"disks": (), **values})
    return Guest(Record(uuid="c392d804-a481-463a-92cb-27325f277164", name="web1", xml="<domain/>", facts=facts), "s")


def told(guest: Guest, wanted: int = ALL) -> dict[str, object]:
    part = part_of(guest, wanted, look_at_images(image_paths([guest])))
    record = msgspec.msgpack.decode(part, type=DomainStatsRecord)
    assert (record.dom.name, record.dom.uuid, record.dom.id) == ("web1", guest.key, -1)
    return {param.field: param.value for param in record.params}


def test_what_a_guest_that_is_off_tells() -> None:
    assert told(guest()) == {
        "state.state": 5,
        "state.reason": 0,
        "balloon.current": 32768,
        "balloon.maximum": 65536,
        "vcpu.current": 2,
        "vcpu.maximum": 4,
        "block.count": 0,
    }
    assert told(guest(), int(StatsTypes.VCPU)) == {"vcpu.current": 2, "vcpu.maximum": 4}


def test_it_is_packed_once_for_as_long_as_the_document_stays() -> None:
    one = guest()
    first = part_of(one, ALL, {})
    assert part_of(one, ALL, {}) is first
    one.adopt(msgspec.structs.replace(one.record, facts=msgspec.structs.replace(one.record.facts, mem=1024)))
    assert told(one)["balloon.current"] == 1024
    assert told(one, int(StatsTypes.STATE)) == {"state.state": 5, "state.reason": 0}


def test_images_are_told_as_they_are_now(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    one = guest(disks=(("vda", str(image), "raw"), ("sda", "", "raw")))
    fixed = {"block.count": 2, "block.0.name": "vda", "block.0.path": str(image), "block.1.name": "sda"}
    assert told(one, int(StatsTypes.BLOCK)) == fixed
    image.write_bytes(b"x" * 5000)
    sizes = told(one, int(StatsTypes.BLOCK))
    assert (sizes["block.0.capacity"], sizes["block.0.physical"]) == (5000, 5000)
    with image.open("ab") as file:
        file.truncate(9000)
    assert told(one, int(StatsTypes.BLOCK))["block.0.physical"] == 9000
    image.unlink()
    assert told(one, int(StatsTypes.BLOCK)) == fixed


def test_the_capacity_of_an_image_is_what_it_says_of_itself(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    head = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 30).to_bytes(8, "big")
    image.write_bytes(head.ljust(512, b"\0"))
    one = guest(disks=(("vda", str(image), "qcow2"),))
    assert told(one, int(StatsTypes.BLOCK))["block.0.capacity"] == 1 << 30
    image.write_bytes(b"nothing of the kind")
    assert told(one, int(StatsTypes.BLOCK))["block.0.capacity"] == 19


def test_documents_of_before_the_disks_were_noted_are_read() -> None:
    old = guest()
    old.adopt(msgspec.structs.replace(old.record, xml=XML.format("/nowhere/a.qcow2"), facts=Facts(vcpus=2)))
    found = told(old)
    assert (found["vcpu.maximum"], found["block.count"]) == (4, 1)
    assert found["block.0.path"] == "/nowhere/a.qcow2"
