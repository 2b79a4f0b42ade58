"""Snapshots and checkpoints: their tree, what going back does, what a deletion leaves."""

from pathlib import Path
from typing import Any

import pytest

from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    InternalError,
    NoSuchCheckpoint,
    NoSuchSnapshot,
    OperationFailed,
    OperationUnsupported,
)
from schema.objects import DomainCheckpointRef, DomainSnapshotRef
from tests.unit.test_driver.house import House, open_house

STARTED, SUSPENDED, STOPPED = 2, 3, 5
HALT, PAUSED, REDEFINE = 8, 2, 1


async def snap(house: House, name: str, flags: int = 0, inside: str = "") -> DomainSnapshotRef:
    xml = f"<domainsnapshot><name>{name}</name>{inside}</domainsnapshot>"
    dom = await house.domain("test")
    ref: DomainSnapshotRef = (await house.call("domain_snapshot_create_xml", dom=dom, xml_desc=xml, flags=flags)).snap
    return ref


async def names(house: House, flags: int = 0) -> list[str]:
    found = await house.call("domain_list_all_snapshots", dom=await house.domain("test"), need_results=1, flags=flags)
    return [one.name for one in found.snapshots]


async def current(house: House) -> Any:
    dom = await house.domain("test")
    if not (await house.call("domain_has_current_snapshot", dom=dom, flags=0)).result:
        return None
    return (await house.call("domain_snapshot_current", dom=dom, flags=0)).snap.name


async def test_each_snapshot_is_the_child_of_the_one_before(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        first = await snap(house, "a")
        second = await snap(house, "b")
        await snap(house, "c")
        assert (await house.call("domain_snapshot_get_parent", snap=second, flags=0)).snap.name == "a"
        with pytest.raises(NoSuchSnapshot, match="snapshot 'a' does not have a parent"):
            await house.call("domain_snapshot_get_parent", snap=first, flags=0)
        assert await names(house) == ["a", "b", "c"]
        assert await names(house, 1) == ["a"]
        assert await names(house, 4) == ["c"]
        assert await names(house, 8) == ["a", "b"]
        assert await names(house, 16) == []
        after = await house.call("domain_snapshot_list_all_children", snapshot=first, need_results=1, flags=0)
        assert [one.name for one in after.snapshots] == ["b"]
        assert (await house.call("domain_snapshot_num_children", snap=first, flags=1)).num == 2
        assert await current(house) == "c"
        assert (await house.call("domain_snapshot_is_current", snap=first, flags=0)).current == 0
        assert (await house.call("domain_snapshot_has_metadata", snap=first, flags=0)).metadata == 1
        with pytest.raises(OperationFailed, match="domain moment a already exists"):
            await snap(house, "a")


async def test_going_back_restarts_the_guest_as_it_was(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        saved = await snap(house, "a")
        dom = await house.domain("test")
        await house.call("domain_set_memory", dom=dom, memory=1024)
        house.told()
        await house.call("domain_revert_to_snapshot", snap=saved, flags=0)
        assert house.told() == [(STOPPED, 6), (STARTED, 3)]
        assert (await house.domain("test")).id == 2
        assert await house.state(dom) == (1, 4)
        assert (await house.call("domain_get_info", dom=dom)).memory == 2097152
        await house.call("domain_revert_to_snapshot", snap=saved, flags=PAUSED)
        assert house.told() == [(STOPPED, 6), (STARTED, 3), (SUSPENDED, 5)]
        assert await house.state(dom) == (3, 7)


async def test_halt_ends_the_guest_and_an_off_state_keeps_it_off(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        house.told()
        await snap(house, "running", HALT)
        assert await house.state(dom) == (5, 7)
        off = await snap(house, "off")
        await house.call("domain_create", dom=dom)
        await house.call("domain_revert_to_snapshot", snap=off, flags=0)
        assert house.told() == [(STOPPED, 6), (STARTED, 0), (STOPPED, 6)]
        assert await names(house, 32) == ["off"]
        with pytest.raises(DomainStateError, match="cannot delete inactive domain with 2 snapshots"):
            await house.call("domain_undefine", dom=dom)


async def test_deletion_leaves_children_to_the_parent(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        refs = {name: await snap(house, name) for name in "abcd"}
        await house.call("domain_snapshot_delete", snap=refs["b"], flags=0)
        xml = (await house.call("domain_snapshot_get_xml_desc", snap=refs["c"], flags=0)).xml
        assert "<parent>\n    <name>a</name>\n  </parent>" in xml
        await house.call("domain_snapshot_delete", snap=refs["a"], flags=4)
        assert await names(house) == ["a"]
        assert await current(house) == "a"
        await house.call("domain_snapshot_delete", snap=refs["a"], flags=1)
        assert await names(house) == []
        assert await current(house) is None
        with pytest.raises(NoSuchSnapshot, match="no domain snapshot with matching name 'a'"):
            await house.call("domain_snapshot_delete", snap=refs["a"], flags=0)


async def test_document_of_a_snapshot_makes_it_known_again(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        saved = await snap(house, "a")
        xml = (await house.call("domain_snapshot_get_xml_desc", snap=saved, flags=1)).xml
        assert "<memory snapshot='internal'/>" in xml
        assert "<disk name='vda' snapshot='internal'/>" in xml
        dom = await house.domain("test")
        await house.call("domain_snapshot_delete", snap=saved, flags=0)
        await house.call("domain_snapshot_create_xml", dom=dom, xml_desc=xml, flags=REDEFINE)
        again = (await house.call("domain_snapshot_lookup_by_name", dom=dom, name="a", flags=0)).snap
        assert (await house.call("domain_snapshot_get_xml_desc", snap=again, flags=1)).xml == xml
        with pytest.raises(InternalError, match="missing creationTime from existing snapshot"):
            await snap(house, "b", REDEFINE)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<disks><disk name='vdz'/></disks>", "no disk named 'vdz'"),
        ("<disks><disk name='vda' snapshot='external'/></disks>", "disk 'vda' must use snapshot mode 'internal'"),
    ],
)
async def test_disk_that_cannot_be_saved_so_is_refused(tmp_path: Path, inside: str, message: str) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(ConfigUnsupported, match=message):
            await snap(house, "a", inside=inside)


async def test_checkpoints_have_their_own_tree(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")

        async def make(name: str) -> DomainCheckpointRef:
            xml = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
            made = await house.call("domain_checkpoint_create_xml", dom=dom, xml_desc=xml, flags=0)
            ref: DomainCheckpointRef = made.checkpoint
            return ref

        first, second = await make("a"), await make("b")
        assert (await house.call("domain_checkpoint_get_parent", checkpoint=second, flags=0)).parent.name == "a"
        with pytest.raises(NoSuchCheckpoint, match="does not have a parent"):
            await house.call("domain_checkpoint_get_parent", checkpoint=first, flags=0)
        listed = await house.call("domain_list_all_checkpoints", dom=dom, need_results=1, flags=0)
        assert [one.name for one in listed.checkpoints] == ["a", "b"]
        after = await house.call("domain_checkpoint_list_all_children", checkpoint=first, need_results=0, flags=0)
        assert (after.checkpoints, after.ret) == ([], 1)
        xml = (await house.call("domain_checkpoint_get_xml_desc", checkpoint=second, flags=2)).xml
        assert "<disk name='vda' checkpoint='bitmap' bitmap='b'/>" in xml
        assert "<domain type" not in xml
        with pytest.raises(OperationUnsupported, match="cannot create snapshot while checkpoint exists"):
            await snap(house, "x")
        await house.call("domain_checkpoint_delete", checkpoint=first, flags=0)
        found = (await house.call("domain_checkpoint_lookup_by_name", dom=dom, name="b", flags=0)).checkpoint
        with pytest.raises(NoSuchCheckpoint, match="does not have a parent"):
            await house.call("domain_checkpoint_get_parent", checkpoint=found, flags=0)
