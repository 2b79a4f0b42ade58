"""A driver that dies at any step of a change of a guest's images leaves guest, images and definition whole."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import pytest
from lxml import etree

from actors.qemu.driver import QemuActor
from schema.errors import CallUndone, VirtError
from tests.contract.house import House, open_house
from tests.real.dying import CORRELATION, DEAD, SCOPE, SOURCE, call_of
from tests.real.test_qemu_block import Still, disk_xml
from tests.real.test_qemu_guests import root, run

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]
__all__ = ["root"]

MOST_STEPS = 120
CHANGES = (
    "snapshot-external",
    "snapshot-internal",
    "snapshot-memory",
    "snapshot-delete",
    "pivot",
    "copy",
    "checkpoint",
    "backup",
)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_is_cut_short_at_some_steps(change: str, root: Path) -> None:
    await _cut(change, root, 5)


@pytest.mark.soak
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_is_cut_short_at_any_step(change: str, root: Path) -> None:
    await _cut(change, root, 1)


async def _cut(change: str, root: Path, stride: int) -> None:
    step = 1
    while step < MOST_STEPS:
        folder = Path(tempfile.mkdtemp(prefix="c", dir=root))
        if not await _cut_at(change, step, folder):
            break
        step += stride
    assert 5 < step < MOST_STEPS, f"the change had {step} steps"


async def _cut_at(change: str, step: int, folder: Path) -> bool:
    """Cuts a change short at a step and looks at what is left; whether it had so many steps."""
    disk = folder / "a.qcow2"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "2M")
    await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 1M", str(disk))
    guest = Still(folder, disk_xml(disk))
    (folder / "guest.xml").write_text(guest.xml, encoding="utf-8")
    words = (sys.executable, "-m", "tests.real.dying", str(folder), change, str(step))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode in (0, DEAD), (step, process.returncode, said)
    async with open_house(QemuActor(), SCOPE, folder, epoch=2) as house:
        try:
            await _look(house, guest, change, folder, f"{change} at step {step}")
        finally:
            if house.runtime.objects.need_domain(guest.uuid.bytes).summary["id"] != -1:
                await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
    # the configuration can be opened by whoever starts it next
    config = etree.fromstring(house.host.guest(guest.ref).record.xml)
    source = config.find("./devices/disk/source")
    assert source is not None
    await run("qemu-img", "check", "-q", str(source.get("file")))
    await run("qemu-img", "info", "--backing-chain", str(source.get("file")))
    return process.returncode == DEAD


async def _look(house: House, guest: Still, change: str, folder: Path, where: str) -> None:
    procedure, args = call_of(change, guest.ref, folder)
    call = house.post(procedure, correlation=CORRELATION, source=SOURCE, resend=True, deadline_s=60, **args)
    try:
        await house.outcome(call)
        verdict = "done"
    except CallUndone:
        verdict = "undone"
    except VirtError as exc:
        verdict = f"refused: {exc}"
    assert (await guest.state(house))[0] in (1, 3), f"{where}: the guest is not what it was"
    await _settled(house, guest)
    own = house.host.guest(guest.ref)
    told = await own.ask("query-block")
    top = next(one["inserted"]["node-name"] for one in told if "virtio-disk0" in str(one.get("qdev")))
    chain = await guest.chain(house)
    assert top == f"libvirt-{chain[0][1]}-format", f"{where} ({verdict}): QEMU has {top}, the definition {chain}"
    nodes = {one["node-name"] for one in await own.ask("query-named-block-nodes", {"flat": True})}
    known = {f"libvirt-{number}-{what}" for _, number in chain for what in ("format", "storage")}
    disk = own.live.devices.disks[0]
    if disk.mirror is not None and disk.mirror.source is not None:
        known |= {f"libvirt-{disk.mirror.source.index}-{what}" for what in ("format", "storage")}
    left = {name for name in nodes if name.startswith("libvirt-")} - known
    assert not left, f"{where} ({verdict}): nobody knows {left} any more"
    assert (await guest.chain(house, 2))[0][0] == chain[0][0], f"{where}: the configuration has another image"
    await _look_at_moments(house, guest, change, folder, verdict, where)


async def _settled(house: House, guest: Still) -> None:
    """Waits until nothing is on its way any more, but for a copy that waits for its pivot."""
    for _ in range(600):
        run = house.host.guest(guest.ref).run
        if run is None or not [job for job in run.jobs if job.state not in ("ready",)]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"block jobs do not end: {house.host.guest(guest.ref).run.jobs}")


async def _look_at_moments(house: House, guest: Still, change: str, folder: Path, verdict: str, where: str) -> None:
    told = await house.call("domain_list_all_snapshots", dom=guest.ref, need_results=1, flags=0)
    snapshots = [one.name for one in told.snapshots]
    told = await house.call("domain_list_all_checkpoints", dom=guest.ref, need_results=1, flags=0)
    checkpoints = [one.name for one in told.checkpoints]
    if change in ("snapshot-external", "snapshot-internal", "snapshot-memory"):
        assert (snapshots == ["s1"]) == (verdict == "done"), f"{where}: {verdict}, but there is {snapshots}"
        if verdict == "undone":
            assert not (folder / "a.s1").exists(), f"{where}: an image is left that nobody needs"
            assert not (folder / "s1.mem").exists(), f"{where}: memory is left that nobody needs"
    if change == "snapshot-delete" and verdict == "done":
        assert snapshots == [] and not (folder / "a.s1").exists(), f"{where}: it is not gone"
    if change in ("checkpoint", "backup") and verdict in ("done", "undone"):
        assert (checkpoints == ["ck1"]) == (verdict == "done"), f"{where}: {verdict}, but there is {checkpoints}"
