"""virsh moves guests between two agents, and between an agent and a real libvirtd; drivers are killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]

URI: Final = "qemu:///system"
LIMIT_S: Final = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def two_agents() -> Iterator[tuple[GatewayHouse, GatewayHouse]]:
    need_virsh()
    needs_qemu()
    if os.geteuid() != 0:
        pytest.skip("qemu:///system is root's")
    with gateway_house("", "qemu") as one, gateway_house("", "qemu") as two:
        try:
            yield one, two
        finally:
            one.show_logs("qemu")
            two.show_logs("qemu")


def virsh(uri: str, *arguments: str) -> str:
    """What virsh prints; it has to succeed."""
    run = subprocess.run(
        ["virsh", "-c", uri, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert run.returncode == 0, f"virsh {' '.join(arguments)}: {run.stderr}"
    return run.stdout.strip()


@contextlib.contextmanager
def started(uri: str, folder: Path) -> Iterator[RealGuest]:
    """A guest that runs; it does not outlive the test wherever it is then."""
    guest = RealGuest(f"m{os.getpid()}", boots=False)
    document = folder / "guest.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    try:
        virsh(uri, "define", str(document))
        virsh(uri, "start", guest.name)
        yield guest
    finally:
        end = time.monotonic() + LIMIT_S
        while (pid := qemu_pid(guest.uuid)) is not None and time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def running(uri: str) -> list[str]:
    return virsh(uri, "list", "--name", "--state-running").split()


@pytest.mark.parametrize(
    "way",
    [
        ("--live",),
        ("--p2p", "--live"),
        ("--live", "--change-protection", "--parallel"),
        ("--p2p", "--tunnelled", "--live"),
    ],
)
def test_between_two_agents(way: tuple[str, ...], folder: Path) -> None:
    with two_agents() as (here, there):
        source, destination = here.uri(URI), there.uri(URI)
        with started(source, folder) as guest:
            place = f"unix://{folder}/m.sock"
            more = () if "--tunnelled" in way else ("--migrateuri", place)
            arguments = (*way, "--persistent", "--undefinesource", guest.name, destination, *more)
            virsh(source, "migrate", *arguments)
            assert virsh(destination, "domstate", guest.name, "--reason") == "running (migrated)"
            assert guest.name not in virsh(source, "list", "--all", "--name").split()
            assert "Persistent:     yes" in virsh(destination, "dominfo", guest.name)
            virsh(destination, "destroy", guest.name)


@pytest.mark.parametrize("victim", ["source", "destination"])
@pytest.mark.parametrize("delay_s", [0.1, 0.25, 0.4, 0.6])
def test_a_driver_dies_during_a_migration_from_driver_to_driver(victim: str, delay_s: float, folder: Path) -> None:
    with two_agents() as (here, there):
        source, destination = here.uri(URI), there.uri(URI)
        with started(source, folder) as guest:
            place = f"unix://{folder}/m.sock"
            words = [
                "virsh",
                "-c",
                source,
                "migrate",
                "--p2p",
                "--live",
                guest.name,
                destination,
                "--migrateuri",
                place,
            ]
            with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
                time.sleep(delay_s)  # wherever it is by then
                house = here if victim == "source" else there
                house.kill("qemu")
                house.start("qemu")
                try:
                    client.wait(LIMIT_S)
                finally:
                    client.kill()

            def settled() -> bool:
                return sum(guest.name in running(uri) for uri in (source, destination)) == 1

            wait_for("the guest to run on one side", settled, LIMIT_S)
            process = qemu_pid(guest.uuid)
            assert process is not None
            where = source if guest.name in running(source) else destination
            assert "running" in virsh(where, "qemu-monitor-command", guest.name, "--hmp", "info status")
            virsh(where, "destroy", guest.name)
            # at the latest when nothing has come for a minute
            wait_for("the other side to give up", lambda: qemu_pid(guest.uuid) is None, 2 * LIMIT_S)


@pytest.mark.parametrize("mode", [("--live",), ("--p2p", "--live"), ("--p2p", "--tunnelled", "--live")])
@pytest.mark.parametrize("way", ["to libvirtd", "from libvirtd"])
def test_with_a_real_libvirtd(way: str, mode: tuple[str, ...], folder: Path) -> None:
    try:
        peer = Libvirtd(folder / "lv")
    except CannotRun as exc:
        if os.geteuid() == 0:
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    need_virsh()
    needs_qemu()
    with peer, gateway_house("", "qemu") as house:
        ours, theirs = house.uri(URI), peer.uri(URI)
        source, destination = (ours, theirs) if way == "to libvirtd" else (theirs, ours)
        try:
            with started(source, folder) as guest:
                place = f"unix://{folder}/m.sock"
                by = () if "--tunnelled" in mode else ("--migrateuri", place)
                more = ("--persistent", "--undefinesource", guest.name, destination, *by)
                virsh(source, "migrate", *mode, *more)
                assert virsh(destination, "domstate", guest.name, "--reason") == "running (migrated)"
                assert guest.name not in virsh(source, "list", "--all", "--name").split()
                virsh(destination, "destroy", guest.name)
                virsh(destination, "undefine", guest.name)
        finally:
            house.show_logs("qemu")
