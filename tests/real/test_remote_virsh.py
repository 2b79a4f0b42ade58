"""virsh through our gateway and the remote driver says what virsh says straight to the same libvirtd."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.agent import Agent
from tests.real.two_sides import first_whole

pytestmark = [pytest.mark.real, pytest.mark.slow]

CLOCK = re.compile(r"\d+\.\d+ ?s\b|(?<=time=)\d+|(?<=_time)\s+\d+\.\d+")
"""Processor times go on between two questions."""

Virsh = Callable[..., str]


def virsh(uri: str, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-c", uri, *words], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Virsh, Virsh]]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as folder:
        try:
            with Libvirtd(Path(folder) / "d") as daemon, Agent() as near:
                straight = daemon.uri("test:///default")
                name = quote(straight, safe="")
                ours = f"test+unix:///default?socket={near.paths.libvirt_socket}&name={name}"
                yield lambda *words: virsh(ours, *words), lambda *words: virsh(straight, *words)
        except CannotRun as exc:
            pytest.skip(str(exc))


@pytest.mark.parametrize(
    "command",
    [
        "list --all",
        "dominfo test",
        "dumpxml test",
        "domstats",
        "domstate test --reason",
        "vcpuinfo test",
        "schedinfo test",
        "memtune test",
        "snapshot-list test",
        "domjobinfo test",
        "guestinfo test",
        "cpu-stats test",
        "domname 77",
        "resume nobody",
        "net-list --all",
        "net-dumpxml default",
        "pool-list --all --details",
        "vol-list default-pool",
        "iface-list --all",
        "nodedev-list",
        "secret-list",
        "nwfilter-list",
        "nodeinfo",
        "capabilities",
        "version",
        "hostname",
        "sysinfo",
    ],
)
def test_both_say_the_same(both: tuple[Virsh, Virsh], command: str) -> None:
    ours, straight = both
    words = command.split()
    assert CLOCK.sub("TIME", ours(*words)) == CLOCK.sub("TIME", straight(*words))


async def test_a_screenshot_comes_through_whole(both: tuple[Virsh, Virsh], tmp_path: Path) -> None:
    ours, straight = both

    async def take(virsh: Virsh, path: Path) -> bytes:
        await asyncio.to_thread(virsh, "screenshot", "test", str(path))
        return path.read_bytes()

    pictures = [
        await first_whole(partial(take, ours, tmp_path / "ours")),
        await first_whole(partial(take, straight, tmp_path / "straight")),
    ]
    assert pictures[0] == pictures[1]
