"""The remote driver against a real libvirtd: what its test driver has, does and tells, and what a restart leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from actors.remote.driver import RemoteActor
from broker.stream import Stream, open_ticket
from remoting.connection import connect_daemon
from schema.enums.domain_event import DomainEventType
from schema.enums.domain_state import DomainState
from schema.errors import DomainStateError, ErrorCode, HypervisorGone, NoSuchDomain, VirtError
from schema.objects import StorageVolRef
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.contract.house import House, open_house
from tests.real.guest import RealGuest, needs_qemu, qemu_pid

pytestmark = pytest.mark.real

VOLUME = "<volume><name>v.img</name><capacity>1048576</capacity></volume>"
XML = "<domain type='test'><name>far</name><memory>65536</memory><os><type>hvm</type></os></domain>"


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def libvirtd(base: Path) -> Iterator[Libvirtd]:
    try:
        with Libvirtd(base / "d") as daemon:
            yield daemon
    except CannotRun as exc:
        pytest.skip(str(exc))


@pytest.fixture
async def house(libvirtd: Libvirtd, tmp_path: Path) -> AsyncIterator[House]:
    scope = libvirtd.uri("test:///default")
    async with open_house(RemoteActor(), scope, tmp_path) as house:
        await house.call("connect_open", name=scope, flags=0)
        yield house


def start_again(daemon: Libvirtd) -> None:
    """Starts a daemon that was ended, at the same socket."""
    daemon.socket.unlink(missing_ok=True)
    daemon.launch()


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)


async def test_the_daemons_guests_and_pools_are_known(house: House) -> None:
    (dom,) = (await house.call("connect_list_all_domains", need_results=1, flags=0)).domains
    assert dom.name == "test"
    (entry,) = house.runtime.objects.all("domain")
    assert (entry.name, entry.summary["state"], entry.summary["vcpus"]) == ("test", DomainState.RUNNING, 2)
    assert {e.name for e in house.runtime.objects.all("network")} == {"default"}
    assert {e.name for e in house.runtime.objects.all("storage_pool")} == {"default-pool"}
    assert (await house.call("connect_get_uri")).uri == house.scope


async def test_a_guests_life_is_called_and_told(house: House) -> None:
    house.broker.records.clear()
    dom = (await house.call("domain_define_xml_flags", xml=XML, flags=0)).dom
    await house.call("domain_create_with_flags", dom=dom, flags=0)
    assert house.runtime.objects.need_domain(dom.uuid).summary["state"] == DomainState.RUNNING
    await house.call("domain_suspend", dom=dom)
    assert (await house.call("domain_get_state", dom=dom, flags=0)).state == DomainState.PAUSED
    await house.call("domain_resume", dom=dom)
    await house.call("domain_destroy", dom=dom)
    assert "<name>far</name>" in (await house.call("domain_get_xml_desc", dom=dom, flags=0)).xml
    await house.call("domain_undefine", dom=dom)
    await until(lambda: len(house.broker.lifecycle()) >= 6)
    assert [kind for kind, _ in house.broker.lifecycle()] == [
        DomainEventType.DEFINED,
        DomainEventType.STARTED,
        DomainEventType.SUSPENDED,
        DomainEventType.RESUMED,
        DomainEventType.STOPPED,
        DomainEventType.UNDEFINED,
    ]
    assert all(record["scope"] == house.scope for record in house.broker.records if record["object"])
    assert house.runtime.objects.find("domain", dom.uuid) is None


async def test_a_change_without_an_event_is_told_as_a_change(house: House) -> None:
    dom = (await house.call("domain_lookup_by_name", name="test")).dom
    before = house.runtime.objects.need_domain(dom.uuid).version
    await house.call("domain_set_autostart", dom=dom, autostart=1)
    entry = house.runtime.objects.need_domain(dom.uuid)
    assert entry.summary["autostart"] is True
    assert entry.version == before + 1
    await house.call("domain_set_autostart", dom=dom, autostart=0)


async def test_errors_are_the_daemons_own(house: House) -> None:
    dom = (await house.call("domain_define_xml_flags", xml=XML, flags=0)).dom
    with pytest.raises(DomainStateError) as caught:
        await house.call("domain_destroy", dom=dom)
    await house.call("domain_undefine", dom=dom)
    error = caught.value
    assert (int(error.code), int(error.domain), error.str1) == (55, 20, "Requested operation is not valid: %s")
    assert error.str2 == "domain is not running"
    with pytest.raises(NoSuchDomain):
        await house.call("domain_lookup_by_name", name="nobody")


async def test_a_restart_of_the_daemon_is_found_by_comparison(base: Path, tmp_path: Path) -> None:
    daemon = Libvirtd(base / "r")
    try:
        daemon.__enter__()
    except CannotRun as exc:
        pytest.skip(str(exc))
    scope = daemon.uri("test:///default")
    try:
        async with open_house(RemoteActor(), scope, tmp_path) as house:
            await house.call("connect_open", name=scope, flags=0)
            dom = (await house.call("domain_define_xml_flags", xml=XML, flags=0)).dom
            await house.call("domain_create_with_flags", dom=dom, flags=0)
            daemon.__exit__(None, None, None)
            house.broker.records.clear()
            with pytest.raises(HypervisorGone):
                await house.call("domain_get_state", dom=dom, flags=0)
            await asyncio.to_thread(start_again, daemon)
            # its test driver remembers nothing: the guest that was made is gone, the one it begins with is there
            await until(lambda: house.runtime.objects.find("domain", dom.uuid) is None, 40)
            assert [kind for kind, _ in house.broker.lifecycle() if kind != DomainEventType.DEFINED] == [
                DomainEventType.STOPPED,
                DomainEventType.UNDEFINED,
            ]
            names = (await house.call("connect_list_all_domains", need_results=1, flags=0)).domains
            assert [dom.name for dom in names] == ["test"]
    finally:
        daemon.__exit__(None, None, None)


async def test_a_new_process_knows_the_objects_at_once_and_tells_what_changed(
    libvirtd: Libvirtd, tmp_path: Path
) -> None:
    scope = libvirtd.uri("test:///default")
    holder = await connect_daemon(scope)  # libvirt's test driver forgets everything with its last connection
    async with open_house(RemoteActor(), scope, tmp_path) as first:
        await first.call("connect_open", name=scope, flags=0)
        dom = (await first.call("domain_define_xml_flags", xml=XML, flags=0)).dom
        broker = first.broker
    count = len(broker.records)
    async with open_house(RemoteActor(), scope, tmp_path, broker=broker, epoch=2) as second:
        assert second.runtime.objects.need_domain(dom.uuid).name == "far"
        await second.call("connect_open", name=scope, flags=0)
        await second.call("domain_undefine", dom=dom)
        assert second.runtime.objects.find("domain", dom.uuid) is None
    await holder.aclose()
    told = [record["kind"] for record in broker.records[count:] if record["object"]]
    assert told.count("domain_event_lifecycle") == 1


async def test_a_volume_goes_up_and_comes_down_past_the_broker(libvirtd: Libvirtd, tmp_path: Path) -> None:
    scope = libvirtd.uri("qemu:///system")
    pool_xml = f"<pool type='dir'><name>actors</name><target><path>{tmp_path}</path></target></pool>"
    data = bytes(range(256)) * 4096
    async with open_house(RemoteActor(), scope, tmp_path) as house:
        await house.call("connect_open", name=scope, flags=0)
        pool = (await house.call("storage_pool_create_xml", xml=pool_xml, flags=0)).pool
        assert house.runtime.objects.find("storage_pool", pool.uuid) is not None
        vol = (await house.call("storage_vol_create_xml", pool=pool, xml=VOLUME, flags=0)).vol
        async with await stream_of(house, "storage_vol_upload", vol=vol, offset=0, length=len(data), flags=0) as up:
            await up.write(data)
            await up.finish()
            assert await up.read() == b""
        assert (tmp_path / "v.img").read_bytes() == data
        async with await stream_of(house, "storage_vol_download", vol=vol, offset=0, length=0, flags=0) as down:
            got = bytearray()
            while piece := await down.read():
                got += piece
        assert bytes(got) == data
        with pytest.raises(VirtError) as caught:
            await house.call(
                "storage_vol_upload", vol=StorageVolRef(pool.name, "none", "none"), offset=0, length=0, flags=0
            )
        assert caught.value.code == ErrorCode.NO_STORAGE_VOL
        await house.call("storage_pool_destroy", pool=pool)
        assert house.runtime.objects.find("storage_pool", pool.uuid) is None


async def test_a_sparse_volume_comes_down_with_its_holes(libvirtd: Libvirtd, tmp_path: Path) -> None:
    scope = libvirtd.uri("qemu:///system")
    pool_xml = f"<pool type='dir'><name>sparse</name><target><path>{tmp_path}</path></target></pool>"
    async with open_house(RemoteActor(), scope, tmp_path) as house:
        await house.call("connect_open", name=scope, flags=0)
        pool = (await house.call("storage_pool_create_xml", xml=pool_xml, flags=0)).pool
        xml = VOLUME.replace("1048576</capacity>", "1048576</capacity><allocation>0</allocation>")
        vol = (await house.call("storage_vol_create_xml", pool=pool, xml=xml, flags=0)).vol
        async with await stream_of(house, "storage_vol_download", vol=vol, offset=0, length=0, flags=1) as down:
            items = []
            while (item := await down.read_frame()) is not None:
                items.append(item)
        assert sum(item if isinstance(item, int) else len(item) for item in items) == 1048576
        assert any(isinstance(item, int) for item in items)
        await house.call("storage_pool_destroy", pool=pool)


async def test_a_running_guest_outlives_its_daemon_and_nothing_is_invented(base: Path, tmp_path: Path) -> None:
    needs_qemu()
    guest = RealGuest("vt-remote", boots=False)
    daemon = Libvirtd(base / "q")
    try:
        daemon.__enter__()
    except CannotRun as exc:
        pytest.skip(str(exc))
    scope = daemon.uri("qemu:///system")
    try:
        async with open_house(RemoteActor(), scope, tmp_path) as house:
            await house.call("connect_open", name=scope, flags=0)
            dom = (await house.call("domain_define_xml_flags", xml=guest.xml(), flags=0)).dom
            await house.call("domain_create_with_flags", dom=dom, flags=0, deadline_s=60)
            await until(lambda: len(house.broker.lifecycle()) >= 3)
            assert house.broker.lifecycle() == [(0, 0), (4, 0), (2, 0)]
            daemon.__exit__(None, None, None)
            await asyncio.to_thread(start_again, daemon)
            await connected(house)
            assert (await house.call("domain_get_state", dom=dom, flags=0)).state == DomainState.RUNNING
            assert len(house.broker.lifecycle()) == 3, house.broker.lifecycle()
            assert "<name>vt-remote</name>" in (await house.call("domain_get_xml_desc", dom=dom, flags=0)).xml
            async with await stream_of(house, "domain_open_console", dom=dom, dev_name=None, flags=0) as console:
                await house.call("domain_destroy", dom=dom, deadline_s=60)
                async with asyncio.timeout(10):
                    while await console.read():
                        pass
            await house.call("domain_undefine", dom=dom)
            await until(lambda: house.broker.lifecycle()[-1][0] == DomainEventType.UNDEFINED)
            ends = [kind for kind, _ in house.broker.lifecycle()[3:] if kind != DomainEventType.SHUTDOWN]
            assert ends == [DomainEventType.STOPPED, DomainEventType.UNDEFINED]
    finally:
        daemon.__exit__(None, None, None)
        if (pid := qemu_pid(guest.uuid)) is not None:
            os.kill(pid, signal.SIGKILL)


async def connected(house: House) -> None:
    """Waits until the far side answers again."""
    end = time.monotonic() + 30
    while True:
        try:
            await house.call("connect_get_hostname")
        except HypervisorGone:
            assert time.monotonic() < end
        else:
            return


async def stream_of(house: House, procedure: str, **args: object) -> Stream:
    """The stream of a call, taken up as a client does."""
    call = house.post(procedure, **args)
    await house.outcome(call)
    return await open_ticket(house.broker.outcomes[call.id][-1][3])
