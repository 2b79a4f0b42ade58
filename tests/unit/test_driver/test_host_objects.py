"""Networks, pools, volumes, interfaces and devices of the fake host, and the host itself."""

from pathlib import Path
from typing import Any

import pytest

from schema.errors import (
    DomainStateError,
    InternalError,
    InvalidArguments,
    NoSuchNodeDevice,
    OperationFailed,
    OperationUnsupported,
    UnsupportedCall,
    UnsupportedFlags,
    VirtError,
)
from schema.objects import InterfaceRef, StoragePoolRef
from tests.unit.runtime.house import FakeBroker
from tests.unit.test_driver.house import House, open_house

NETWORK = (
    "<network><name>lab</name><uuid>0b0b0b0b-1111-4222-8333-444444444401</uuid><forward mode='nat'/>"
    "<bridge name='virbr7'/><ip address='192.168.77.1' netmask='255.255.255.0'/></network>"
)
POOL = (
    "<pool type='dir'><name>store</name><uuid>0c0c0c0c-1111-4222-8333-444444444401</uuid>"
    "<target><path>/tmp/store</path></target></pool>"
)
VOLUME = "<volume><name>v1</name><capacity>1000</capacity></volume>"
INTERFACE = (
    "<interface type='ethernet' name='eth7'><start mode='onboot'/><mac address='02:00:00:00:00:07'/></interface>"
)
PORT = (
    "<device><parent>scsi_host1</parent><capability type='scsi_host'><capability type='fc_host'>"
    "<wwnn>1000000000000001</wwnn><wwpn>1000000000000002</wwpn></capability></capability></device>"
)
DHCP_HOST, ADD_LAST, DELETE, LIVE, CONFIG = 4, 3, 2, 1, 2


def told(house: House, kind: str) -> list[int]:
    return [record["data"]["event"] for record in house.broker.records if record["kind"] == kind]


async def test_network_starts_stops_and_goes(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        net = (await house.call("network_define_xml", xml=NETWORK)).net
        await house.call("network_create", net=net)
        with pytest.raises(DomainStateError, match="Network 'lab' is already running"):
            await house.call("network_create", net=net)
        with pytest.raises(DomainStateError, match="Network 'lab' is still running"):
            await house.call("network_undefine", net=net)
        assert (await house.call("network_get_bridge_name", net=net)).name == "virbr7"
        await house.call("network_set_autostart", net=net, autostart=1)
        assert (await house.call("network_get_autostart", net=net)).autostart == 1
        await house.call("network_destroy", net=net)
        await house.call("network_undefine", net=net)
        assert told(house, "network_event_lifecycle") == [0, 2, 3, 1]


async def test_transient_network_is_gone_when_it_stops(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        net = (await house.call("network_create_xml", xml=NETWORK)).net
        with pytest.raises(DomainStateError, match="network is already active as 'lab'"):
            await house.call("network_create_xml", xml=NETWORK)
        await house.call("network_destroy", net=net)
        assert (await house.call("connect_num_of_networks")).num == 1


async def test_part_of_a_network_changes_where_the_flags_say(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        net = (await house.call("network_define_xml", xml=NETWORK)).net
        await house.call("network_create", net=net)

        async def update(command: int, flags: int, section: int = DHCP_HOST) -> None:
            xml = "<host mac='52:54:00:aa:00:06' name='six' ip='192.168.77.6'/>"
            await house.call(
                "network_update", net=net, command=command, section=section, parentIndex=-1, xml=xml, flags=flags
            )

        async def xml() -> str:
            return str((await house.call("network_get_xml_desc", net=net, flags=0)).xml)

        await update(ADD_LAST, LIVE)
        assert "<host mac='52:54:00:aa:00:06' name='six' ip='192.168.77.6'/>" in await xml()
        with pytest.raises(DomainStateError, match="there is an existing dhcp host entry in network 'lab'"):
            await update(ADD_LAST, LIVE)
        await update(ADD_LAST, CONFIG)
        await update(DELETE, LIVE)
        assert "<dhcp>" not in await xml()
        with pytest.raises(DomainStateError, match="couldn't locate a matching dhcp host entry in network 'lab'"):
            await update(DELETE, LIVE)
        with pytest.raises(OperationUnsupported, match="can't update 'bridge' section of network 'lab'"):
            await update(ADD_LAST, LIVE, section=1)


async def test_name_and_uuid_of_different_networks_are_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.call("network_define_xml", xml=NETWORK)
        with pytest.raises(OperationFailed, match="network 'lab' is already defined with uuid"):
            await house.call("network_define_xml", xml=NETWORK.replace(">lab<", ">lab2<"))
        with pytest.raises(OperationFailed, match="network 'lab' already exists with uuid"):
            await house.call("network_define_xml", xml=NETWORK.replace("4401", "4402"))


async def test_pool_and_its_volumes_share_one_size(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        pool = (await house.call("storage_pool_define_xml", xml=POOL, flags=0)).pool
        await house.call("storage_pool_build", pool=pool, flags=0)
        await house.call("storage_pool_create", pool=pool, flags=0)
        await house.call("storage_pool_refresh", pool=pool, flags=0)
        vol = (await house.call("storage_vol_create_xml", pool=pool, xml=VOLUME, flags=0)).vol
        assert vol.key == "/tmp/store/v1"
        with pytest.raises(OperationFailed, match="storage vol already exists"):
            await house.call("storage_vol_create_xml", pool=pool, xml=VOLUME, flags=0)
        with pytest.raises(InternalError, match="Not enough free space in pool for volume 'big'"):
            big = VOLUME.replace("v1", "big").replace("1000", str(1 << 50))
            await house.call("storage_vol_create_xml", pool=pool, xml=big, flags=0)
        copy = (
            await house.call(
                "storage_vol_create_xml_from", pool=pool, xml=VOLUME.replace("v1", "v2"), clonevol=vol, flags=0
            )
        ).vol
        info = await house.call("storage_pool_get_info", pool=pool)
        assert (info.allocation, info.capacity - info.available) == (2000, 2000)
        assert (await house.call("storage_pool_num_of_volumes", pool=pool)).num == 2
        assert (await house.call("storage_pool_list_volumes", pool=pool, maxnames=9)).names == ["v1", "v2"]
        await house.call("storage_vol_delete", vol=vol, flags=0)
        assert (await house.call("storage_pool_get_info", pool=pool)).allocation == 1000
        listed = await house.call("storage_pool_list_all_volumes", pool=pool, need_results=1, flags=0)
        assert listed.vols == [copy]
        assert (await house.call("storage_vol_lookup_by_name", pool=pool, name="v2")).vol == copy
        assert (await house.call("storage_vol_lookup_by_key", key=copy.key)).vol == copy
        assert (await house.call("storage_vol_get_path", vol=copy)).name == copy.key
        assert "<format type='raw'/>" in (await house.call("storage_vol_get_xml_desc", vol=copy, flags=0)).xml
        assert (await house.call("storage_pool_lookup_by_volume", vol=copy)).pool == pool
        await house.call("storage_pool_destroy", pool=pool)
        with pytest.raises(DomainStateError, match="storage pool 'store' is not active"):
            await house.call("storage_vol_get_info", vol=copy)
        await house.call("storage_pool_delete", pool=pool, flags=0)
        await house.call("storage_pool_undefine", pool=pool)
        assert told(house, "storage_pool_event_lifecycle") == [0, 4, 2, 3, 5, 1]
        assert "storage_pool_event_refresh" in house.broker.kinds()


async def test_volumes_survive_the_end_of_the_process(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        pool = (await house.call("storage_pool_lookup_by_name", name="default-pool")).pool
        await house.call("storage_vol_create_xml", pool=pool, xml=VOLUME, flags=0)
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        assert (await house.call("storage_vol_lookup_by_path", path="/default-pool/v1")).vol.name == "v1"


async def test_pool_of_another_pools_source_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.call("storage_pool_define_xml", xml=POOL, flags=0)
        with pytest.raises(OperationFailed, match="Storage source conflict with pool: 'store'"):
            other = POOL.replace(">store<", ">other<").replace("4401", "4402")
            await house.call("storage_pool_define_xml", xml=other, flags=0)
        with pytest.raises(OperationFailed, match="pool 'store' already exists with uuid"):
            await house.call("storage_pool_define_xml", xml=POOL.replace("4401", "4402"), flags=0)


async def test_transient_pool_has_no_autostart(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        pool: StoragePoolRef = (await house.call("storage_pool_create_xml", xml=POOL, flags=0)).pool
        with pytest.raises(InvalidArguments, match="pool has no config file"):
            await house.call("storage_pool_set_autostart", pool=pool, autostart=1)
        assert (
            "<capacity unit='bytes'>107374182400<"
            in (await house.call("storage_pool_get_xml_desc", pool=pool, flags=0)).xml
        )


async def test_sources_are_found_for_logical_and_network_pools(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:

        async def find(kind: str, spec: str | None = None) -> str:
            found = await house.call("connect_find_storage_pool_sources", type=kind, srcSpec=spec, flags=0)
            return str(found.xml)

        assert "<name>testvg2</name>" in await find("logical")
        assert "<dir path='/testshare'/>" in await find("netfs", "<source><host name='h'/></source>")
        with pytest.raises(InvalidArguments, match="hostname must be specified for netfs sources"):
            await find("netfs")
        with pytest.raises(UnsupportedCall, match="pool type 'x' does not support source discovery"):
            await find("x")


async def test_changes_of_interfaces_are_taken_back_together(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:

        async def names() -> list[str]:
            found = await house.call("connect_list_all_interfaces", need_results=1, flags=0)
            return sorted(one.name for one in found.ifaces)

        made: InterfaceRef = (await house.call("interface_define_xml", xml=INTERFACE, flags=0)).iface
        await house.call("interface_create", iface=made, flags=0)
        with pytest.raises(DomainStateError):
            await house.call("interface_create", iface=made, flags=0)
        await house.call("interface_destroy", iface=made, flags=0)
        assert (await house.call("interface_lookup_by_mac_string", mac="02:00:00:00:00:07")).iface == made
        assert "<start mode='onboot'/>" in (await house.call("interface_get_xml_desc", iface=made, flags=0)).xml
        await house.call("interface_change_begin", flags=0)
        with pytest.raises(DomainStateError, match="there is another transaction running"):
            await house.call("interface_change_begin", flags=0)
        await house.call("interface_undefine", iface=made)
        assert await names() == ["eth1"]
        await house.call("interface_change_rollback", flags=0)
        assert await names() == ["eth1", "eth7"]
        with pytest.raises(DomainStateError, match="no transaction running, nothing to be committed"):
            await house.call("interface_change_commit", flags=0)
        await house.call("interface_define_xml", xml=INTERFACE.replace("eth7", "eth8"), flags=0)
        with pytest.raises(VirtError, match="multiple matching interfaces found"):
            await house.call("interface_lookup_by_mac_string", mac="02:00:00:00:00:07")


async def test_port_of_an_adapter_comes_and_goes(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        made = (await house.call("node_device_create_xml", xml_desc=PORT, flags=0)).dev
        assert made.name == "scsi_host12"
        xml = (await house.call("node_device_get_xml_desc", name=made.name, flags=0)).xml
        assert "<wwpn>1000000000000002</wwpn>" in xml
        await house.call("node_device_destroy", name=made.name)
        await house.call("node_device_destroy", name="computer")
        assert told(house, "node_device_event_lifecycle") == [0, 1]
        assert (await house.call("node_num_of_devices", cap=None, flags=0)).num == 4
        with pytest.raises(NoSuchNodeDevice, match="no node device with matching name 'scsi_host12'"):
            await house.call("node_device_get_xml_desc", name=made.name, flags=0)
        with pytest.raises(UnsupportedFlags, match=r"\(0x80000000\) in function testConnectListAllNodeDevices"):
            await house.call("connect_list_all_node_devices", need_results=1, flags=1 << 31)


@pytest.mark.parametrize("procedure", ["is_active", "is_persistent", "get_autostart"])
async def test_what_libvirt_does_not_tell_of_devices_is_unsupported(tmp_path: Path, procedure: str) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(UnsupportedCall):
            await house.call(f"node_device_{procedure}", name="computer")


HOST_ANSWERS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("connect_get_type", {}, "type", "TEST"),
    ("connect_get_version", {}, "hv_ver", 2),
    ("connect_get_max_vcpus", {"type": None}, "max_vcpus", 32),
    ("node_get_free_memory", {}, "freeMem", 3145728),
    ("node_get_cells_free_memory", {"startCell": 0, "maxcells": 2}, "cells", [2097152, 4194304]),
    ("node_get_cpu_map", {"need_map": 1, "need_online": 1, "flags": 0}, "cpumap", b"\x15"),
    ("node_get_cpu_stats", {"cpuNum": -1, "nparams": 0, "flags": 0}, "nparams", 4),
    ("node_get_security_model", {}, "model", b"testSecurity\0"),
    ("connect_get_cpu_model_names", {"arch": "ppc64", "need_results": 0, "flags": 0}, "ret", 7),
]


@pytest.mark.parametrize(("procedure", "args", "field", "expected"), HOST_ANSWERS)
async def test_host_answers_as_libvirts_does(
    tmp_path: Path, procedure: str, args: dict[str, Any], field: str, expected: Any
) -> None:
    async with open_house(tmp_path) as house:
        assert getattr(await house.call(procedure, **args), field) == expected


async def test_host_documents_are_libvirts(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        assert "<cells num='2'>" in (await house.call("connect_get_capabilities")).capabilities
        assert "<entry name='vendor'>LENOVO</entry>" in (await house.call("connect_get_sysinfo", flags=0)).sysinfo
        assert (await house.call("connect_get_hostname")).hostname
        with pytest.raises(InvalidArguments, match="Range exceeds available cells"):
            await house.call("node_get_cells_free_memory", startCell=7, maxcells=1)
        with pytest.raises(InternalError, match="did not set virError"):
            await house.call("node_get_free_pages", pages=[4], startCell=0, cellCount=1, flags=0)
