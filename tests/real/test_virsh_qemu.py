"""An unmodified virsh against the gateway and the QEMU driver: real guests, a real console, a killed driver."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import READY, RealGuest, needs_qemu, qemu_pid
from tests.real.virsh_session import need_virsh, virsh_session

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process]

URI = "qemu:///system"
ESCAPE = "\x1d"


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    need_virsh()
    needs_qemu()
    with gateway_house("", "test", "qemu") as house:
        try:
            yield house
        finally:
            house.show_logs("qemu")


@contextlib.contextmanager
def defined(house: GatewayHouse, tmp_path: Path, *, boots: bool) -> Iterator[RealGuest]:
    """A guest that is defined; it does not outlive the test."""
    guest = RealGuest(f"v{os.getpid()}", boots=boots)
    document = tmp_path / "guest.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    try:
        assert f"Domain '{guest.name}' defined" in said(house, "define", str(document))
        yield guest
    finally:
        pid = qemu_pid(guest.uuid)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def said(house: GatewayHouse, *arguments: str) -> str:
    run = house.virsh(*arguments, uri=house.uri(URI))
    assert run.returncode == 0, f"virsh {' '.join(arguments)}: {run.stderr}"
    return run.stdout


def test_what_is_there(house: GatewayHouse) -> None:
    assert "Name" in said(house, "list", "--all")
    assert said(house, "uri").startswith("qemu+unix:///system?socket=")
    assert "Running hypervisor: QEMU" in said(house, "version")
    assert "CPU(s):" in said(house, "nodeinfo")
    assert "<capabilities>" in said(house, "capabilities")
    assert "Name" in said(house, "net-list", "--all")


def test_life_of_a_guest(house: GatewayHouse, tmp_path: Path) -> None:
    with defined(house, tmp_path, boots=False) as guest:
        name = guest.name
        assert f"{name}   shut off" in said(house, "list", "--all")
        assert f"Domain '{name}' started" in said(house, "start", name)
        pid = qemu_pid(guest.uuid)
        assert pid is not None
        assert said(house, "domstate", name, "--reason").strip() == "running (booted)"
        info = said(house, "dominfo", name)
        assert "State:          running" in info
        assert "Persistent:     yes" in info
        assert "<alias name='serial0'/>" in said(house, "dumpxml", name)
        assert "<alias" not in said(house, "dumpxml", "--inactive", name)
        said(house, "suspend", name)
        assert said(house, "domstate", name, "--reason").strip() == "paused (user)"
        said(house, "resume", name)
        assert said(house, "domstate", name, "--reason").strip() == "running (unpaused)"
        said(house, "reboot", name)
        said(house, "shutdown", name)  # nobody in there hears it
        assert said(house, "domstate", name).strip() == "running"
        assert qemu_pid(guest.uuid) == pid
        said(house, "destroy", name)
        assert qemu_pid(guest.uuid) is None
        assert said(house, "domstate", name, "--reason").strip() == "shut off (destroyed)"
        assert "has been undefined" in said(house, "undefine", name)
        assert name not in said(house, "list", "--all")


@pytest.mark.timeout(300)
def test_console_outlives_the_driver_and_ends_with_the_guest(house: GatewayHouse, tmp_path: Path) -> None:
    with (
        defined(house, tmp_path, boots=True) as guest,
        virsh_session(house.uri(URI), "event", "--all", "--loop") as events,
        virsh_session(house.uri(URI), "start", "--console", guest.name) as console,
    ):
        console.wait_for(READY, 120)
        console.wait_for("/ # ", 60)
        console.type("echo one-$((40+2))\n")
        console.wait_for("one-42")
        pid = qemu_pid(guest.uuid)
        house.kill("qemu")
        house.start("qemu")
        assert said(house, "domstate", guest.name).strip() == "running"
        assert qemu_pid(guest.uuid) == pid
        console.type("echo two-$((40+3))\n")
        console.wait_for("two-43")
        said(house, "shutdown", guest.name)
        wait_for("the guest's end", lambda: qemu_pid(guest.uuid) is None, 60)
        assert console.wait() == 0
        events.wait_for("Stopped Shutdown")
        events.interrupt()
        events.wait()


@pytest.mark.timeout(300)
def test_console_is_left_and_taken_up_again(house: GatewayHouse, tmp_path: Path) -> None:
    with defined(house, tmp_path, boots=True) as guest:
        with virsh_session(house.uri(URI), "start", "--console", guest.name) as console:
            console.wait_for(READY, 120)
            console.type(ESCAPE)
            assert console.wait() == 0
        with virsh_session(house.uri(URI), "console", guest.name) as console:
            console.wait_for("Escape character")
            console.type_until("\necho again-$((1+1))\n", "again-2")
            console.type(ESCAPE)
            assert console.wait() == 0
        said(house, "destroy", guest.name)
