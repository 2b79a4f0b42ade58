"""Clients that know nothing of us: libvirt's Python and Perl bindings, virt-install, virt-xml, virt-clone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid

pytestmark = [pytest.mark.real, pytest.mark.process]

SCRIPTS = Path(__file__).parent / "clients"
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass
class Place:
    """A driver, as clients reach it."""

    house: GatewayHouse
    name: str
    home: Path

    @property
    def uri(self) -> str:
        return self.house.uri({"test": "test:///default", "qemu": "qemu:///system"}[self.name])

    def guest(self) -> RealGuest:
        return RealGuest(f"c{os.getpid()}-{self.name}", boots=False)

    def document(self) -> Path:
        """The document of a guest that does not exist yet."""
        path = self.home / "guest.xml"
        xml = self.guest().xml()
        path.write_text(xml if self.name == "qemu" else xml.replace("type='qemu'", "type='test'"), encoding="utf-8")
        return path

    def run(self, *words: str | Path, check: bool = True) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home), "LC_ALL": "C.UTF-8"},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def virsh(self, *words: str) -> str:
        return self.run("virsh", "-c", self.uri, *words)

    def remove(self, *names: str) -> None:
        """Ends guests, whatever became of them."""
        for name in names:
            for words in (("destroy", name), ("undefine", name)):
                self.run("virsh", "-c", self.uri, *words, check=False)


@pytest.fixture(scope="module")
def house() -> Iterator[GatewayHouse]:
    needs_qemu()
    # As with libvirt, the test driver forgets everything with its last connection, and these clients come one by one.
    with gateway_house("[test]\nkeep = true\n", "test", "qemu") as made:
        yield made


@pytest.fixture(params=["test", "qemu"])
def place(request: pytest.FixtureRequest, house: GatewayHouse) -> Iterator[Place]:
    home = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    made = Place(house, request.param, home)
    wait_for("the driver serves", lambda: house.virsh("list", uri=made.uri).returncode == 0)
    yield made
    house.show_logs("qemu")
    guest = made.guest()
    made.remove(guest.name)
    pid = qemu_pid(guest.uuid)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home)


def test_python_without_an_event_loop(place: Place) -> None:
    found = json.loads(place.run(SYSTEM_PYTHON, SCRIPTS / "synchronous.py", place.uri, place.document()))
    name = place.guest().name
    assert found["type"] == {"test": "TEST", "qemu": "QEMU"}[place.name]
    assert found["uri"] == place.uri, "libvirt's client tells what it was given"
    assert found["lib"] == 9_000_000
    assert found["states"] == [0, 1, 1, 3, 5]
    detail = {"test": None, "qemu": f"no domain with matching name '{name}'"}[place.name]
    assert found["error"] == [42, found["error"][1], detail], "libvirt's test driver says no more than the code"
    assert found["read only"] == 29
    assert found["autostart"] == 1
    assert all(found[key] for key in ("xml", "listed", "by uuid", "counted", "second", "cpus"))
    assert found["left"] == [0, 0, 0]


def test_python_with_asyncio_and_every_callback(place: Place) -> None:
    name = place.guest().name
    place.virsh("create", str(place.document()))
    found: dict[str, Any] = json.loads(place.run(SYSTEM_PYTHON, SCRIPTS / "asyncio_events.py", place.uri, name))
    assert found["refused"] == []
    assert found["registered"] >= 34, "all that this libvirt knows"
    lifecycle = [more for family, event, who, more in found["told"] if (event, who) == ("lifecycle", name)]
    assert [event for event, *_ in lifecycle] == [3, 4]
    assert any(event == "metadata_change" for _, event, *_ in found["told"])
    assert found["silent"]
    assert found["closed"] == []
    assert found["alive"] == 1
    assert name in found["stats"]


def test_perl(place: Place) -> None:
    told = place.run("perl", SCRIPTS / "sys_virt.pl", place.uri, place.document())
    facts = dict(line.split("=", 1) for line in told.splitlines())
    assert facts["type"] == {"test": "TEST", "qemu": "QEMU"}[place.name]
    assert int(facts["cpus"]) >= 1
    assert (facts["active"], facts["paused"], facts["listed"], facts["stats"]) == ("1", "1", "1", "1")
    events = facts["events"].split(",")
    assert events[0] == "0", "it was defined"
    lived = {
        "test": ["2", "3", "4", "5"],
        "qemu": ["4", "2", "3", "4", "5"],
    }  # QEMU tells that it resumes at a start too
    assert [number for number in events if number in "2345"] == lived[place.name]
    assert events[-1] == "1", "it was undefined"
    assert facts["error"] == "42"


def test_virt_install_virt_xml_and_virt_clone(place: Place) -> None:
    name = place.guest().name
    clone = f"{name}-2"
    kind = {"test": "test", "qemu": "qemu"}[place.name]
    try:
        place.run(
            "virt-install", "--connect", place.uri, "--name", name, "--memory", "64", "--disk", "none", "--import",
            "--noautoconsole", "--osinfo", "generic", "--graphics", "none", "--network", "none", "--virt-type", kind,
        )  # fmt: skip
        assert "running" in place.virsh("domstate", name)
        place.run("virt-xml", "--connect", place.uri, name, "--edit", "--memory", "96,maxmemory=96", "--define")
        assert "<memory unit='KiB'>98304</memory>" in place.virsh("dumpxml", "--inactive", name)
        place.run("virt-xml", "--connect", place.uri, name, "--add-device", "--watchdog", "default", "--define")
        assert "<watchdog" in place.virsh("dumpxml", "--inactive", name)
        place.virsh("destroy", name)
        place.run("virt-clone", "--connect", place.uri, "--original", name, "--name", clone, "--auto-clone")
        assert f"<name>{clone}</name>" in place.virsh("dumpxml", clone)
    finally:
        place.remove(name, clone)
