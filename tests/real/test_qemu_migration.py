"""Guests that move: between two drivers on real QEMU, with every step interrupted once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from actors.qemu.driver import QemuActor
from schema.body import args_struct, pack_args
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
)
from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    InternalError,
    InvalidArguments,
    MigrateUnsafe,
    NoSuchDomain,
    OperationAborted,
    OperationFailed,
    VirtError,
)
from schema.objects import DomainRef, TypedParam
from schema.table import need_procedure
from tests.contract.house import House, open_house
from tests.process.ending import end_processes_below, processes_below
from tests.real.guest import guest_folder, needs_qemu
from tests.real.test_qemu_agent import image_with_agent, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
STARTED, SUSPENDED, RESUMED, STOPPED = 2, 3, 4, 5
LIVE = int(Flags.LIVE)


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        yield folder
    finally:
        end_processes_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def emulators_below(folder: Path) -> list[int]:
    """The QEMU processes whose files are below a folder."""
    return processes_below(folder, word=b"masterKey0")


class Traveller:
    """A guest; one that does not boot is quick."""

    def __init__(self, *, boots: Path | None = None, more: str = "") -> None:
        self.uuid = uuid4()
        self.name = f"mig-{self.uuid.hex[:8]}"
        self.ref = DomainRef(self.name, self.uuid.bytes, -1)
        self.console = boots
        kernel = serial = ""
        if boots is not None:
            kernel = (
                f"<kernel>{guest_folder()}/vmlinuz</kernel><initrd>{image_with_agent()}</initrd>"
                "<cmdline>console=ttyS0 quiet panic=-1 rdinit=/agent-init count-aloud</cmdline>"
            )
            serial = f"<serial type='pty'><log file='{boots}' append='on'/><target port='0'/></serial>"
        self.xml = (
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>160</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>{kernel}</os><features><acpi/></features>"
            f"<devices>{serial}{more}<memballoon model='none'/></devices></domain>"
        )

    def counted(self) -> list[int]:
        """The numbers that the guest has said, on whatever host."""
        assert self.console is not None
        text = self.console.read_text("latin1") if self.console.exists() else ""
        words = [line.partition("VIRTROUPE-COUNT ")[2].strip() for line in text.splitlines()]
        return [int(word) for word in words if word.isdigit()]


async def ask(house: House, procedure: str, **args: Any) -> Any:
    """A call that may take its time."""
    call = post(house, procedure, **args)
    await until(f"an outcome of {procedure}", lambda: call.id in house.broker.outcomes, 100)
    return await house.outcome(call)


def post(house: House, procedure: str, **args: Any) -> Any:
    known = need_procedure(procedure)
    if "flags" in args_struct(known).__struct_fields__:
        args = {"flags": 0} | args
    body = pack_args(known, args)
    return house.post(procedure, body=body, deadline_s=120)


@contextlib.asynccontextmanager
async def two_hosts(root: Path) -> AsyncIterator[tuple[House, House]]:
    needs_qemu()
    for name in ("a", "b"):
        (root / name).mkdir()
    async with (
        open_house(QemuActor(), SCOPE, root / "a") as source,
        open_house(QemuActor(), SCOPE, root / "b") as destination,
    ):
        yield source, destination


@contextlib.asynccontextmanager
async def host(root: Path, name: str, *, epoch: int = 1, dies: bool = False) -> AsyncIterator[House]:
    needs_qemu()
    (root / name).mkdir(exist_ok=True)
    async with open_house(QemuActor(), SCOPE, root / name, epoch=epoch, orderly=not dies) as house:
        yield house


async def start(house: House, guest: Traveller, *, transient: bool = False) -> None:
    if transient:
        await ask(house, "domain_create_xml", xml_desc=guest.xml)
    else:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await ask(house, "domain_create_with_flags", dom=guest.ref)


async def state(house: House, guest: Traveller) -> tuple[int, int]:
    told = await house.call("domain_get_state", dom=guest.ref, flags=0)
    return told.state, told.reason


async def runs(house: House, guest: Traveller) -> bool:
    try:
        return (await state(house, guest))[0] == DomainState.RUNNING
    except NoSuchDomain:
        return False


async def begin(house: House, guest: Traveller, flags: int, *params: TypedParam) -> Any:
    return await ask(house, "domain_migrate_begin3_params", dom=guest.ref, params=list(params), flags=flags)


async def prepare(house: House, guest: Traveller, begun: Any, flags: int, uri: str, *more: TypedParam) -> Any:
    params = [
        TypedParam.of_string("destination_xml", begun.xml),
        TypedParam.of_string("destination_name", guest.name),
        TypedParam.of_string("migrate_uri", uri),
        *more,
    ]
    return await ask(house, "domain_migrate_prepare3_params", params=params, cookie_in=begun.cookie_out, flags=flags)


def post_perform(house: House, guest: Traveller, cookie: bytes, flags: int, uri: str, *more: TypedParam) -> Any:
    params = [TypedParam.of_string("migrate_uri", uri), *more]
    return post(
        house,
        "domain_migrate_perform3_params",
        dom=guest.ref,
        dconnuri=None,
        params=params,
        cookie_in=cookie,
        flags=flags,
    )


async def perform(house: House, guest: Traveller, cookie: bytes, flags: int, uri: str, *more: TypedParam) -> bytes:
    call = post_perform(house, guest, cookie, flags, uri, *more)
    return bytes((await outcome(house, call)).cookie_out)


async def outcome(house: House, call: Any) -> Any:
    """The end of a call that may take its time."""
    await until("an outcome", lambda: call.id in house.broker.outcomes, 100)
    return await house.outcome(call)


async def finish(house: House, guest: Traveller, cookie: bytes, flags: int, *, cancelled: bool = False) -> Any:
    return await outcome(house, post_finish(house, guest, cookie, flags, cancelled=cancelled))


def post_finish(house: House, guest: Traveller, cookie: bytes, flags: int, *, cancelled: bool = False) -> Any:
    params = [TypedParam.of_string("destination_name", guest.name)]
    return post(
        house,
        "domain_migrate_finish3_params",
        params=params,
        cookie_in=cookie,
        flags=flags,
        cancelled=int(cancelled),
    )


async def confirm(house: House, guest: Traveller, flags: int, *, cancelled: bool = False) -> None:
    await ask(
        house,
        "domain_migrate_confirm3_params",
        dom=guest.ref,
        params=[],
        cookie_in=b"",
        flags=flags,
        cancelled=int(cancelled),
    )


async def move(source: House, destination: House, guest: Traveller, flags: int, uri: str, *params: TypedParam) -> None:
    """All steps, as a client makes them."""
    begun = await begin(source, guest, flags, *params)
    prepared = await prepare(destination, guest, begun, flags, uri, *params)
    cookie = await perform(source, guest, prepared.cookie_out, flags, prepared.uri_out or uri, *params)
    await finish(destination, guest, cookie, flags)
    await confirm(source, guest, flags)


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
        assert source.broker.lifecycle()[-3:] == [(SUSPENDED, 1), (STOPPED, 3), (1, 0)]
        assert (STARTED, 1) in destination.broker.lifecycle() and (RESUMED, 1) in destination.broker.lifecycle()
        assert destination.runtime.objects.need_domain(guest.uuid.bytes).summary["persistent"]
        await ask(destination, "domain_destroy_flags", dom=guest.ref)


async def test_post_copy_survives_a_connection_that_breaks(root: Path) -> None:
    guest = Traveller(boots=root / "console")
    uri, flags = f"unix://{root}/m.sock", int(LIVE | Flags.POSTCOPY | Flags.CHANGE_PROTECTION)
    again = int(flags | Flags.POSTCOPY_RESUME)
    async with two_hosts(root) as (source, destination):
        await start(source, guest, transient=True)
        await until("the guest counts", lambda: len(guest.counted()) > 10, 120)
        with pytest.raises(DomainStateError, match="outgoing migration is in progress"):
            await ask(source, "domain_migrate_start_post_copy", dom=guest.ref)
        with pytest.raises(DomainStateError, match="is not in post-copy phase"):
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
        with pytest.raises(InvalidArguments, match="unsupported scheme"):
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


# --- interrupted -----------------------------------------------------------------------------------------------------


class Sink:
    """Somebody who lets QEMU connect and reads nothing: memory never gets through."""

    def __init__(self, root: Path) -> None:
        self.path = root / "sink.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen(1)

    @property
    def uri(self) -> str:
        return f"unix://{self.path}"

    def close(self) -> None:
        self._socket.close()


async def on_its_way(house: House, guest: Traveller) -> None:
    def is_sending() -> bool:
        run = house.host.guests[guest.uuid.bytes].run
        job = house.host.guests[guest.uuid.bytes].job
        return run is not None and run.move is not None and job is not None and "status" in job.status

    await until("the guest is on its way", is_sending, 30)


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
                with pytest.raises(OperationFailed):
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
