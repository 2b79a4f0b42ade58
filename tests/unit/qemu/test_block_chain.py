"""The images of a disk as a list: how callers name them, and how they go back into the definition."""

from __future__ import annotations

import pytest

from actors.qemu.block.chain import (
    Image,
    disk_of_index,
    find_disk,
    find_image,
    highest_number,
    images_of,
    is_same_place,
    put_images,
)
from actors.qemu.guest import parse_live
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource, FileSource
from conf.flags import ParseFlags
from schema.errors import InvalidArguments

DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/top' index='1'/>"
    "<backingStore type='file' index='2'><format type='qcow2'/><source file='/i/mid'/>"
    "<backingStore type='block' index='3'><format type='raw'/><source dev='/dev/vg/base'/><backingStore/>"
    "</backingStore></backingStore><target dev='vda' bus='virtio'/></disk>"
)


def domain_of(devices: str) -> Domain:
    """A running guest's definition with these devices."""
    xml = (
        "<domain type='qemu'><name>g</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>1024</memory>"
        f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
    )
    return parse_live(xml, ParseFlags.STATUS)


def chain() -> list[Image]:
    """Three images, the top one first."""
    return [
        Image(FileSource(file="/i/top"), "qcow2", 1),
        Image(FileSource(file="/i/mid"), "qcow2", 2),
        Image(BlockSource(dev="/dev/vg/base"), "raw", 3),
    ]


def test_images_are_read_and_put_back_as_they_were() -> None:
    disk = domain_of(DISK).devices.disks[0]
    before = disk.copy()
    put_images(disk, chain())
    assert disk == before or [one.path for one in images_of(disk)] == [one.path for one in chain()]
    images = images_of(disk)
    assert [(one.path, one.format, one.index) for one in images] == [
        ("/i/top", "qcow2", 1),
        ("/i/mid", "qcow2", 2),
        ("/dev/vg/base", "raw", 3),
    ]
    put_images(disk, images[2:])
    assert disk.type == "block" and disk.driver is not None and disk.driver.type == "raw"
    assert disk.backing_store is not None and disk.backing_store.source is None, "the chain ends there"


@pytest.mark.parametrize(
    ("name", "place"), [("vda[1]", 0), ("vda[3]", 2), ("/i/mid", 1), ("/i/../i/mid", 1), ("mid", 1), (None, 2)]
)
def test_an_image_is_named_by_number_or_path(name: str | None, place: int) -> None:
    assert find_image(chain(), "vda", name) == place


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("vda[9]", 0, "could not find backing store index '9' in chain for 'vda'"),
        ("vdb[1]", 0, "requested target 'vdb' does not match target 'vda'"),
        ("/nosuch", 0, "could not find image '/nosuch' in chain for 'vda'"),
        ("/i/top", 1, "could not find image '/i/top' beneath '/i/top' in chain for 'vda'"),
        (None, 3, "could not find base image in chain for 'vda'"),
    ],
)
def test_what_is_not_in_the_chain_is_refused_in_libvirts_words(name: str | None, first: int, words: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        find_image(chain(), "vda", name, first)
    assert refused.value.detail == words


def test_disks_and_numbers_are_found() -> None:
    domain = domain_of(DISK)
    assert find_disk(domain, "/i/top") is find_disk(domain, "vda") is not None
    assert find_disk(domain, "/i/mid") is None and find_disk(domain, "top") is None
    found = disk_of_index(domain, 3)
    assert found is not None and found[1].path == "/dev/vg/base"
    assert disk_of_index(domain, 4) is None and highest_number(domain) == 3


def test_places_are_the_same_whatever_their_number() -> None:
    assert is_same_place(FileSource(file="/a", index=1), FileSource(file="/a"))
    assert not is_same_place(FileSource(file="/a"), BlockSource(dev="/a"))
    assert not is_same_place(FileSource(file="/a"), None)
