"""Guests that move between two drivers on real QEMU: in what ways, and what cannot be moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import (
    DomainShutoffReason,
    DomainState,
)
from schema.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    DomainStateError,
    InternalError,
    InvalidArguments,
    MigrateUnsafe,
    NoSuchDomain,
)
from schema.objects import TypedParam
from tests.contract.house import House
from tests.real.houses import root
from tests.real.migration_steps import (
    LIVE,
    RESUMED,
    STARTED,
    STOPPED,
    SUSPENDED,
    Traveller,
    ask,
    begin,
    confirm,
    emulators_below,
    finish,
    host,
    move,
    perform,
    prepare,
    runs,
    start,
    state,
    two_hosts,
)
from tests.real.test_qemu_agent import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["root"]


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_a_guest_counts_on_without_missing_a_number(way: str, root: Path) -> None:
    guest = Traveller(boots=root / "console")
    uri = f"unix://{root}/m.sock" if way == "unix" else "tcp://127.0.0.1"
    flags = LIVE | Flags.PERSIST_DEST | Flags.UNDEFINE_SOURCE | Flags.CHANGE_PROTECTION
    async with two_hosts(root) as (source, destination):
        await start(source, guest)
        await until("the guest counts", lambda: len(guest.counted()) > 10, 120)
        await move(source, destination, guest, int(flags), uri)
        there = len(guest.counted())
        await until("it counts on over there", lambda: len(guest.counted()) > there + 10, 60)
        numbers = guest.counted()
        assert numbers == list(range(1, len(numbers) + 1))
        with pytest.raises(NoSuchDomain):
            await state(source, guest)
        assert await state(destination, guest) == (DomainState.RUNNING, 2)
        assert source.broker.lifecycle()[-2:] == [(SUSPENDED, 1), (STOPPED, 3)]
        kinds = source.broker.kinds()
        assert "domain_event_migration_iteration" in kinds and "domain_event_job_completed" in kinds
        assert (STARTED, 1) in destination.broker.lifecycle() and (RESUMED, 1) in destination.broker.lifecycle()
        assert destination.runtime.objects.need_domain(guest.uuid.bytes).summary["persistent"]
        await ask(destination, "domain_destroy_flags", dom=guest.ref)


METHOD = "compression"
WAYS: dict[str, tuple[Flags, list[TypedParam]]] = {
    "plain": (Flags(0), []),
    "paused": (Flags.PAUSED, []),
    "throttled": (
        Flags.LIVE | Flags.AUTO_CONVERGE,
        [TypedParam.of_int("auto_converge.initial", 30), TypedParam.of_int("auto_converge.increment", 20)],
    ),
    "parallel": (
        Flags.LIVE | Flags.PARALLEL | Flags.COMPRESSED,
        [TypedParam.of_int("parallel.connections", 3), TypedParam.of_string(METHOD, "zlib")],
    ),
    "by threads": (
        Flags.LIVE | Flags.COMPRESSED,
        [TypedParam.of_string(METHOD, "mt"), TypedParam.of_int("compression.mt.level", 1)],
    ),
    "xbzrle": (
        Flags.LIVE | Flags.COMPRESSED,
        [TypedParam.of_string(METHOD, "xbzrle"), TypedParam.of_ullong("compression.xbzrle.cache", 8 << 20)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_ways_of_a_migration(way: str, root: Path) -> None:
    guest, (flags, params) = Traveller(), WAYS[way]
    async with two_hosts(root) as (source, destination):
        await start(source, guest)
        await move(source, destination, guest, int(flags), f"unix://{root}/m.sock", *params)
        paused = bool(flags & Flags.PAUSED)
        assert (await state(destination, guest))[0] == (DomainState.PAUSED if paused else DomainState.RUNNING)
        assert await state(source, guest) == (DomainState.SHUTOFF, DomainShutoffReason.MIGRATED)
        for house, operation in ((source, 5), (destination, 4)):
            told = await house_stats(house, guest)
            assert told["operation"] == operation and told["memory_total"] > 0 and told["downtime"] >= 0
            assert ("compression_cache" in told) == (way == "xbzrle")
        await ask(destination, "domain_destroy_flags", dom=guest.ref)
        with pytest.raises(NoSuchDomain):
            await state(destination, guest)  # it was not made persistent there


async def house_stats(house: House, guest: Traveller) -> dict[str, Any]:
    told = await ask(house, "domain_get_job_stats", dom=guest.ref, flags=1)
    assert told.type == 3
    return {one.field: one.value for one in told.params}


async def test_a_guest_that_is_off_moves_as_its_definition(root: Path) -> None:
    guest = Traveller()
    flags = int(Flags.OFFLINE | Flags.PERSIST_DEST | Flags.UNDEFINE_SOURCE)
    async with two_hosts(root) as (source, destination):
        await source.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        with pytest.raises(DomainStateError, match="domain is not running"):
            await begin(source, guest, LIVE)
        with pytest.raises(DomainStateError, match="persistent flag"):
            await begin(source, guest, int(Flags.OFFLINE))
        await move(source, destination, guest, flags, "tcp://127.0.0.1")
        assert (await state(destination, guest))[0] == DomainState.SHUTOFF
        with pytest.raises(NoSuchDomain):
            await state(source, guest)


async def test_what_cannot_move(root: Path) -> None:
    disk = root / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    guest = Traveller(
        more=f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    async with two_hosts(root) as (source, destination):
        await start(source, guest)
        with pytest.raises(MigrateUnsafe, match="Migration without shared storage is unsafe"):
            await begin(source, guest, LIVE)
        with pytest.raises(InvalidArguments, match="mutually exclusive"):
            await begin(source, guest, int(Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC))
        with pytest.raises(InvalidArguments, match="Turn parallel migration on"):
            await begin(source, guest, LIVE, TypedParam.of_int("parallel.connections", 4))
        unsafe = int(LIVE | Flags.UNSAFE)
        other = guest.xml.replace("<memory unit='MiB'>160", "<memory unit='MiB'>192")
        with pytest.raises((ConfigUnsupported, InternalError), match="memory"):
            await begin(source, guest, unsafe, TypedParam.of_string("destination_xml", other))
        begun = await begin(source, guest, unsafe)
        with pytest.raises(InternalError, match="Attempt to migrate guest to the same host"):
            await prepare(source, guest, begun, unsafe, "tcp://127.0.0.1")
        with pytest.raises(ArgumentUnsupported, match="unsupported scheme"):
            await prepare(destination, guest, begun, unsafe, "http://127.0.0.1")
        with pytest.raises(DomainStateError, match="no memory hard limit set"):
            await prepare(destination, guest, begun, unsafe, "rdma://127.0.0.1")
        with pytest.raises(NoSuchDomain):
            await finish(destination, guest, b"", unsafe)
        assert await runs(source, guest)
        assert emulators_below(root / "b") == []
        await ask(source, "domain_destroy_flags", dom=guest.ref)


async def test_disks_that_are_not_shared_are_sent_along(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
    here, there = root / "a" / "disk.raw", root / "b" / "disk.raw"
    here.write_bytes(os.urandom(3 << 20))
    guest = Traveller(
        more=f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{here}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    flags, uri = int(LIVE | Flags.NON_SHARED_DISK), "tcp://127.0.0.1"
    async with host(root, "a") as source, host(root, "b") as destination:
        await start(source, guest)
        shown = (await ask(source, "domain_get_xml_desc", dom=guest.ref, flags=1 << 3)).xml
        wanted = TypedParam.of_string("destination_xml", shown.replace(str(here), str(there)))
        begun = await begin(source, guest, flags, wanted)
        assert b"<disk target='vda' capacity='3145728'/>" in begun.cookie_out
        prepared = await prepare(destination, guest, begun, flags, uri)
        where = prepared.uri_out or uri
        cookie = await perform(source, guest, prepared.cookie_out, flags, where)
        await finish(destination, guest, cookie, flags)
        await confirm(source, guest, flags)
        assert await runs(destination, guest)
        assert there.read_bytes() == here.read_bytes()
        await ask(destination, "domain_destroy_flags", dom=guest.ref)
