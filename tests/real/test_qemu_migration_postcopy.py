"""Guests that run over there while their memory follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainRunningReason,
    DomainState,
)
from schema.errors import (
    DomainStateError,
    NoSuchDomain,
    OperationFailed,
)
from schema.objects import TypedParam
from tests.real.houses import root
from tests.real.migration_steps import (
    LIVE,
    RESUMED,
    SUSPENDED,
    Traveller,
    ask,
    begin,
    confirm,
    emulators_below,
    finish,
    on_its_way,
    outcome,
    perform,
    post_finish,
    post_perform,
    prepare,
    start,
    state,
    two_hosts,
)
from tests.real.test_qemu_agent import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["root"]


async def test_post_copy_survives_a_connection_that_breaks(root: Path) -> None:
    guest = Traveller(boots=root / "console")
    uri, flags = f"unix://{root}/m.sock", int(LIVE | Flags.POSTCOPY | Flags.CHANGE_PROTECTION)
    again = int(flags | Flags.POSTCOPY_RESUME)
    async with two_hosts(root) as (source, destination):
        await start(source, guest, transient=True)
        await until("the guest counts", lambda: len(guest.counted()) > 10, 120)
        with pytest.raises(DomainStateError, match="outgoing migration is in progress"):
            await ask(source, "domain_migrate_start_post_copy", dom=guest.ref)
        with pytest.raises(DomainStateError, match="is not being migrated"):
            await begin(source, guest, again)
        begun = await begin(source, guest, flags)
        prepared = await prepare(destination, guest, begun, flags, uri)
        slow = (TypedParam.of_ullong("bandwidth", 1), TypedParam.of_ullong("bandwidth.postcopy", 1))
        call = post_perform(source, guest, prepared.cookie_out, flags, uri, *slow)
        await on_its_way(source, guest)
        await ask(source, "domain_migrate_start_post_copy", dom=guest.ref)
        cookie = bytes((await outcome(source, call)).cookie_out)
        assert await state(source, guest) == (DomainState.PAUSED, DomainPausedReason.POSTCOPY)
        with pytest.raises(DomainStateError, match="cannot abort migration in post-copy mode"):
            await ask(source, "domain_abort_job", dom=guest.ref)
        # it runs over there, and its memory follows
        there = len(guest.counted())
        arrival = post_finish(destination, guest, cookie, flags)
        await until("it counts on over there", lambda: len(guest.counted()) > there, 60)
        assert await state(destination, guest) == (DomainState.RUNNING, DomainRunningReason.POSTCOPY)
        with pytest.raises(DomainStateError, match="has not failed"):
            await begin(source, guest, again)
        # until the connection breaks
        await ask(source, "domain_abort_job_flags", dom=guest.ref, flags=1)
        with pytest.raises(OperationFailed, match="job 'migration in job' failed in post-copy phase"):
            await outcome(destination, arrival)
        await confirm(source, guest, flags, cancelled=True)
        assert await state(source, guest) == (DomainState.PAUSED, DomainPausedReason.POSTCOPY_FAILED)
        assert await state(destination, guest) == (DomainState.RUNNING, DomainRunningReason.POSTCOPY_FAILED)
        assert (RESUMED, 4) in destination.broker.lifecycle() and (SUSPENDED, 8) in source.broker.lifecycle()
        with pytest.raises(DomainStateError, match="runs on another host"):
            await ask(source, "domain_resume", dom=guest.ref)
        # it is made anew, by the same steps
        begun = await begin(source, guest, again)
        prepared = await prepare(destination, guest, begun, again, f"unix://{root}/n.sock")
        fast = TypedParam.of_ullong("bandwidth.postcopy", 1000)
        cookie = await perform(source, guest, prepared.cookie_out, again, f"unix://{root}/n.sock", fast)
        await finish(destination, guest, cookie, again)
        await confirm(source, guest, again)
        assert await state(destination, guest) == (DomainState.RUNNING, DomainRunningReason.MIGRATED)
        with pytest.raises(NoSuchDomain):
            await state(source, guest)
        assert emulators_below(root / "a") == []
        there = len(guest.counted())
        await until("it counts on", lambda: len(guest.counted()) > there + 5, 60)
        numbers = guest.counted()
        assert numbers == list(range(1, len(numbers) + 1))
        await ask(destination, "domain_destroy_flags", dom=guest.ref)
