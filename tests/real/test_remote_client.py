"""The library straight on a real libvirtd, without an agent and without any C."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import virtroupe
from broker.stream import open_ticket
from client.connection import Connection
from client.event import Event, Resync
from schema.errors import HypervisorGone, InvalidArguments, NoSuchDomain, RpcError
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.real.test_remote_libvirtd import XML, start_again

pytestmark = pytest.mark.real

POOL = "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"
VOLUME = "<volume><name>v.img</name><capacity>1048576</capacity></volume>"


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        with Libvirtd(base / "d") as daemon:
            yield daemon
    except CannotRun as exc:
        pytest.skip(str(exc))
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
async def conn(libvirtd: Libvirtd) -> AsyncIterator[Connection]:
    async with virtroupe.connect(libvirtd.uri("test:///default")) as conn:
        yield conn


async def test_guests_are_listed_and_live(conn: Connection) -> None:
    assert [guest.name for guest in await conn.list_domains()] == ["test"]
    dom = await conn.define(XML)
    await dom.start()
    assert (await conn.domain("far")).id == (await conn.domain_by_name("far")).id
    assert [guest.name for guest in await conn.list_guests()] == ["test", "far"]
    await dom.destroy()
    await dom.undefine()
    with pytest.raises(NoSuchDomain):
        await conn.domain("far")
    assert (await conn.node_info()).cpus > 0
    assert "<capabilities>" in await conn.capabilities()
    assert await conn.hypervisor() == "TEST"


async def test_events_come_in_order_with_summaries(conn: Connection) -> None:
    stream = conn.events(kinds=["lifecycle"])
    async with stream:
        dom = await conn.define(XML)
        await dom.start()
        await dom.destroy()
        await dom.undefine()
        events = []
        async with asyncio.timeout(10):
            async for event in stream:
                assert isinstance(event, Event)
                events.append(event)
                if len(events) == 4:
                    break
    assert [event.data["event"] for event in events] == [0, 2, 5, 1]
    assert [event.version for event in events] == sorted(event.version for event in events)
    assert events[-1].summary is None
    assert events[0].object is not None
    assert events[0].object.name == "far"
    again = conn.events(after=events[1].cursor, kinds=["lifecycle"])
    async with again, asyncio.timeout(10):
        assert (await anext(again)).cursor == events[2].cursor  # type: ignore[union-attr]


async def test_a_restarted_daemon_is_a_resync_and_calls_go_on() -> None:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    daemon = Libvirtd(base / "r")
    try:
        daemon.__enter__()
    except CannotRun as exc:
        pytest.skip(str(exc))
    try:
        async with virtroupe.connect(daemon.uri("test:///default")) as conn, conn.events() as stream:
            await conn.define(XML)
            async with asyncio.timeout(10):
                assert isinstance(await anext(stream), Event)
            daemon.__exit__(None, None, None)
            with pytest.raises((HypervisorGone, RpcError)):
                await conn.list_domains()
            await asyncio.to_thread(start_again, daemon)
            async with asyncio.timeout(20):
                while not isinstance(item := await anext(stream), Resync):
                    pass
            assert {known.name for known in item.objects if known.type == "domain"} == {"test"}
            assert [guest.name for guest in await conn.list_domains()] == ["test"]
            await conn.define(XML)
            async with asyncio.timeout(10):
                assert isinstance(await anext(stream), Event)
    finally:
        daemon.__exit__(None, None, None)
        shutil.rmtree(base, ignore_errors=True)


async def test_a_volume_goes_up_and_comes_down(libvirtd: Libvirtd, tmp_path: Path) -> None:
    async with virtroupe.connect(libvirtd.uri("qemu:///system")) as conn:
        pool = (await conn.call("storage_pool_create_xml", xml=POOL.format(name="p", path=tmp_path), flags=0)).pool
        vol = (await conn.call("storage_vol_create_xml", pool=pool, xml=VOLUME, flags=0)).vol
        data = bytes(range(256)) * 4096
        told = await conn.called("storage_vol_upload", {"vol": vol, "offset": 0, "length": len(data)})
        assert told.ticket is not None
        async with await open_ticket(told.ticket) as up:
            await up.write(data)
            await up.finish()
            assert await up.read() == b""
        assert (tmp_path / "v.img").read_bytes() == data
        told = await conn.called("storage_vol_download", {"vol": vol, "offset": 0, "length": 0})
        assert told.ticket is not None
        got = bytearray()
        async with await open_ticket(told.ticket) as down:
            await down.finish()  # this side has nothing to say, which must not cut the other short
            while piece := await down.read():
                got += piece
        assert bytes(got) == data
        await conn.call("storage_pool_destroy", pool=pool)


async def test_what_an_agent_alone_can_is_refused(conn: Connection) -> None:
    with pytest.raises(InvalidArguments, match="idempotency"):
        await conn.call("domain_lookup_by_name", name="test", idempotency_key="k")


async def test_where_nobody_listens_is_told_with_the_uri(tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    with pytest.raises(RpcError, match="none"):
        await virtroupe.connect(uri)
    with pytest.raises(InvalidArguments, match="carrier"):
        await virtroupe.connect("qemu+carrier://host/system")
