"""A driver dies at any step of a migration whose memory follows: the guest runs on one side, and can be had whole.

The connection breaks once on the way and is made anew, so that the steps of that are among them.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.migration import arrival
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import VirtError
from schema.objects import TypedParam
from tests.contract.house import House, open_house
from tests.process.ending import end_processes_below
from tests.real.driver_process import SCOPE, Mortal, let_go_over
from tests.real.guest import needs_qemu
from tests.real.houses import root
from tests.real.migration_steps import Traveller
from tests.real.test_qemu_migration_cuts import LIMIT_S, WHERE, Caller, look

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(3000)]
__all__ = ["root"]

FLAGS: Final = int(Flags.LIVE | Flags.PERSIST_DEST | Flags.UNDEFINE_SOURCE | Flags.POSTCOPY | Flags.CHANGE_PROTECTION)
AGAIN: Final = int(FLAGS | Flags.POSTCOPY_RESUME)
SLOW: Final = 300_000
FAST: Final = 100_000_000
MOST_STEPS: Final = 400


@pytest.mark.parametrize(("victim", "step"), [("source", 24), ("destination", 30)])
async def test_a_driver_dies_while_memory_follows(
    victim: str, step: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", 4.0)
    assert await _cut_at(victim, step, root, breaks=False)


@pytest.mark.soak
@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("victim", WHERE)
async def test_a_driver_dies_at_any_step(
    victim: str, breaks: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", 4.0)
    step = 1
    while await _cut_at(victim, step, Path(tempfile.mkdtemp(prefix="m", dir=root)), breaks=breaks):
        step += 1
        assert step < MOST_STEPS
    assert step > 20


async def _cut_at(victim: str, step: int, folder: Path, *, breaks: bool) -> bool:
    """Ends a driver at a step; whether the migration had so many."""
    needs_qemu()
    guest = Traveller()
    for name in WHERE:
        (folder / name).mkdir()
    survivor = next(one for one in WHERE if one != victim)
    try:
        async with (
            Mortal(folder / victim, step) as mortal,
            open_house(QemuActor(), SCOPE, folder / survivor) as house,
        ):
            calls = {victim: mortal.call, survivor: _calls_of(house)}
            journey = _Journey(guest, calls["source"], calls["destination"], folder)
            await calls["source"]("domain_define_xml_flags", xml=guest.xml, flags=0)
            await calls["source"]("domain_create_with_flags", dom=guest.ref, flags=0)
            await journey.set_speed(SLOW)
            await mortal.call("count")
            moved = await (journey.with_break() if breaks else journey.whole())
            if not mortal.is_dead:
                assert moved
                return False
            houses = {victim: await mortal.succeed(), survivor: house}
            where = f"{victim} at step {step} ({mortal.died_at}), moved: {moved}"
            moved = await _mend(journey, guest, houses, where)
            await look(guest, folder, houses, moved, where)
            return True
    finally:
        end_processes_below(folder)


def _calls_of(house: House) -> Caller:
    async def call(procedure: str, **args: Any) -> Any:
        posted = house.post(procedure, deadline_s=LIMIT_S, **args)
        if procedure == "domain_migrate_perform3_params":
            house.runtime.spawn(let_go_over(house, posted.id), "a guest that is to go over")
        return await house.outcome(posted)

    return call


class _Journey:
    """The calls that a client makes."""

    def __init__(self, guest: Traveller, source: Caller, destination: Caller, folder: Path) -> None:
        self._guest = guest
        self._source = source
        self._destination = destination
        self._folder = folder
        self._sockets = 0

    async def set_speed(self, speed: int) -> None:
        """How fast memory follows."""
        arguments = {"max-postcopy-bandwidth": speed}
        command = json.dumps({"execute": "migrate-set-parameters", "arguments": arguments})
        await self._source("qemu_domain_monitor_command", dom=self._guest.ref, cmd=command, flags=0)

    async def whole(self, flags: int = FLAGS) -> bool:
        """All of them; what the client takes for the outcome."""
        sent = await self._send(flags)
        return sent is not None and await self._end(sent, flags)

    async def with_break(self) -> bool:
        """The same; meanwhile the connection breaks and is made anew."""
        sent = await self._send(FLAGS)
        if sent is None:
            return False
        end = asyncio.ensure_future(self._end(sent, FLAGS))
        try:
            await asyncio.sleep(0.3)
            await self._source("domain_abort_job_flags", dom=self._guest.ref, flags=1)
        except VirtError:
            pass
        if await end:
            return True
        try:
            await self.set_speed(FAST)
            return await self.whole(AGAIN)
        except VirtError:
            return False

    async def _send(self, flags: int) -> bytes | None:
        """What the source says when it has sent it; None when nothing has come of it."""
        self._sockets += 1
        uri = TypedParam.of_string("migrate_uri", f"unix://{self._folder}/m{self._sockets}.sock")
        name = TypedParam.of_string("destination_name", self._guest.name)
        try:
            begun = await self._source("domain_migrate_begin3_params", dom=self._guest.ref, params=[], flags=flags)
        except VirtError:
            return None
        try:
            params = [TypedParam.of_string("destination_xml", begun.xml), name, uri]
            prepared = await self._destination(
                "domain_migrate_prepare3_params", params=params, cookie_in=begun.cookie_out, flags=flags
            )
        except VirtError:
            await self._confirm(flags, cancelled=1)
            return None
        try:
            sent = await self._source(
                "domain_migrate_perform3_params",
                dom=self._guest.ref,
                dconnuri=None,
                params=[uri, TypedParam.of_ullong("bandwidth", 1)],
                cookie_in=prepared.cookie_out,
                flags=flags,
            )
            return bytes(sent.cookie_out)
        except VirtError:
            await self._end(b"", flags, cancelled=1)
            return None

    async def _end(self, cookie: bytes, flags: int, cancelled: int = 0) -> bool:
        params = [TypedParam.of_string("destination_name", self._guest.name)]
        try:
            await self._destination(
                "domain_migrate_finish3_params", params=params, cookie_in=cookie, flags=flags, cancelled=cancelled
            )
        except VirtError:
            cancelled = 1
        return await self._confirm(flags, cancelled=cancelled) and not cancelled

    async def _confirm(self, flags: int, *, cancelled: int) -> bool:
        try:
            await self._source(
                "domain_migrate_confirm3_params",
                dom=self._guest.ref,
                params=[],
                cookie_in=b"",
                flags=flags,
                cancelled=cancelled,
            )
        except VirtError:
            return False
        return True


async def _mend(journey: _Journey, guest: Traveller, houses: dict[str, House], where: str) -> bool:
    """A guest whose connection is broken is resumed as a user does; whether it is over there in the end."""
    end = time.monotonic() + 60.0
    while True:
        here, there = (houses[name].host.guests.get(guest.uuid.bytes) for name in WHERE)
        phases = [one.run.move.phase if one is not None and one.run and one.run.move else "" for one in (here, there)]
        if phases == ["broken", "broken"]:
            await journey.set_speed(FAST)
            await journey.whole(AGAIN)
        elif phases[0] == "":
            return here is None or here.run is None
        elif phases[0] == "postcopy":
            await journey.set_speed(FAST)
        assert time.monotonic() < end, f"{where}: {phases}"
        await asyncio.sleep(0.2)
