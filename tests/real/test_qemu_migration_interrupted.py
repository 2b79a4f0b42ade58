"""Migrations that do not come to their end: given up, or a driver or a QEMU dies at a chosen moment."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from schema.enums.domain_state import (
    DomainShutoffReason,
    DomainState,
)
from schema.errors import (
    DomainStateError,
    MigrateFinishOk,
    OperationAborted,
    OperationFailed,
    VirtError,
)
from schema.objects import TypedParam
from tests.real.houses import root
from tests.real.migration_steps import (
    LIVE,
    Sink,
    Traveller,
    ask,
    begin,
    confirm,
    emulators_below,
    finish,
    host,
    on_its_way,
    perform,
    post,
    post_perform,
    prepare,
    runs,
    start,
    state,
    two_hosts,
)
from tests.real.test_qemu_agent import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["root"]


async def test_an_aborted_migration_leaves_the_guest_where_it_is(root: Path) -> None:
    guest, sink = Traveller(), Sink(root)
    async with host(root, "a") as source:
        await start(source, guest)
        call = post_perform(source, guest, b"", LIVE, sink.uri)
        await on_its_way(source, guest)
        assert (await ask(source, "domain_get_job_info", dom=guest.ref)).type == 2
        await ask(source, "domain_abort_job", dom=guest.ref)
        with pytest.raises(OperationAborted, match="migration out job: canceled by client"):
            await source.outcome(call)
        assert await runs(source, guest)
        assert source.host.guests[guest.uuid.bytes].run.move is None
        with pytest.raises(DomainStateError, match="no job is active"):
            await ask(source, "domain_abort_job", dom=guest.ref)
        await ask(source, "domain_destroy_flags", dom=guest.ref)
    sink.close()


async def test_a_destroy_goes_ahead_of_a_migration(root: Path) -> None:
    guest, sink = Traveller(), Sink(root)
    async with host(root, "a") as source:
        await start(source, guest)
        call = post_perform(source, guest, b"", LIVE, sink.uri)
        await on_its_way(source, guest)
        await ask(source, "domain_destroy_flags", dom=guest.ref)
        with pytest.raises(VirtError):
            await source.outcome(call)
        assert await state(source, guest) == (DomainState.SHUTOFF, DomainShutoffReason.DESTROYED)
    sink.close()


async def test_a_destination_that_dies_leaves_the_guest_where_it_is(root: Path) -> None:
    guest, uri = Traveller(), f"unix://{root}/m.sock"
    async with two_hosts(root) as (source, destination):
        await start(source, guest)
        begun = await begin(source, guest, LIVE)
        prepared = await prepare(destination, guest, begun, LIVE, uri)
        (pid,) = emulators_below(root / "b")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(OperationFailed, match="migration out job"):
            await perform(source, guest, prepared.cookie_out, LIVE, uri)
        with pytest.raises(VirtError):
            await finish(destination, guest, b"", LIVE, cancelled=True)
        await confirm(source, guest, LIVE, cancelled=True)
        assert await runs(source, guest)
        await ask(source, "domain_destroy_flags", dom=guest.ref)


async def test_a_source_driver_that_dies_while_it_sends(root: Path) -> None:
    guest, sink = Traveller(), Sink(root)
    async with host(root, "a", dies=True) as source:
        await start(source, guest)
        post_perform(source, guest, b"", LIVE, sink.uri)
        await on_its_way(source, guest)
    async with host(root, "a", epoch=2) as source:
        await until("it is called off", lambda: source.host.guests[guest.uuid.bytes].run.move is None, 30)
        assert await runs(source, guest)
        assert (await ask(source, "domain_get_job_info", dom=guest.ref)).type == 0
        await ask(source, "domain_destroy_flags", dom=guest.ref)
    sink.close()


@pytest.mark.parametrize("outcome", ["arrived", "given up"])
async def test_a_source_driver_that_dies_when_all_is_sent(outcome: str, root: Path) -> None:
    guest, uri = Traveller(), f"unix://{root}/m.sock"
    async with host(root, "b") as destination:
        async with host(root, "a", dies=True) as source:
            await start(source, guest)
            begun = await begin(source, guest, LIVE)
            prepared = await prepare(destination, guest, begun, LIVE, uri)
            cookie = await perform(source, guest, prepared.cookie_out, LIVE, uri)
            assert not await runs(source, guest)
        async with host(root, "a", epoch=2) as source:
            assert not await runs(source, guest)  # until the caller says where it went
            assert (await state(source, guest))[0] == DomainState.PAUSED
            if outcome == "arrived":
                await finish(destination, guest, cookie, LIVE)
                await confirm(source, guest, LIVE)
                assert await state(source, guest) == (DomainState.SHUTOFF, DomainShutoffReason.MIGRATED)
                assert await runs(destination, guest)
                await ask(destination, "domain_destroy_flags", dom=guest.ref)
            else:
                with pytest.raises(MigrateFinishOk):
                    await finish(destination, guest, b"", LIVE, cancelled=True)
                await confirm(source, guest, LIVE, cancelled=True)
                assert await runs(source, guest)
                assert not await runs(destination, guest)
                await ask(source, "domain_destroy_flags", dom=guest.ref)


@pytest.mark.parametrize("moment", ["before it runs", "after it runs"])
async def test_a_destination_driver_that_dies_as_the_guest_goes_on(
    moment: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, uri = Traveller(), f"unix://{root}/m.sock"
    async with host(root, "a") as source:
        await start(source, guest)
        async with host(root, "b", dies=True) as destination:
            begun = await begin(source, guest, LIVE)
            prepared = await prepare(destination, guest, begun, LIVE, uri)
            cookie = await perform(source, guest, prepared.cookie_out, LIVE, uri)
            if moment == "after it runs":
                await finish(destination, guest, cookie, LIVE)
            else:
                one = destination.host.guests[guest.uuid.bytes]
                plain, stuck = one.ask, asyncio.Event()

                async def without_cont(name: str, arguments: Any = None) -> Any:
                    if name == "cont":
                        stuck.set()
                        await asyncio.Event().wait()
                    return await plain(name, arguments)

                monkeypatch.setattr(one, "ask", without_cont)
                params = [TypedParam.of_string("destination_name", guest.name)]
                post(
                    destination,
                    "domain_migrate_finish3_params",
                    params=params,
                    cookie_in=cookie,
                    flags=LIVE,
                    cancelled=0,
                )
                await asyncio.wait_for(stuck.wait(), 30)
        async with host(root, "b", epoch=2) as destination:
            if moment == "after it runs":
                await finish(destination, guest, cookie, LIVE)  # said again, it says the same again
                await confirm(source, guest, LIVE)
                assert await runs(destination, guest) and not await runs(source, guest)
                await ask(destination, "domain_destroy_flags", dom=guest.ref)
            else:
                await until("it is given up", lambda: emulators_below(root / "b") == [], 30)
                with pytest.raises(VirtError):
                    await finish(destination, guest, cookie, LIVE)
                await confirm(source, guest, LIVE, cancelled=True)
                assert await runs(source, guest) and not await runs(destination, guest)
                await ask(source, "domain_destroy_flags", dom=guest.ref)
