"""How new snapshots and checkpoints fit the disks of their guest, and what is left of them."""

from __future__ import annotations

import pytest

from conf.document import parse_document
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.domain.storage_source import FileSource
from conf.flags import ParseFlags, XmlFlags
from conf.moment import tree
from conf.moment.alignment import align_checkpoint, align_snapshot, is_external, name_images, stack_image
from conf.moment.documents import write_moment
from conf.moment.moment import Checkpoint, CheckpointDisk, Snapshot, SnapshotDisk
from conf.moment.rewriting import without_images
from conf.moment.tree import MomentRecord
from schema.enums.domain_snapshot import DomainSnapshotListFlags as Listed
from schema.errors import ConfigUnsupported


def guest() -> Domain:
    """Two disks and an empty drive."""
    disks = (
        "<disk type='file' device='disk'><driver type='qcow2'/><source file='/i/a.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='disk' snapshot='no'><driver type='raw'/><source file='/i/b'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
    )
    xml = (
        "<domain type='qemu'><name>g</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>1024</memory>"
        f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{disks}</devices></domain>"
    )
    return Domain.parse(parse_document(xml, name="domain_definition", root="domain"), ParseFlags.INACTIVE)


def modes(snapshot: Snapshot) -> list[tuple[str, str | None]]:
    return [(one.name, one.snapshot) for one in snapshot.disks]


def test_disks_that_are_not_named_follow_their_own_wish_or_the_default() -> None:
    snapshot = Snapshot(name="s")
    align_snapshot(snapshot, guest(), "external", uniform=False)
    assert modes(snapshot) == [("vda", "external"), ("vdb", "no"), ("sda", "no")]
    name_images(snapshot, guest())
    assert getattr(snapshot.disks[0].source, "file", None) == "/i/a.s" and is_external(snapshot)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([SnapshotDisk(name="vdz")], "no disk named 'vdz'"),
        ([SnapshotDisk(name="vda"), SnapshotDisk(name="/i/a.qcow2")], "disk 'vda' specified twice"),
        ([SnapshotDisk(name="vda", snapshot="no")], "disk 'vda' must use snapshot mode 'internal'"),
        ([SnapshotDisk(name="vda")] * 4, "too many disk snapshot requests for domain"),
        (
            [SnapshotDisk(name="vda", snapshot="internal", source=FileSource(file="/x"))],
            "file '/x' for disk 'vda' requires use of external snapshot mode",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_libvirts_words(asked: list[SnapshotDisk], words: str) -> None:
    with pytest.raises(ConfigUnsupported) as refused:
        align_snapshot(Snapshot(name="s", disks=asked), guest(), "internal", uniform=True)
    assert refused.value.detail == words


def test_a_drive_without_medium_is_recorded_by_nobody() -> None:
    checkpoint = Checkpoint(name="c")
    align_checkpoint(checkpoint, guest())
    assert [(one.name, one.bitmap) for one in checkpoint.disks] == [("vda", "c"), ("vdb", "c"), ("sda", None)]
    with pytest.raises(ConfigUnsupported, match="disk 'sda' is empty or readonly"):
        align_checkpoint(Checkpoint(name="c", disks=[CheckpointDisk(name="sda")]), guest())


def test_a_configuration_keeps_the_image_below_a_new_one() -> None:
    disk = guest().devices.disks[0]
    stack_image(disk, SnapshotDisk(name="vda", snapshot="external", source=FileSource(file="/i/a.s")))
    assert getattr(disk.source, "file", None) == "/i/a.s"
    below = disk.backing_store
    assert below is not None and getattr(below.source, "file", None) == "/i/a.qcow2" and below.backing_store is None


def test_snapshots_forget_an_image_that_went_into_the_one_below() -> None:
    first = Snapshot(name="s1", state="running", creation_time=1)
    first.domain = guest()
    align_snapshot(first, first.domain, "external", uniform=False)
    name_images(first, first.domain)
    second = Snapshot(name="s2", state="running", creation_time=2)
    second.domain = guest()
    stack_image(second.domain.devices.disks[0], first.disks[0])
    text = without_images(write_moment(second, secure=True), first)
    assert "/i/a.s1" not in text and "/i/a.qcow2" in text
    third = Snapshot(name="s3", state="running", creation_time=3)
    third.domain = second.domain.copy()
    stack_image(
        third.domain.devices.disks[0], SnapshotDisk(name="vda", snapshot="external", source=FileSource(file="/i/a.s2"))
    )
    text = without_images(write_moment(third, secure=True), first)
    assert "/i/a.s1" not in text and "/i/a.s2" in text and "/i/a.qcow2" in text
    assert write_domain(guest(), XmlFlags.INACTIVE)


def test_lists_select_by_state_and_place() -> None:
    known = {
        "a": MomentRecord(xml="", state="shutoff"),
        "b": MomentRecord(xml="", parent="a", state="disk-snapshot", external=True),
        "c": MomentRecord(xml="", parent="b", state="running"),
    }
    names = tree.descendants(known, None)
    assert names == ["a", "b", "c"]
    assert tree.selected(known, names, int(Listed.EXTERNAL)) == ["b"]
    assert tree.selected(known, names, int(Listed.DISK_ONLY)) == ["b"]
    assert tree.selected(known, names, int(Listed.ACTIVE)) == ["c"]
    assert tree.selected(known, names, int(Listed.INTERNAL | Listed.LEAVES)) == ["c"]
    assert tree.without(known, "b")["c"].parent == "a"
