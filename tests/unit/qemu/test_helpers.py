"""Programs beside guests: how they are told what to do, who they are, and how much they may say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.qemu.helpers import bus, gpu, passt, virtiofs
from actors.qemu.helpers.ends import Ends
from actors.qemu.helpers.leavings import check_flags_agree
from actors.qemu.helpers.logs import LOG_KEPT, LOG_MAX, LogMark, trim
from actors.qemu.helpers.processes import (
    Role,
    clear_folder,
    end_helpers,
    find_helpers,
    listens,
    pids_of_helpers,
    place_of,
    spawn_helper,
    sweep_places,
    until_ready,
)
from actors.qemu.helpers.programs import find_vhost_user
from actors.qemu.helpers.tpm_programs import TpmPrograms
from actors.qemu.monitor.link import listening_socket
from conf.document import parse_document
from conf.domain.documents import DEVICE_CLASSES
from conf.domain.filesystem import Filesystem
from conf.domain.interface import Interface
from conf.domain.video import Video
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, DomainStateError, InternalError, OperationFailed
from tests.unit.qemu.test_command import domain_of

SLEEPER = ["/bin/sh", "-c", "echo it begins >&2; exec sleep 1000"]


@pytest.fixture
def folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    (root / "domain-1-web").mkdir()
    yield root / "domain-1-web"
    shutil.rmtree(root, ignore_errors=True)


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def device(xml: str) -> Any:
    """A device as its document says, whatever QEMU can do."""
    node = parse_document(xml, name="device_definition")
    return DEVICE_CLASSES[str(node.tag)].parse(node, ParseFlags.NONE)


def interface(inside: str) -> Interface:
    found: Interface = device(f"<interface type='user'><backend type='passt'/>{inside}</interface>")
    return found


def test_passt_is_told_of_addresses_and_of_every_kind_of_port() -> None:
    one = interface(
        "<source dev='eth0'/><ip address='172.17.2.0' family='ipv4' prefix='24'/>"
        "<ip address='2001:db8:ac10:fd01::feed' family='ipv6'/>"
        "<portForward proto='tcp' address='2001:db8:ac10:fd01::1:10'><range start='22' to='2022'/>"
        "<range start='1000' end='1050'/><range start='1020' exclude='yes'/>"
        "<range start='1030' end='1040' exclude='yes'/></portForward>"
        "<portForward proto='udp' address='1.2.3.4' dev='eth1'><range start='5000' end='5020' to='6000'/></portForward>"
        "<portForward proto='tcp'/><portForward proto='udp' dev='eth2'/>"
    )
    assert passt.options(one) == [
        *("--interface", "eth0"),
        *("--address", "172.17.2.0", "--netmask", "24", "--address", "2001:db8:ac10:fd01::feed"),
        *("--tcp-ports", "2001:db8:ac10:fd01::1:10/22:2022,1000-1050,~1020,~1030-1040"),
        *("--udp-ports", "1.2.3.4%eth1/5000-5020:6000-6020"),
        *("--tcp-ports", "all", "--udp-ports", "%eth2/all"),
    ]


@pytest.mark.parametrize(
    ("binary", "words"),
    [
        ("", ["-o", "source=/a,,b"]),
        ("<binary path='/x' xattr='off'/>", ["-o", "source=/a,,b,no_xattr"]),
        (
            "<binary xattr='on'><cache mode='always'/><sandbox mode='chroot'/><lock posix='off' flock='on'/>"
            "<thread_pool size='0'/></binary>",
            ["-o", "source=/a,,b,cache=always,sandbox=chroot,xattr,flock,no_posix_lock", "--thread-pool-size=0"],
        ),
    ],
)
def test_virtiofsd_is_told_what_to_serve(binary: str, words: list[str]) -> None:
    xml = f"<filesystem><driver type='virtiofs'/>{binary}<source dir='/a,b'/><target dir='t'/></filesystem>"
    one: Filesystem = device(xml)
    assert virtiofs.options("/a,b", one.binary) == words
    assert virtiofs.is_served_by_us(one)


def test_a_bus_of_ones_own_is_for_displays_without_an_address(folder: Path) -> None:
    domain, other = domain_of(), domain_of()
    domain.devices.graphics.append(device("<graphics type='dbus'/>"))
    other.devices.graphics.append(device("<graphics type='dbus' p2p='yes'/>"))
    assert bus.place_on_bus(domain, folder)
    assert domain.devices.graphics[0].address == f"unix:path={folder}/dbus.sock"
    assert not bus.place_on_bus(domain, folder)
    assert not bus.place_on_bus(other, folder)
    assert f"<listen>unix:path={folder}/dbus.sock</listen>" in bus.configuration(folder)


def test_ends_are_there_once_their_helpers_run() -> None:
    ends = Ends(tpms={"tpm0": "/a"}, networks={"net0": "/b"}, cards={"video0": 7})
    assert (ends.tpm_socket("tpm0"), ends.passt_socket("net0"), ends.take_card("video0")) == ("/a", "/b", 7)
    for ask in (ends.take_card, ends.tpm_socket, ends.passt_socket):
        with pytest.raises(ConfigUnsupported):
            ask("video0")


@pytest.mark.parametrize("flags", [4 | 8, 32 | 64])
def test_nothing_is_kept_and_removed_at_once(flags: int) -> None:
    with pytest.raises(DomainStateError, match="cannot both keep and delete"):
        check_flags_agree(flags)
    check_flags_agree(flags & (4 | 64))


def test_a_log_that_is_too_long_loses_its_oldest_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n" * 1000)
    mark = LogMark.at_end(log)
    with log.open("ab") as file:
        trim(log)
        assert log.stat().st_size == 6000
        file.write(b"x" * 99 + b"\n")
        file.flush()
        assert mark.said() == "x" * 99
        file.write((b"y" * 99 + b"\n") * (LOG_MAX // 100))
        file.flush()
        trim(log)
        assert LOG_KEPT - 200 < log.stat().st_size <= LOG_KEPT
        file.write(b"the end\n")
        file.flush()
    assert log.read_bytes().endswith(b"y\nthe end\n") and log.read_bytes().startswith(b"y" * 99 + b"\n")
    assert mark.said().endswith("the end"), "a log that began anew is told from its begin"


async def test_a_helper_says_who_it_is_and_is_found_by_whoever_comes(folder: Path) -> None:
    log = folder.parent / "log"
    helper, mark = spawn_helper(Role("sleeper", "fs0"), SLEEPER, folder=folder, log=log)
    await until_ready(helper, mark, lambda: mark.said() == "it begins")
    (found,) = find_helpers(folder)
    assert found.role == Role("sleeper", "fs0") and found.process.identity == helper.process.identity
    assert pids_of_helpers(folder) == (helper.process.pid,)
    assert stat.S_IMODE(place_of(folder).stat().st_mode) == 0o700
    assert os.getsid(helper.process.pid) == helper.process.pid
    assert f"VIRTROUPE_GUEST={folder}" in Path(f"/proc/{helper.process.pid}/environ").read_text(encoding="utf-8")
    found.process.release()
    await sweep_places(folder.parent, {folder.name})
    assert helper.process.is_alive
    await sweep_places(folder.parent, set())
    assert await helper.process.wait(30.0)
    assert not place_of(folder).exists()


async def test_what_has_not_said_who_it_is_in_time_does_not_become_a_helper(folder: Path) -> None:
    """The file of a starting helper is taken away before it is written, as whoever comes after a dead driver does."""
    place = place_of(folder)
    place.mkdir(parents=True)
    note = place / Role("sleeper", "fs0").file
    witness = folder.parent / "witness"
    from actors.qemu.helpers import processes

    descriptor = os.open(note, os.O_RDWR | os.O_CREAT, 0o600)
    await clear_folder(folder)
    assert not note.exists()
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", processes._LAUNCHER, "sleeper", "/bin/sh", "-c", f"touch {witness}", stdin=descriptor
    )
    os.close(descriptor)
    async with asyncio.timeout(30):
        assert await process.wait() == 125
    assert not witness.exists()


async def test_a_helper_that_ignores_all_is_killed_with_what_it_has_started(folder: Path) -> None:
    log = folder.parent / "log"
    script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done"
    helper, mark = spawn_helper(Role("deaf", "x"), ["/bin/sh", "-c", script], folder=folder, log=log)
    await until_ready(helper, mark, lambda: mark.said().isdigit())
    child = int(mark.said())
    await end_helpers([helper])
    assert not helper.process.is_alive
    async with asyncio.timeout(30):
        while Path(f"/proc/{child}").exists() and b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes():
            await asyncio.sleep(0.05)


async def test_a_helper_that_dies_is_told_with_its_own_words(folder: Path) -> None:
    log = folder.parent / "log"
    log.write_text("old words\n", encoding="utf-8")
    with pytest.raises(InternalError, match=r"died and reported: no such thing$"):
        helper, mark = spawn_helper(
            Role("x", "y"), ["/bin/sh", "-c", "echo no such thing >&2; exit 1"], folder=folder, log=log
        )
        await until_ready(helper, mark, lambda: False)
    with pytest.raises(InternalError, match="not an executable"):
        spawn_helper(Role("x", "y"), [str(folder / "nothing")], folder=folder, log=log)


def test_a_socket_listens_under_its_own_name(folder: Path) -> None:
    path = folder / "sock"
    assert not listens(str(path))
    listener = listening_socket(path)
    assert listens(str(path))
    listener.close()
    assert not listens(str(path))


async def test_tpm_versions_are_what_the_programs_say(tmp_path: Path) -> None:
    programs = TpmPrograms((str(tmp_path),))
    assert programs.versions is None
    await programs.refresh()
    assert programs.versions == frozenset()
    program(tmp_path / "swtpm", 'echo \'{"features": ["cmdarg-pwd-fd"]}\'')
    answer = json.dumps({"features": ["tpm-2.0", "cmdarg-pwdfile-fd"]})
    program(tmp_path / "swtpm_setup", f"echo '{answer}'")
    programs._looked = 0.0
    await programs.refresh()
    assert programs.versions == {"2.0"} and "cmdarg-pwd-fd" in programs.emulates
    # older ones do not say what they emulate, and what is no answer says nothing
    program(tmp_path / "swtpm_setup", "echo nonsense")
    programs._looked = 0.0
    await programs.refresh()
    assert programs.versions == {"1.2", "2.0"} and programs.sets_up == frozenset()


def test_the_most_important_descriptor_of_a_kind_counts(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir()
    high.mkdir()
    for place, binary in ((low / "50-a.json", "/a"), (low / "60-b.json", "/b"), (high / "40-c.json", "/c")):
        place.write_text(json.dumps({"type": "fs", "binary": binary, "description": ""}), encoding="utf-8")
    (high / "30-broken.json").write_text("{", encoding="utf-8")
    assert find_vhost_user("fs", (low, high)) is not None
    found = find_vhost_user("fs", (low, high))
    assert found is not None and found.binary == "/c"
    (high / "40-c.json").write_text("", encoding="utf-8")
    found = find_vhost_user("fs", (low, high))
    assert found is not None and found.binary == "/a"
    assert find_vhost_user("gpu", (low, high)) is None


async def test_a_card_is_drawn_by_a_program_that_can_do_what_it_wants(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder.parent
    plain = "<video><driver name='vhostuser'/><model type='virtio'/></video>"
    wants = plain.replace("<model type='virtio'/>", "<model type='virtio'><acceleration accel3d='yes'/></model>")
    monkeypatch.setattr(gpu, "vhost_user_folders", lambda: (root,))
    host = cast(Any, SimpleNamespace(paths=SimpleNamespace(log=root / "log")))
    for name, features in (("50-simple", []), ("60-able", ["virgl"])):
        told = json.dumps({"type": "gpu", "features": features})
        binary = program(
            root / name, f"case $1 in --print-cap*) echo '{told}';; *) echo \"$@\"; exec sleep 1000;; esac"
        )
        text = json.dumps({"type": "gpu", "binary": binary, "description": ""})
        (root / f"{name}.json").write_text(text, encoding="utf-8")
    for xml, name, words in ((plain, "50-simple", ""), (wants, "60-able", " --virgl")):
        await _draws(host, xml, root / name, words, folder)
    (root / "60-able.json").unlink()
    with pytest.raises(OperationFailed, match="satisfying vhost-user-gpu"):
        await gpu.find_binary(device(wants))


async def _draws(host: Any, xml: str, binary: Path, words: str, folder: Path) -> None:
    video: Video = device(xml)
    video.alias = "video0"
    helper, descriptor = await gpu.start_gpu(host, domain_of(), video, folder)
    mark = LogMark(helper.log, 0)
    try:
        assert await gpu.find_binary(video) == str(binary)
        assert stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        await until_ready(helper, mark, lambda: mark.said().endswith(words) and "--fd=" in mark.said())
    finally:
        os.close(descriptor)
        await end_helpers([helper])
    helper.log.unlink()
