"""A driver that dies at any step of a start, a save, a restore or a revert: the guest is whole, nothing is left over,
and whoever asked has a verdict.
"""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from actors.qemu.process import find_pids_by_argument
from actors.qemu.saved.image import read_header
from schema.enums.domain_state import DomainState
from schema.errors import CallUndone, VirtError
from schema.objects import DomainSnapshotRef
from tests.contract.house import House
from tests.real.driver_process import Mortal
from tests.real.guest import needs_qemu
from tests.real.test_qemu_block import Still, disk_xml
from tests.real.test_qemu_guests import root, run, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]
__all__ = ["root"]

MOST_STEPS: Final = 200
RUNNING, PAUSED, OFF = DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF


@dataclass(frozen=True)
class Change:
    """A call, what is done before it, and the states of the guest before it and when it is done."""

    procedure: str
    before: DomainState
    after: DomainState
    steps: tuple[int, ...]
    """Those of the quick form of the test."""


CHANGES: Final = {
    "start": Change("domain_create_with_flags", OFF, RUNNING, (9,)),
    "start-transient": Change("domain_create_xml", OFF, RUNNING, (11,)),
    "save": Change("domain_save_flags", RUNNING, OFF, (15,)),
    "managed-save": Change("domain_managed_save", RUNNING, OFF, (17,)),
    "restore": Change("domain_restore_flags", OFF, RUNNING, (16,)),
    "start-saved": Change("domain_create_with_flags", OFF, RUNNING, (19,)),
    "revert": Change("domain_revert_to_snapshot", RUNNING, RUNNING, (5, 20)),
    "revert-transient": Change("domain_revert_to_snapshot", RUNNING, RUNNING, (7,)),
    "revert-to-off": Change("domain_revert_to_snapshot", RUNNING, OFF, (6,)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_is_cut_short_at_some_steps(name: str, root: Path) -> None:
    needs_qemu()
    for step in CHANGES[name].steps:
        assert await _cut_at(name, step, Path(tempfile.mkdtemp(prefix="c", dir=root))), "it has not so many steps"


@pytest.mark.soak
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_is_cut_short_at_any_step(name: str, root: Path) -> None:
    needs_qemu()
    step = 1
    while await _cut_at(name, step, Path(tempfile.mkdtemp(prefix="c", dir=root))):
        step += 1
        assert step < MOST_STEPS
    assert step > 8


async def _cut_at(name: str, step: int, folder: Path) -> bool:
    """Cuts a change short at a step and looks at what is left; whether it had so many steps."""
    disk = folder / "a.qcow2"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M")
    guest = Still(folder, disk_xml(disk))
    change, verdict, why = CHANGES[name], "done", ""
    try:
        async with Mortal(folder, step) as driver:
            args = await _prepare(name, guest, driver, folder)
            await driver.call("count")
            try:
                await driver.call(change.procedure, **args)
            except CallUndone as exc:
                verdict, why = "undone", f" ({exc.message})"
            except VirtError as exc:
                verdict = f"refused: {exc}"
            died = driver.is_dead
            assert died or verdict == "done", verdict
            house = await driver.succeed() if died else None
            if house is not None:
                await _look(
                    house, guest, name, verdict, folder, f"{name} at step {step} ({driver.died_at}): {verdict}{why}"
                )
    finally:
        for pid in find_pids_by_argument(str(guest.uuid)):
            os.kill(pid, signal.SIGKILL)
    return died


async def _prepare(name: str, guest: Still, driver: Mortal, folder: Path) -> dict[str, Any]:
    """What there must be before the call; gives its arguments."""
    if name == "start-transient":
        return {"xml_desc": guest.xml, "flags": 0}
    if name == "revert-transient":
        await driver.call("domain_create_xml", xml_desc=guest.xml, flags=0)
    else:
        await driver.call("domain_define_xml_flags", xml=guest.xml, flags=0)
    if name == "start":
        return {"dom": guest.ref, "flags": 0}
    if name == "revert-to-off":
        await _snapshot(guest, driver)
    if name != "revert-transient":
        await driver.call("domain_create_with_flags", dom=guest.ref, flags=0)
    saved = str(folder / "memory")
    match name:
        case "save":
            return {"dom": guest.ref, "to": saved, "dxml": None, "flags": 0}
        case "managed-save":
            return {"dom": guest.ref, "flags": 0}
        case "restore":
            await driver.call("domain_save_flags", dom=guest.ref, to=saved, dxml=None, flags=0)
            return {"from": saved, "dxml": None, "flags": 0}
        case "start-saved":
            await driver.call("domain_managed_save", dom=guest.ref, flags=0)
            return {"dom": guest.ref, "flags": 0}
        case "revert" | "revert-transient":
            await _snapshot(guest, driver)
    return {"snap": DomainSnapshotRef("s1", guest.ref), "flags": 0}


async def _snapshot(guest: Still, driver: Mortal) -> None:
    xml = "<domainsnapshot><name>s1</name></domainsnapshot>"
    await driver.call("domain_snapshot_create_xml", dom=guest.ref, xml_desc=xml, flags=0)


async def _look(house: House, guest: Still, name: str, verdict: str, folder: Path, where: str) -> None:
    change = CHANGES[name]
    assert verdict in ("done", "undone"), where
    wanted = change.after if verdict == "done" else change.before
    is_kept = guest.uuid.bytes in house.host.guests
    state = (await guest.state(house))[0] if is_kept else OFF
    assert state == wanted, f"{where}: it is {state}"
    one = house.host.guests.get(guest.uuid.bytes)
    assert is_kept == ("transient" not in name or wanted is not OFF), where
    # nothing is left over: processes, folders, ports, work that is going on
    await until(
        "one process at most", lambda: len(find_pids_by_argument(str(guest.uuid))) == int(wanted is not OFF), 30
    )
    folders = {str(path) for path in house.host.run_folder.glob("domain-*")}
    assert folders == ({one.need_run().folder} if one is not None and one.is_active else set()), where
    assert not house.runtime.intents.open, where
    if one is not None and one.is_active:
        assert one.job is None and (await one.ask("query-status"))["status"] == "running", where
        assert find_pids_by_argument(str(guest.uuid)) == [one.need_run().pid], where
        assert (await one.ask("query-migrate")).get("status") in (None, "completed", "cancelled", "none"), where
    _look_at_files(house, guest, name, verdict, folder, where)
    if "revert" in name:
        told = await house.call("domain_snapshot_current", dom=guest.ref, flags=0)
        assert told.snap.name == "s1", where
    # it can be used as ever
    if wanted is OFF and name in ("start", "start-saved", "managed-save", "revert-to-off"):
        await house.call("domain_create_with_flags", dom=guest.ref, flags=0)
    elif wanted is OFF and name in ("save", "restore"):
        await house.call("domain_restore_flags", **{"from": str(folder / "memory")}, dxml=None, flags=0)
    if wanted is not OFF or "transient" not in name:
        assert (await guest.state(house))[0] == RUNNING, where
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)


def _look_at_files(house: House, guest: Still, name: str, verdict: str, folder: Path, where: str) -> None:
    """Memory that is kept is whole, and is there just when the guest is not."""
    memory, managed = folder / "memory", house.runtime.store.path(f"save/{guest.uuid}.save")
    if name == "save":
        assert memory.exists() == (verdict == "done"), where
    if name in ("save", "restore") and memory.exists():
        read_header(memory)
    if name in ("managed-save", "start-saved"):
        is_kept = (verdict == "done") == (name == "managed-save")
        assert managed.exists() == is_kept, where
        assert bool(house.runtime.objects.need_domain(guest.uuid.bytes).summary["managed_save"]) == is_kept, where
