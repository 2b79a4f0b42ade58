"""Whose files of guests were: taken once for all, given back once, whatever step a driver dies at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.qemu.owning import register as register_module
from actors.qemu.owning import xattrs
from actors.qemu.owning.files import GuestFile, files_of_guest
from actors.qemu.owning.identity import Owner, identity_of, note_identity, parse_label
from actors.qemu.owning.register import Register, owner_of
from actors.qemu.owning.xattrs import Memory
from actors.qemu.rules import QemuRules
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from schema.errors import InvalidArguments, OperationFailed
from settings.qemu import QemuSettings
from tests.unit.qemu.emulators import capabilities

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
FIRST, GUESTS, OTHERS = Owner(1234, 1235), Owner(64055, 64055), Owner(2000, 2000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"x")
    os.chown(path, FIRST.uid, FIRST.gid)
    return path


def faults(found: list[str]) -> Callable[[str, str], None]:
    return lambda what, error: found.append(f"{what}: {error}")


def register(tmp_path: Path, found: list[str] | None = None) -> Register:
    one = Register(tmp_path / "owners", faults([] if found is None else found))
    one.read()
    return one


def has_memory(path: Path) -> bool:
    return xattrs.write_memory(str(path), Memory(FIRST, 1)) and xattrs.forget_memory(str(path)) is None


@root_only
def test_a_file_goes_back_with_its_last_user(tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    for holder in ("a/1", "b/2", "a/1"):
        owners.give(str(file), GUESTS, holder, returns=True)
    assert owner_of(str(file)) == GUESTS
    owners.take_back(str(file), "a/1")
    assert owner_of(str(file)) == GUESTS and owners.held_by("b/2") == {str(file)}
    owners.keep_only("b/2", ())
    assert owner_of(str(file)) == FIRST and not owners.takings and not list((tmp_path / "owners").iterdir())
    assert xattrs.read_memory(str(file)) is None


@root_only
def test_two_owners_at_once_are_refused(tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    owners.give(str(file), GUESTS, "a/1", returns=True)
    for returns in (True, False):
        with pytest.raises(OperationFailed, match="already in use"):
            owners.give(str(file), OTHERS, "b/2", returns=returns)
    assert owner_of(str(file)) == GUESTS


@root_only
def test_two_drivers_count_together(tmp_path: Path, file: Path) -> None:
    if not has_memory(file):
        pytest.skip("this file system remembers nothing on files")
    one, two = register(tmp_path / "1"), register(tmp_path / "2")
    one.give(str(file), GUESTS, "a/1", returns=True)
    two.give(str(file), GUESTS, "b/1", returns=True)
    assert xattrs.read_memory(str(file)) == Memory(FIRST, 2)
    with pytest.raises(OperationFailed, match="already in use"):
        register(tmp_path / "3").give(str(file), OTHERS, "c/1", returns=True)
    one.take_back(str(file), "a/1")
    assert owner_of(str(file)) == GUESTS
    two.take_back(str(file), "b/1")
    assert owner_of(str(file)) == FIRST and xattrs.read_memory(str(file)) is None


class Killed(BaseException):
    """The driver died here."""


def killing(at: int, patch: pytest.MonkeyPatch) -> None:
    """The so many-th step of what changes a file or the register is the last one."""
    steps = {"count": 0}

    def wrapped(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            steps["count"] += 1
            if steps["count"] == at:
                raise Killed
            value = real(*args, **kwargs)
            if steps["count"] == -at:
                raise Killed
            return value

        return step

    patch.setattr(Register, "_put", wrapped(Register._put))
    patch.setattr(Register, "_drop", wrapped(Register._drop))
    patch.setattr(register_module, "_change", wrapped(register_module._change))
    patch.setattr(xattrs, "write_memory", wrapped(xattrs.write_memory))
    patch.setattr(xattrs, "forget_memory", wrapped(xattrs.forget_memory))


@root_only
@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("at", range(1, 12))
def test_a_driver_that_dies_at_any_step_leaves_its_successor_the_rest(
    at: int, others: int, tmp_path: Path, file: Path
) -> None:
    neighbour = register(tmp_path / "neighbour")
    if others:
        neighbour.give(str(file), GUESTS, "n/1", returns=True)
    owners = register(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        killing(at, patch)
        try:
            owners.give(str(file), GUESTS, "a/1", returns=True)
            owners.take_back(str(file), "a/1")
        except Killed:
            pass
    successor = register(tmp_path)
    successor.finish_all(lambda holder: False)
    if others and has_memory_of(neighbour):
        assert owner_of(str(file)) == GUESTS
        assert xattrs.read_memory(str(file)) == Memory(FIRST, 1)
        neighbour.take_back(str(file), "n/1")
    assert owner_of(str(file)) == FIRST
    assert not successor.takings and xattrs.read_memory(str(file)) is None


def has_memory_of(owners: Register) -> bool:
    return all(one.count is not None for one in owners.takings)


@root_only
@pytest.mark.parametrize("at", range(1, 6))
def test_a_guest_that_runs_has_its_file_whatever_its_driver_came_to(at: int, tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        killing(at, patch)
        try:
            owners.give(str(file), GUESTS, "a/1", returns=True)
        except Killed:
            pass
    successor = register(tmp_path)
    known = bool(successor.takings)
    successor.finish_all(lambda holder: holder == "a/1")
    if known:
        assert owner_of(str(file)) == GUESTS
        successor.take_back(str(file), "a/1")
    assert owner_of(str(file)) == FIRST and xattrs.read_memory(str(file)) is None


@root_only
def test_after_another_boot_everything_goes_back(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = register(tmp_path)
    owners.give(str(file), GUESTS, "a/1", returns=True)
    monkeypatch.setattr(register_module, "boot_id", lambda: "another boot")
    monkeypatch.setattr(xattrs, "boot_mark", lambda: "1")
    later = register(tmp_path)
    later.finish_all(lambda holder: True)
    assert owner_of(str(file)) == FIRST and not later.takings


@root_only
def test_what_another_boot_left_on_a_file_counts_for_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_memory(file):
        pytest.skip("this file system remembers nothing on files")
    monkeypatch.setattr(xattrs, "boot_mark", lambda: "1000")
    xattrs.write_memory(str(file), Memory(FIRST, 1))
    # the kernel's time of boot moves a little with its clock
    monkeypatch.setattr(xattrs, "boot_mark", lambda: "1001")
    assert xattrs.read_memory(str(file)) == Memory(FIRST, 1)
    xattrs.write_memory(str(file), Memory(FIRST, 2))
    assert os.getxattr(file, "trusted.libvirt.security.timestamp_dac") == b"1000"
    monkeypatch.setattr(xattrs, "boot_mark", lambda: "5000")
    assert xattrs.read_memory(str(file)) is None


@root_only
def test_what_lies_below_other_images_stays_with_the_guests(tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    owners.give(str(file), GUESTS, "a/1", returns=False)
    owners.keep_only("a/1", ())
    assert owner_of(str(file)) == GUESTS and not owners.takings


@root_only
def test_where_nothing_is_remembered_files_go_to_root(tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    owners.give(str(file), GUESTS, "a/1", returns=True, remembers=False)
    assert owner_of(str(file)) == GUESTS and xattrs.read_memory(str(file)) is None
    owners.take_back(str(file), "a/1")
    assert owner_of(str(file)) == Owner(0, 0)


@root_only
def test_a_file_that_is_gone_or_somebody_elses_meanwhile_is_left_alone(tmp_path: Path, file: Path) -> None:
    owners = register(tmp_path)
    owners.give(str(file), GUESTS, "a/1", returns=True)
    os.chown(file, OTHERS.uid, OTHERS.gid)
    owners.take_back(str(file), "a/1")
    assert owner_of(str(file)) == OTHERS
    owners.give(str(file), GUESTS, "a/1", returns=True)
    file.unlink()
    owners.take_back(str(file), "a/1")
    assert not owners.takings


@pytest.mark.parametrize(
    ("text", "owner"), [("+1:+2", Owner(1, 2)), ("64999:64998", Owner(64999, 64998)), ("root:root", Owner(0, 0))]
)
def test_labels(text: str, owner: Owner) -> None:
    assert parse_label(text) == owner


@pytest.mark.parametrize("text", ["", "+1", "+1:", "nobody-of-that-name:+1", "+x:+1", "+99999999999:+1"])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArguments, match="Failed to parse uid and gid"):
        parse_label(text)


def domain(devices: str = "", top: str = "", os_part: str = "") -> Domain:
    xml = (
        "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type>{os_part}</os>{top}<devices>{devices}</devices></domain>"
    )
    return parse_domain(xml, QemuRules(capabilities()), ParseFlags.INACTIVE)


@root_only
@pytest.mark.parametrize(
    ("label", "process", "files"),
    [
        ("", "+5:+6", "+5:+6"),
        ("<seclabel type='none' model='dac'/>", "+5:+6", None),
        ("<seclabel type='none'/>", "+5:+6", "+5:+6"),
        ("<seclabel type='static' model='dac' relabel='yes'><label>+7:+8</label></seclabel>", "+7:+8", "+7:+8"),
        ("<seclabel type='static' model='dac' relabel='no'><label>+7:+8</label></seclabel>", "+7:+8", None),
        ("<seclabel type='dynamic' model='dac'><baselabel>+7:+8</baselabel></seclabel>", "+7:+8", "+7:+8"),
        ("<seclabel type='dynamic' model='dac' relabel='yes'/>", "+5:+6", "+5:+6"),
    ],
)
def test_who_a_guest_is(label: str, process: str, files: str | None) -> None:
    found = identity_of(domain(top=label), QemuSettings(user="+5", group="+6"))
    assert found is not None
    assert (str(found.process), None if found.files is None else str(found.files)) == (process, files)
    # and it is the same when it is read from the definition of the running guest
    live = domain(top=label)
    note_identity(live, found)
    assert identity_of(live, QemuSettings(user="+5", group="+6")) == found
    fixed = identity_of(domain(top=label), QemuSettings(user="+5", group="+6", dynamic_ownership=False))
    assert fixed is not None and fixed.files is None


def test_the_files_of_a_guest(tmp_path: Path) -> None:
    (tmp_path / "pipe").touch()
    devices = (
        "<disk type='file' device='disk'><source file='/top'/><backingStore type='file'><format type='raw'/>"
        "<source file='/base'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>"
        "<disk type='block' device='disk'><source dev='/dev/sdx'><seclabel model='dac' relabel='no'/></source>"
        "<target dev='vdb' bus='virtio'/><shareable/></disk>"
        "<disk type='network' device='disk'><source protocol='nbd' name='x'><host name='h'/></source>"
        "<target dev='vdc' bus='virtio'/></disk>"
        "<serial type='dev'><source path='/dev/null'/></serial><serial type='file'><source path='/no/such'/></serial>"
        "<channel type='unix'><source mode='connect' path='/sock'/><target type='virtio' name='a'/></channel>"
        "<channel type='unix'><source mode='bind' path='/ours'/><target type='virtio' name='b'/></channel>"
    )
    found = {one.path: one for one in files_of_guest(domain(devices, os_part="<kernel>/k</kernel><initrd>/i</initrd>"))}
    assert set(found) == {"/top", "/base", "/dev/sdx", "/dev/null", "/sock", "/k", "/i"}
    assert [found[path].remembers for path in ("/top", "/base", "/dev/sdx", "/k")] == [True, False, False, True]
    label = found["/dev/sdx"].label
    assert label is not None and label.relabel is False
    assert found["/k"] == GuestFile("/k")
