"""A driver of a migration dies at any of its steps: the guest runs on one side, and the other has nothing of it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.migration import arrival
from actors.qemu.process import find_pids_by_argument
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainState
from schema.errors import VirtError
from schema.objects import TypedParam
from tests.contract.house import House, open_house
from tests.process.ending import end_processes_below
from tests.real.driver_process import LIMIT_S, SCOPE, Mortal
from tests.real.guest import needs_qemu
from tests.real.houses import root
from tests.real.migration_steps import Traveller, emulators_below

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1200)]
__all__ = ["root"]

Caller = Callable[..., Awaitable[Any]]
FLAGS: Final = int(Flags.LIVE | Flags.PERSIST_DEST | Flags.UNDEFINE_SOURCE)
MOST_STEPS: Final = 200
WHERE: Final = ("source", "destination")


@pytest.mark.parametrize("victim", WHERE)
async def test_a_driver_dies_at_some_steps(victim: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", 4.0)
    for step in (9, 17):
        assert await _cut_at(victim, step, Path(tempfile.mkdtemp(prefix="m", dir=root)))


@pytest.mark.soak
@pytest.mark.parametrize("victim", WHERE)
async def test_a_driver_dies_at_any_step(victim: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", 4.0)
    step = 1
    while await _cut_at(victim, step, Path(tempfile.mkdtemp(prefix="m", dir=root))):
        step += 1
        assert step < MOST_STEPS
    assert step > 20


async def _cut_at(victim: str, step: int, folder: Path) -> bool:
    """Ends a driver at a step; whether the migration had so many."""
    needs_qemu()
    guest, uri = Traveller(), f"unix://{folder}/m.sock"
    for name in WHERE:
        (folder / name).mkdir()
    survivor = next(one for one in WHERE if one != victim)
    try:
        async with (
            Mortal(folder / victim, step) as mortal,
            open_house(QemuActor(), SCOPE, folder / survivor) as house,
        ):
            calls = {victim: mortal.call, survivor: _calls_of(house)}
            await calls["source"]("domain_define_xml_flags", xml=guest.xml, flags=0)
            await calls["source"]("domain_create_with_flags", dom=guest.ref, flags=0)
            await mortal.call("count")
            moved = await _move(guest, calls["source"], calls["destination"], uri)
            if not mortal.is_dead:
                assert moved
                return False
            houses = {victim: await mortal.succeed(), survivor: house}
            where = f"{victim} at step {step} ({mortal.died_at}), moved: {moved}"
            await look(guest, folder, houses, moved, where)
            return True
    finally:
        end_processes_below(folder)


def _calls_of(house: House) -> Caller:
    async def call(procedure: str, **args: Any) -> Any:
        return await house.outcome(house.post(procedure, deadline_s=LIMIT_S, **args))

    return call


async def _move(guest: Traveller, source: Caller, destination: Caller, uri: str) -> bool:
    """The calls that libvirt's client makes, and what it takes for the outcome."""
    try:
        begun = await source("domain_migrate_begin3_params", dom=guest.ref, params=[], flags=FLAGS)
        params = [
            TypedParam.of_string("destination_xml", begun.xml),
            TypedParam.of_string("destination_name", guest.name),
            TypedParam.of_string("migrate_uri", uri),
        ]
        prepared = await destination(
            "domain_migrate_prepare3_params", params=params, cookie_in=begun.cookie_out, flags=FLAGS
        )
    except VirtError:
        return False
    cookie, cancelled = b"", 0
    params = [TypedParam.of_string("migrate_uri", uri)]
    try:
        sent = await source(
            "domain_migrate_perform3_params",
            dom=guest.ref,
            dconnuri=None,
            params=params,
            cookie_in=prepared.cookie_out,
            flags=FLAGS,
        )
        cookie = bytes(sent.cookie_out)
    except VirtError:
        cancelled = 1
    params = [TypedParam.of_string("destination_name", guest.name)]
    try:
        await destination(
            "domain_migrate_finish3_params", params=params, cookie_in=cookie, flags=FLAGS, cancelled=cancelled
        )
    except VirtError:
        cancelled = 1
    await source(
        "domain_migrate_confirm3_params", dom=guest.ref, params=[], cookie_in=b"", flags=FLAGS, cancelled=cancelled
    )
    return not cancelled


async def look(guest: Traveller, folder: Path, houses: dict[str, House], moved: bool, where: str) -> None:
    """What there is must soon be as it has to be, and stay so."""
    end = time.monotonic() + 60.0
    while True:
        try:
            await _look_now(guest, folder, houses, moved)
            break
        except AssertionError as exc:
            assert time.monotonic() < end, f"{where}: {exc}"
            await asyncio.sleep(0.1)
    there = houses["destination" if moved else "source"]
    await _calls_of(there)("domain_destroy_flags", dom=guest.ref, flags=0)
    await _calls_of(there)("domain_undefine_flags", dom=guest.ref, flags=0)


async def _look_now(guest: Traveller, folder: Path, houses: dict[str, House], moved: bool) -> None:
    there, gone = ("destination", "source") if moved else ("source", "destination")
    one = houses[there].host.guests[guest.uuid.bytes]
    assert one.state is DomainState.RUNNING, f"it is {one.state} on the side '{there}'"
    assert one.is_persistent, "its definition is lost"
    assert (await one.ask("query-status"))["status"] == "running"
    assert guest.uuid.bytes not in houses[gone].host.guests, f"the side '{gone}' knows it still"
    assert emulators_below(folder / there) == [one.need_run().pid], "another process"
    assert emulators_below(folder / gone) == [], f"a process on the side '{gone}'"
    assert find_pids_by_argument(str(guest.uuid)) == [one.need_run().pid]
    assert one.job is None and one.leaving is None, "somebody works on it"
    assert one.need_run().move is None or one.need_run().move.way == "in", "it is on its way still"
    for name, house in houses.items():
        assert not house.runtime.intents.open, f"a change is open on the side '{name}'"
        folders = [str(path) for path in house.host.run_folder.glob("domain-*")]
        assert folders == ([one.need_run().folder] if name == there else []), f"folders on the side '{name}'"
        documents = [path.stem for path in house.runtime.store.path("domains").glob("*.json")]
        assert documents == ([str(guest.uuid)] if name == there else []), f"documents on the side '{name}'"
