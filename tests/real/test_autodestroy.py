"""Guests that end with the connection which started them, through real virsh and the native client."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.connecting import connect
from schema.enums.domain import DomainCreateFlags
from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.real, pytest.mark.process, pytest.mark.timeout(300)]

URI = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
LIMIT_S = 60.0


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    needs_qemu()
    need_virsh()
    with gateway_house("", "qemu") as made:
        wait_for("the driver serves", lambda: made.virsh("list", uri=made.uri(URI)).returncode == 0, LIMIT_S)
        yield made


def gone(guest: RealGuest) -> Callable[[], bool]:
    return lambda: qemu_pid(guest.uuid) is None


def running(house: GatewayHouse) -> list[str]:
    return sorted(house.virsh("list", "--name", uri=house.uri(URI)).stdout.split())


def test_guests_end_with_the_connection_that_started_them(house: GatewayHouse, tmp_path: Path) -> None:
    bound, defined, free = (RealGuest(f"{name}-{os.getpid()}", memory_mib=32, boots=False) for name in ("b", "d", "f"))
    paths = {}
    for guest in (bound, defined, free):
        paths[guest.name] = tmp_path / f"{guest.name}.xml"
        paths[guest.name].write_text(guest.xml())
    house.virsh("define", str(paths[defined.name]), uri=house.uri(URI))
    virsh = subprocess.Popen(
        ["virsh", "-q", "-c", house.uri(URI)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert virsh.stdin is not None
        virsh.stdin.write(f"create {paths[bound.name]} --autodestroy\nstart {defined.name} --autodestroy\n")
        virsh.stdin.write(f"create {paths[free.name]}\n")
        virsh.stdin.flush()
        names = sorted(guest.name for guest in (bound, defined, free))
        wait_for("all have started", lambda: running(house) == names, LIMIT_S)
        # a driver that is new on the way knows it too
        house.kill("qemu")
        house.start("qemu")
        wait_for("the driver is back", lambda: house.virsh("list", uri=house.uri(URI)).returncode == 0, LIMIT_S)
        assert not gone(bound)() and not gone(defined)()
        virsh.send_signal(signal.SIGKILL)
    finally:
        virsh.kill()
        virsh.communicate()
    wait_for("the guests end", lambda: gone(bound)() and gone(defined)(), LIMIT_S)
    assert not gone(free)()
    wait_for("they are known to be off", lambda: running(house) == [free.name], LIMIT_S)
    names = house.virsh("list", "--all", "--name", uri=house.uri(URI)).stdout.split()
    assert sorted(names) == sorted([defined.name, free.name])
    asyncio.run(start_and_leave(house, bound))
    house.virsh("destroy", free.name, uri=house.uri(URI))


async def start_and_leave(house: GatewayHouse, guest: RealGuest) -> None:
    """The same for a client that needs no gateway."""
    async with await connect(URI, root=house.root) as conn:
        await conn.create(guest.xml(), DomainCreateFlags.START_AUTODESTROY)
        await asyncio.sleep(2.5)
        assert not gone(guest)()
    async with asyncio.timeout(LIMIT_S):
        while not gone(guest)():
            await asyncio.sleep(0.05)
