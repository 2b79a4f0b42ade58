"""polkit, asked on a D-Bus of the test's own: the real one where it is installed, and one that answers by a table.

The agent's own user is never asked about, so the client has to be somebody else; only root can make it so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.process, pytest.mark.real, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SOMEBODY = 65534
POLKITD = Path("/usr/lib/polkit-1/polkitd")
ACTIONS = Path("/usr/share/polkit-1/actions/org.libvirt.unix.policy")
MANAGE, MONITOR = "org.libvirt.unix.manage", "org.libvirt.unix.monitor"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/>
<allow receive_sender="*"/></policy></busconfig>
"""


@contextmanager
def running(*command: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **more},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


@dataclass
class Place:
    house: GatewayHouse
    folder: Path

    @property
    def bus(self) -> str:
        return f"unix:path={self.folder}/bus"

    def virsh(self, *words: str, read_only: bool = False) -> subprocess.CompletedProcess[str]:
        """virsh of somebody else's."""
        return subprocess.run(
            ["virsh", "-c", self.house.uri(read_only=read_only), *words],
            capture_output=True, text=True, timeout=60, check=False, user=SOMEBODY, group=SOMEBODY, extra_groups=[],
            stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"},
        )  # fmt: skip

    @contextmanager
    def dbus(self) -> Iterator[None]:
        path = self.folder / "bus"
        config = self.folder / "bus.conf"
        config.write_text(BUS.format(path=path))
        with running("dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"):
            wait_for("D-Bus", path.exists)
            yield
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    need_virsh()
    if os.geteuid() != 0:
        pytest.skip("only root can run a client as somebody else")
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no dbus-daemon")
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    folder.chmod(0o755)  # polkit runs as a user of its own
    config = f"""
[gateway]
auth_unix = "polkit"
auth_unix_read_only = "polkit"
polkit_bus = "unix:path={folder}/bus"
[test]
keep = true
"""
    with gateway_house(config) as house:
        house.root.chmod(0o755)
        wait_for("the driver serves", lambda: house.virsh("list").returncode == 0)
        yield Place(house, folder)
        house.show_logs()
    shutil.rmtree(folder)


@pytest.fixture
def polkit(place: Place) -> Iterator[Callable[..., list[dict[str, object]]]]:
    """A polkit that gives the answers which it is told to; the function tells what it was asked since."""
    answers, asked = place.folder / "answers.json", place.folder / "asked"

    def told(**words: str) -> list[dict[str, object]]:
        answers.write_text(json.dumps({f"org.libvirt.unix.{name}": word for name, word in words.items()}))
        lines = [json.loads(line) for line in asked.read_text().splitlines()]
        asked.write_text("")
        return lines

    asked.unlink(missing_ok=True)
    answers.write_text("{}")
    with (
        place.dbus(),
        running(sys.executable, "-m", "tests.fakes.polkit", place.bus, str(answers), str(asked)),
    ):
        wait_for("polkit serves", asked.exists)
        yield told


def test_root_is_not_asked_about(place: Place) -> None:
    assert "test" in place.house.virsh("list").stdout, "although there is no D-Bus"


def test_where_there_is_no_dbus_that_is_said(place: Place) -> None:
    done = place.virsh("list")
    assert done.returncode != 0
    assert "authentication unavailable: D-Bus, over which polkit is asked, cannot be reached" in done.stderr


def test_where_there_is_no_polkit_that_is_said(place: Place) -> None:
    with place.dbus():
        done = place.virsh("list")
    assert "authentication unavailable: polkit does not run on this host" in done.stderr


def test_polkit_is_asked_about_the_process_and_for_what_the_socket_is(
    place: Place, polkit: Callable[..., list[dict[str, object]]]
) -> None:
    polkit(manage="allowed", monitor="denied")
    done = place.virsh("list")
    assert done.returncode == 0, done.stderr
    assert "running" in done.stdout
    (asked,) = polkit(manage="denied", monitor="allowed")
    assert (asked["kind"], asked["action"], asked["uid"]) == ("unix-process", MANAGE, SOMEBODY)
    assert isinstance(asked["pid"], int) and isinstance(asked["start-time"], int) and asked["start-time"] > 0
    assert place.virsh("list", read_only=True).returncode == 0
    (asked,) = polkit(manage="denied", monitor="denied")
    assert asked["action"] == MONITOR


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("denied", "authentication failed: access denied by policy"),
        ("challenge", f"authentication unavailable: no polkit agent available to authenticate action '{MANAGE}'"),
        ("dismissed", "authentication cancelled: user cancelled authentication process"),
        ("broken", "it is broken"),
    ],
)
def test_a_refusal_is_told_in_libvirts_words(
    place: Place, polkit: Callable[..., list[dict[str, object]]], word: str, says: str
) -> None:
    polkit(manage=word)
    done = place.virsh("list")
    assert done.returncode != 0
    assert says in done.stderr
    assert polkit()


def test_a_client_that_leaves_while_polkit_thinks_is_forgotten(
    place: Place, polkit: Callable[..., list[dict[str, object]]]
) -> None:
    polkit(manage="silent")
    asked = place.folder / "asked"
    for _ in range(3):
        waiting = subprocess.Popen(
            ["virsh", "-c", place.house.uri(), "list"], user=SOMEBODY, group=SOMEBODY, extra_groups=[],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"},
        )  # fmt: skip
        try:
            wait_for("polkit is asked", lambda: asked.read_text() != "")
            wait_for("it is counted", lambda: unproved(place.house) == 1)
        finally:
            waiting.kill()
            waiting.wait(timeout=20)
        asked.write_text("")
        wait_for("the client is forgotten", lambda: unproved(place.house) == 0)
    polkit(manage="allowed")
    assert place.virsh("list").returncode == 0


def unproved(house: GatewayHouse) -> int:
    """How many clients there are that have not proved who they are."""
    uri = f"libvirtd:///system?socket={house.paths.libvirt_admin_socket}"
    done = subprocess.run(
        ["virt-admin", "-c", uri, "server-clients-info", "libvirtd"],
        capture_output=True, text=True, timeout=30, check=True, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    lines = dict(line.split(":") for line in done.stdout.splitlines() if ":" in line)
    return next(int(value) for name, value in lines.items() if name.strip() == "nclients_unauth")


def test_the_real_one(place: Place) -> None:
    if not POLKITD.exists() or not ACTIONS.exists():
        pytest.skip("polkit is not installed")
    with place.dbus(), running(str(POLKITD), "--no-debug", DBUS_SYSTEM_BUS_ADDRESS=place.bus) as process:

        def answers() -> bool:
            assert process.poll() is None, "polkit ended"
            return place.virsh("list", read_only=True).returncode == 0

        wait_for("everybody may look", answers, 60)
        done = place.virsh("list")
        assert done.returncode != 0
        assert f"no polkit agent available to authenticate action '{MANAGE}'" in done.stderr
