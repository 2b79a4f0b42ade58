"""A driver, or a guest's own process, that dies at any step of a change: all is as before it or as after it.

What there is on the host, in QEMU and in the definition is compared with two runs that nothing disturbs: one that is
prepared alone, and one that makes the change. Whoever asked has a verdict, and the guest can be used as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from actors.qemu.process import find_pids_by_argument
from schema.errors import CallUndone, VirtError
from tests.contract.house import House
from tests.process.ending import end_processes_below
from tests.real.census import Census, differences, take_census, take_inner_census
from tests.real.cuts import CHANGES, SETTINGS, Change, Furnished, prepare
from tests.real.driver_process import Mortal, Nursery
from tests.real.guest import needs_qemu
from tests.real.networks import drop_macvtaps, own_network

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has control groups, links and files to give away"),
]
PATIENCE_S: Final = 40.0
QUICK: Final = (
    "start",
    "start-transient",
    "save",
    "revert",
    "snapshot-external",
    "pivot",
    "backup",
    "disk",
    "nic-direct",
    "channel",
)
"""Those of every run; all of them are for soaks."""
ALL_FLAGS: Final = 1 | 2 | 4 | 16 | 32
"""Of undefine: nothing of the guest is kept."""


@dataclass
class Reference:
    """What there is when nothing disturbs: on the host and within; when the guest is off then; and without it."""

    there: Census
    within: Census
    off: Census
    gone: Census
    steps: int = 0


@pytest.fixture
def root() -> Iterator[Path]:
    needs_qemu()
    with own_network():
        folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            end_processes_below(folder)
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Trial:
    """One change of one new guest, below a folder of its own."""

    name: str
    root: Path
    nursery: Nursery

    @property
    def change(self) -> Change:
        return CHANGES[self.name]

    @contextlib.asynccontextmanager
    async def begun(self, step: int, *, kills_guest: bool = False) -> AsyncIterator[tuple[Mortal, Furnished]]:
        """A guest that is ready for the change, and its driver."""
        folder = Path(tempfile.mkdtemp(prefix="c", dir=self.root))
        folder.chmod(0o755)
        guest = Furnished(folder, firmware=self.change.firmware)
        await guest.make_images()
        probed = self.root / "cache"
        if probed.exists():
            shutil.copytree(probed, folder / "cache")
        victim = str(guest.uuid) if kills_guest else ""
        try:
            async with Mortal(folder, step, nursery=self.nursery, settings=SETTINGS, victim=victim) as driver:
                await prepare(self.change, guest, driver.call)
                await driver.call("count")
                yield driver, guest
        finally:
            if not probed.exists() and (folder / "cache").exists():
                shutil.copytree(folder / "cache", probed)
            for pid in find_pids_by_argument(str(guest.uuid)):
                os.kill(pid, signal.SIGKILL)
            drop_macvtaps()
            shutil.rmtree(folder, ignore_errors=True)

    async def reference(self, *, changes: bool) -> Reference:
        """What nothing disturbs."""
        async with self.begun(0) as (driver, guest):
            if changes:
                await driver.call(self.change.procedure, **self.change.arguments(guest))
            steps = int(await driver.call("counted"))
            house = await driver.succeed()
            await settled(house, guest)
            there, within = await stable(guest, house)
            await self.end(house, guest)
            off = take_census(guest.root, guest)
            await self.use(house, guest)
            await self.forget(house, guest)
            return Reference(there, within, off, take_census(guest.root, guest), steps)

    async def cut(self, step: int, undone: Reference, done: Reference) -> None:
        """The driver dies at a step."""
        async with self.begun(step) as (driver, guest):
            verdict, is_done = "done", True
            try:
                await driver.call(self.change.procedure, **self.change.arguments(guest))
            except CallUndone as exc:
                verdict, is_done = f"undone ({exc.message})", False
            where = f"{self.name} at step {step} ({driver.died_at}): {verdict}"
            assert driver.is_dead, where
            house = await driver.succeed()
            await settled(house, guest)
            wanted = done if is_done else undone
            if is_done or not self.change.stays_between:
                await same(lambda: take_census(guest.root, guest), (wanted.there,), where)
                found = differences(wanted.within, await take_inner_census(guest.root, house, guest))
                assert not found, f"{where}: {found}"
            await look_at_disk(house, guest, where)
            await self.end(house, guest)
            others = (undone, done) if self.change.stays_between else (wanted,)
            await same(lambda: take_census(guest.root, guest), [one.off for one in others], f"{where}, then it ended")
            await self.use(house, guest)
            await self.forget(house, guest)
            await same(lambda: take_census(guest.root, guest), [one.gone for one in others], f"{where}, then it went")

    async def kill(self, step: int, undone: Reference, done: Reference) -> None:
        """The guest's process dies at a step; its driver goes on."""
        async with self.begun(step, kills_guest=True) as (driver, guest):
            verdict = "done"
            try:
                await driver.call(self.change.procedure, **self.change.arguments(guest))
            except VirtError as exc:
                verdict = f"{type(exc).__name__}: {exc.message}"
            where = f"{self.name}, its guest killed at step {step} ({driver.died_at}): {verdict}"
            if not driver.died_at:
                return  # there was no process any more to be killed
            # an answer may be lost together with the guest that has given it
            wanted = (done, undone)
            await same(lambda: take_census(guest.root, guest), [one.off for one in wanted], where)
            house = await driver.succeed()
            within = await take_inner_census(guest.root, house, guest)
            assert not within.get("owners") and not within.get("intents"), where
            kept = {area: within[area] for area in ("configuration", "moments") if area in within}
            found = [differences({area: one.within.get(area, ()) for area in kept}, kept) for one in wanted]
            assert not all(found) or self.change.is_transient, f"{where}: {found}"
            await self.end(house, guest)
            await self.use(house, guest)
            await self.forget(house, guest)
            await same(lambda: take_census(guest.root, guest), [one.gone for one in wanted], f"{where}, then it went")

    async def end(self, house: House, guest: Furnished) -> None:
        """The guest is off."""
        if guest.uuid.bytes in house.host.guests and house.host.guest(guest.ref).is_active:
            await call(house, "domain_destroy_flags", dom=guest.ref, flags=0)

    async def use(self, house: House, guest: Furnished) -> None:
        """A guest that is off, and its disk, can be used as ever."""
        if guest.uuid.bytes in house.host.guests:
            await call(house, "domain_create_with_flags", dom=guest.ref, flags=0)
            await call(house, "domain_destroy_flags", dom=guest.ref, flags=0)

    async def forget(self, house: House, guest: Furnished) -> None:
        """Nothing is known of the guest any more."""
        if guest.uuid.bytes in house.host.guests:
            await call(house, "domain_undefine_flags", dom=guest.ref, flags=ALL_FLAGS)


async def call(house: House, procedure: str, **arguments: object) -> None:
    await house.outcome(house.post(procedure, deadline_s=60, **arguments))


async def stable(guest: Furnished, house: House) -> tuple[Census, Census]:
    """What there is once nothing changes any more."""
    end = time.monotonic() + PATIENCE_S
    there = take_census(guest.root, guest), await take_inner_census(guest.root, house, guest)
    while True:
        await asyncio.sleep(0.1)
        again = take_census(guest.root, guest), await take_inner_census(guest.root, house, guest)
        if again == there:
            return there
        there = again
        assert time.monotonic() < end, "it never comes to rest"


async def same(taken: Callable[[], Census], wanted: object, where: str) -> None:
    """What there is soon is one of what is wanted."""
    assert isinstance(wanted, list | tuple)
    end = time.monotonic() + PATIENCE_S
    while True:
        found = [differences(one, taken()) for one in wanted]
        if not all(found):
            return
        assert time.monotonic() < end, f"{where}: {min(found, key=len)}"
        await asyncio.sleep(0.05)


async def settled(house: House, guest: Furnished) -> None:
    """Waits until nothing is on its way any more, but for a copy that waits for its pivot, or a backup for its end."""
    end = time.monotonic() + PATIENCE_S
    while guest.uuid.bytes in house.host.guests:
        run = house.host.guest(guest.ref).run
        pulls = run is not None and run.backup is not None and "mode='pull'" in run.backup.xml
        if run is None or pulls or not [job for job in run.jobs if job.state != "ready"]:
            return
        assert time.monotonic() < end, f"block jobs do not end: {run.jobs}"
        await asyncio.sleep(0.05)


async def look_at_disk(house: House, guest: Furnished, where: str) -> None:
    """QEMU's image is the definition's, and each node of QEMU is one that the definition knows."""
    own = house.host.guests.get(guest.uuid.bytes)
    if own is None or not own.is_active:
        return
    told = await own.ask("query-block")
    top = next(one["inserted"]["node-name"] for one in told if "virtio-disk0" in str(one.get("qdev")))
    chain = await guest.chain(house)
    assert top == f"libvirt-{chain[0][1]}-format", f"{where}: QEMU has {top}, the definition {chain}"
    text = etree.fromstring(await guest.xml_desc(house))
    known = {str(one) for one in text.xpath("//disk//@index")}
    names = [str(one["node-name"]) for one in await own.ask("query-named-block-nodes", {"flat": True})]
    nodes = {name.split("-")[1] for name in names if name.startswith("libvirt-") and "pflash" not in name}
    assert nodes <= known, f"{where}: nobody knows the nodes {nodes - known}"
    assert own.job is None, where


async def cut_short(name: str, root: Path, cuts: int, kills: int) -> None:
    """So many cuts of each kind, spread over the steps; 0 is all."""
    async with Nursery() as nursery:
        trial = Trial(name, root, nursery)
        undone = await trial.reference(changes=False)
        done = await trial.reference(changes=True)
        assert done.steps > 3
        for wanted, work in ((cuts, trial.cut), (kills, trial.kill)):
            for step in spread(done.steps, wanted):
                await work(step, undone, done)


def spread(steps: int, wanted: int) -> list[int]:
    """So many of the steps, evenly; the last one may not come, as what goes on beside is a step too."""
    most = max(1, steps - 2)
    wanted = wanted or most
    return sorted({1 + (2 * number + 1) * most // (2 * wanted) for number in range(min(wanted, most))})


@pytest.mark.parametrize("name", QUICK)
async def test_a_change_that_is_cut_short_at_some_steps(name: str, root: Path) -> None:
    await cut_short(name, root, 1, 1)


@pytest.mark.soak
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_is_cut_short_at_any_step(name: str, root: Path) -> None:
    await cut_short(name, root, 0, 0)
