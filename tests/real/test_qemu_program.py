"""libvirt's program for QEMU alone, as virsh uses it: commands for the monitor, and its events as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.real.virsh_session import need_virsh, virsh_session

pytestmark = [pytest.mark.real, pytest.mark.process, pytest.mark.timeout(300)]

URI = "qemu:///system"
VIDEO = "<video><model type='vga' heads='1'/></video></devices>"


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    need_virsh()
    needs_qemu()
    with gateway_house("", "qemu") as made:
        yield made
        made.show_logs("qemu")


@pytest.fixture
def guest(house: GatewayHouse, tmp_path: Path) -> Iterator[RealGuest]:
    made = RealGuest(f"p{os.getpid()}", boots=False)
    path = tmp_path / "guest.xml"
    path.write_text(made.xml().replace("</devices>", VIDEO))
    said(house, "create", str(path))
    yield made
    house.virsh("destroy", made.name, uri=house.uri(URI))
    pid = qemu_pid(made.uuid)
    if pid is not None:
        os.kill(pid, 9)


def said(house: GatewayHouse, *words: str) -> str:
    done = house.virsh(*words, uri=house.uri(URI), timeout=60)
    assert done.returncode == 0, f"virsh {' '.join(words)}: {done.stderr}"
    return done.stdout


def test_commands_reach_the_monitor(house: GatewayHouse, guest: RealGuest) -> None:
    assert "custom monitor" not in said(house, "dominfo", guest.name)
    answer = json.loads(said(house, "qemu-monitor-command", guest.name, '{"execute":"query-status"}'))
    assert answer["return"]["status"] == "running"
    assert list(answer) == ["return", "id"]
    assert answer["id"].startswith("libvirt-")
    answer = json.loads(said(house, "qemu-monitor-command", guest.name, '{"execute":"nosuch"}'))
    assert answer["error"] == {"class": "CommandNotFound", "desc": "The command nosuch has not been found"}
    assert "VM status: running" in said(house, "qemu-monitor-command", guest.name, "--hmp", "info status")
    assert "Messages:       tainted: custom monitor control commands issued" in said(house, "dominfo", guest.name)
    house.kill("qemu")
    house.start("qemu")
    assert "custom monitor control commands issued" in said(house, "dominfo", guest.name), "it is remembered"


def test_events_are_told_as_qemu_says_them_also_behind_a_killed_driver(house: GatewayHouse, guest: RealGuest) -> None:
    uri = house.uri(URI)
    with (
        virsh_session(uri, "qemu-monitor-event", "--loop") as every,
        virsh_session(uri, "qemu-monitor-event", guest.name, "--event", "^stop|^resu", "--regex", "--no-case", "--loop")
        as some,
        virsh_session(uri, "qemu-monitor-event", "--event", "NOSUCH", "--loop") as none,
    ):  # fmt: skip
        for _ in range(100):
            # nothing says that a session has registered but that it is told
            said(house, "suspend", guest.name)
            said(house, "resume", guest.name)
            try:
                every.wait_for("event RESUME", 2)
                some.wait_for("event RESUME", 2)
                break
            except AssertionError:
                continue
        for number in range(2):
            house.kill("qemu")
            house.start("qemu")
            wait_for("the driver serves", lambda: house.virsh("list", uri=uri).returncode == 0)
            every.output = some.output = ""
            said(house, "suspend", guest.name)
            every.wait_for("event STOP at ")
            some.wait_for(f" for domain '{guest.name}'")
            said(house, "resume", guest.name)
            every.wait_for("event RESUME")
            some.wait_for("event RESUME")
            assert some.output.count("event STOP") == 1, number
        answer = '{"execute":"qom-set","arguments":{"path":"/machine","property":"nosuch","value":1}}'
        said(house, "qemu-monitor-command", guest.name, answer)
        assert "event" not in none.output
        for session in (every, some, none):
            session.interrupt()
            session.wait()


def test_pictures_of_the_screen_are_pngs(house: GatewayHouse, guest: RealGuest, tmp_path: Path) -> None:
    path = tmp_path / "screen"
    assert "with type of image/png" in said(house, "screenshot", guest.name, str(path))
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    done = house.virsh("screenshot", guest.name, str(path), "--screen", "4", uri=house.uri(URI))
    assert "Requested operation is not valid: no such screen ID" in done.stderr
