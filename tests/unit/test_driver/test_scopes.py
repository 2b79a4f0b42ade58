"""Scopes: what they begin with, what is kept, what is forgotten."""

from pathlib import Path
from uuid import UUID

import pytest

from actors.test import states
from actors.test.defaults import SCOPE
from actors.test.records import encode
from schema.errors import Busy, InvalidArguments, NoConnection, XmlError
from tests.unit.runtime.house import FakeBroker
from tests.unit.test_driver.house import NATIVE, open_house

NODE = """\
<node>
  <domain file="guest.xml"/>
  <domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
    <test:runstate>3</test:runstate>
    <name>inline</name><uuid>08721f99-3d1d-4aec-96eb-97803297bb36</uuid><memory>2048</memory><os><type>hvm</type></os>
  </domain>
  <network><name>private</name><uuid>004b2221-2d78-c30f-5aa5-f03c87d21e69</uuid><bridge name="brpriv"/></network>
  <pool type='dir'>
    <name>images</name><uuid>35bb2ad9-388a-cdfe-461a-b8907f6e53fe</uuid><target><path>/images</path></target>
    <volume><name>vol</name><capacity>1000000</capacity><allocation>50000</allocation></volume>
  </pool>
  <cpu><mhz>6000</mhz><model>i986</model><active>50</active><nodes>4</nodes><sockets>4</sockets><cores>4</cores>
    <threads>2</threads></cpu>
  <memory>8192000</memory>
</node>
"""
GUEST = "<domain type='test'><name>filed</name><memory>4096</memory><os><type>hvm</type></os></domain>"


async def test_changes_of_libvirt_clients_are_forgotten_when_the_last_one_leaves(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_destroy", dom=dom)
        await house.call("domain_undefine", dom=dom)
        await house.call("domain_define_xml", xml=GUEST)
        await house.call("network_destroy", net=(await house.call("network_lookup_by_name", name="default")).net)
        await house.call("connect_close")
        assert await house.names() == ["test"]
        assert (await house.domain("test")).id == 1
        net = (await house.call("network_lookup_by_name", name="default")).net
        assert (await house.call("network_is_active", net=net)).active == 1


async def test_going_back_is_told_as_it_happens_to_each_object(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.call("domain_destroy", dom=await house.domain("test"))
        await house.call("domain_define_xml", xml=GUEST)
        house.broker.records.clear()
        await house.call("connect_close")
        lifecycle = [
            (one["name"], one["event"])
            for record in house.broker.records
            for one in [{"name": record["object"][2], "event": record["data"]["event"]}]
        ]
        assert sorted(lifecycle) == [("filed", 1), ("test", 2)]


async def test_change_that_was_written_but_not_told_is_told_at_the_next_start(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        house.caller = NATIVE
        dom = (await house.call("domain_define_xml", xml=GUEST)).dom
        guest = house.host.worlds[SCOPE].guests[dom.uuid]
        draft = guest.draft()
        draft.run(guest.config.copy(), 7, states.BOOT)
        record = draft.record()
        await house.host.store.write(house.host.worlds[SCOPE].path("domains", record.uuid), encode(record))
    heard = len(broker.records)
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert (await house.domain("filed")).id == 7
        told = [record["data"] for record in broker.records[heard:] if record["kind"] == "domain_event_lifecycle"]
        assert [(one["event"], one["detail"]) for one in told] == [(2, 0)]


async def test_change_that_began_before_a_new_beginning_does_not_reach_into_it(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.call("domain_destroy", dom=await house.domain("test"))
        stale = house.host.worlds[SCOPE].find("test")
        assert stale is not None
        await house.call("connect_close")
        draft = stale.draft()
        draft.set(autostart=True)
        with pytest.raises(Busy, match="went back to its beginning"):
            await house.host.commit(draft)
        assert (await house.call("domain_get_autostart", dom=await house.domain("test"))).autostart == 0


async def test_document_that_cannot_be_read_is_left_and_the_others_serve(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        dom = (await house.call("domain_define_xml", xml=GUEST)).dom
        world = house.host.worlds[SCOPE]
        path = house.host.store.path(world.path("domains", str(UUID(bytes=dom.uuid))))
        path.write_bytes(b"{broken")
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert await house.names() == ["test"]
    assert path.read_bytes() == b"{broken"


async def test_guests_are_not_given_up_when_what_is_known_of_the_scope_is_lost(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml", xml=GUEST)
        house.host.store.path(house.host.worlds[SCOPE].own_path).write_bytes(b"")
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert await house.names() == ["filed", "test"]
        await house.call("connect_close")
        assert await house.names() == ["filed", "test"]


async def test_change_of_a_native_client_is_never_forgotten(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        house.caller = NATIVE
        await house.call("domain_define_xml", xml=GUEST)
        await house.call("connect_close")
        assert await house.names() == ["filed", "test"]
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        await house.call("domain_destroy", dom=await house.domain("test"))
        await house.call("connect_close")
        assert await house.names() == ["filed", "test"]
        assert (await house.domain("test")).id == -1


async def test_setting_keeps_every_change(tmp_path: Path) -> None:
    async with open_house(tmp_path, keep=True) as house:
        await house.call("domain_define_xml", xml=GUEST)
        await house.call("connect_close")
        assert await house.names() == ["filed", "test"]


async def test_reads_change_nothing_and_cost_no_new_beginning(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.names()
        house.broker.records.clear()
        await house.call("connect_close")
        assert house.broker.records == []


async def test_everything_is_there_again_after_the_end_of_the_process(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        dom = (await house.call("domain_define_xml", xml=GUEST)).dom
        await house.call("domain_create", dom=dom)
        await house.call("domain_suspend", dom=dom)
        await house.call("domain_set_memory_flags", dom=dom, memory=1024, flags=1)
        await house.call("domain_set_autostart", dom=dom, autostart=1)
        xml = (await house.call("domain_get_xml_desc", dom=dom, flags=1)).xml
    told = broker.lifecycle()
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        dom = await house.domain("filed")
        assert dom.id == 2
        assert await house.state(dom) == (3, 1)
        assert (await house.call("domain_get_autostart", dom=dom)).autostart == 1
        assert (await house.call("domain_get_xml_desc", dom=dom, flags=1)).xml == xml
        assert broker.lifecycle() == told
        await house.call("domain_destroy", dom=dom)
        assert (await house.call("domain_create_with_flags", dom=dom, flags=0)).dom.id == 3


async def test_ids_of_transient_guests_are_not_given_again_after_a_restart(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        dom = (await house.call("domain_create_xml", xml_desc=GUEST, flags=0)).dom
        assert dom.id == 2
        await house.call("domain_destroy", dom=dom)
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert (await house.call("domain_create_xml", xml_desc=GUEST, flags=0)).dom.id == 3


async def test_beginning_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml", xml=GUEST)
        world = house.host.worlds[SCOPE]
        await house.host.write_world(world, whole=False)
        await house.host.store.remove(world.path("domains", "6695eb01-f6a4-8304-79aa-97f2502e193f"))
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert await house.names() == ["test"]


async def test_scope_of_a_file_holds_what_the_file_describes(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "node.xml").write_text(NODE)
    (folder / "guest.xml").write_text(GUEST)
    broker = FakeBroker()
    scope = f"test://{folder}/node.xml"
    async with open_house(tmp_path, broker=broker) as house:
        house.scope = scope
        await house.call("connect_open", name=scope, flags=0)
        assert await house.names() == ["filed", "inline"]
        assert await house.state(await house.domain("inline")) == (3, 0)
        assert (await house.call("node_get_info")).cpus == 50
        vol = (await house.call("storage_vol_lookup_by_path", path="/images/vol")).vol
        assert (await house.call("storage_vol_get_info", vol=vol)).allocation == 50000
        await house.call("domain_destroy", dom=await house.domain("inline"))
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert await house.names() == ["test"]
        house.scope = scope
        assert await house.state(await house.domain("inline")) == (5, 2)
        await house.call("connect_close")
        assert await house.state(await house.domain("inline")) == (3, 0)


async def test_file_that_is_no_description_is_refused_without_telling_its_content(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:hush\n")
    async with open_house(tmp_path) as house:
        for path in (secret, tmp_path / "absent.xml", tmp_path):
            house.scope = f"test://{path}"
            with pytest.raises(XmlError) as caught:
                await house.call("connect_open", name=house.scope, flags=0)
            assert caught.value.message == f"XML error: failed to parse xml document '{path}'"


@pytest.mark.parametrize("name", ["test:///", "test://", "test:"])
async def test_uri_without_path_is_refused(tmp_path: Path, name: str) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(InvalidArguments, match="supply a path or use test:///default"):
            await house.call("connect_open", name=name, flags=0)


async def test_scope_that_nobody_opened_answers_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.scope = "test:///nowhere.xml"
        with pytest.raises(NoConnection):
            await house.call("connect_get_capabilities")
