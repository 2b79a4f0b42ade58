"""What the runtime answers about the host's objects from their summaries, for any driver that keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.runtime.actor import Actor
from actors.runtime.host import Host
from actors.runtime.runtime import Runtime
from schema.errors import (
    InternalError,
    NoSuchInterface,
    NoSuchNetwork,
    NoSuchNodeDevice,
    NoSuchNWFilter,
    NoSuchSecret,
    NoSuchStoragePool,
    UnsupportedFlags,
)
from schema.objects import InterfaceRef, NetworkRef, StoragePoolRef
from tests.contract.house import House, open_house

SCOPE = "hosty:///"
NET, ISOLATED, POOL, SECRET, FILTER = (bytes([n]) * 16 for n in range(5))
OBJECTS: list[tuple[str, bytes | str, str, dict[str, Any]]] = [
    ("network", NET, "default", {"active": True, "persistent": True, "autostart": True, "bridge": "virbr0"}),
    ("network", ISOLATED, "isolated", {"active": False, "persistent": True, "autostart": False, "bridge": None}),
    ("storage_pool", POOL, "images", {"state": 2, "persistent": True, "autostart": True, "type": "dir"}),
    ("interface", "eth0", "eth0", {"active": True, "mac": "52:54:00:AA:bb:01"}),
    ("interface", "eth1", "eth1", {"active": False, "mac": "52:54:00:aa:bb:02"}),
    (
        "node_device",
        "pci_0",
        "pci_0",
        {"active": True, "persistent": True, "autostart": False, "parent": "computer", "caps": ["pci", "vpd"]},
    ),
    (
        "node_device",
        "computer",
        "computer",
        {"active": True, "persistent": True, "autostart": False, "parent": None, "caps": ["system"]},
    ),
    ("secret", SECRET, "disk", {"usage_type": 1, "usage_id": "/disk", "ephemeral": False, "private": True}),
    ("nwfilter", FILTER, "clean-traffic", {}),
]


class HostyActor(Actor[Host]):
    """Knows one of everything."""

    name = "hosty"
    serves = ("network", "storage_pool", "interface", "node_device", "secret", "nwfilter")

    async def start(self, runtime: Runtime) -> Host:
        for kind, key, name, values in OBJECTS:
            runtime.objects.restore(kind, key, name, {**values, "scope": SCOPE})
        return Host(runtime)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(HostyActor(), SCOPE, tmp_path) as house:
        yield house


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("connect_num_of_networks", {}, 1),
        ("connect_list_networks", {"maxnames": 9}, ["default"]),
        ("connect_num_of_defined_networks", {}, 1),
        ("connect_list_defined_networks", {"maxnames": 9}, ["isolated"]),
        ("connect_list_defined_networks", {"maxnames": 0}, []),
        ("network_is_active", {"net": NetworkRef("x", ISOLATED)}, 0),
        ("network_is_persistent", {"net": NetworkRef("x", NET)}, 1),
        ("network_get_autostart", {"net": NetworkRef("x", NET)}, 1),
        ("network_get_bridge_name", {"net": NetworkRef("x", NET)}, "virbr0"),
        ("connect_num_of_storage_pools", {}, 1),
        ("connect_list_storage_pools", {"maxnames": 9}, ["images"]),
        ("connect_num_of_defined_storage_pools", {}, 0),
        ("connect_list_defined_storage_pools", {"maxnames": 9}, []),
        ("storage_pool_is_active", {"pool": StoragePoolRef("x", POOL)}, 1),
        ("storage_pool_is_persistent", {"pool": StoragePoolRef("x", POOL)}, 1),
        ("storage_pool_get_autostart", {"pool": StoragePoolRef("x", POOL)}, 1),
        ("connect_num_of_interfaces", {}, 1),
        ("connect_list_interfaces", {"maxnames": 9}, ["eth0"]),
        ("connect_num_of_defined_interfaces", {}, 1),
        ("connect_list_defined_interfaces", {"maxnames": 9}, ["eth1"]),
        ("interface_is_active", {"iface": InterfaceRef("eth1", "")}, 0),
        ("node_num_of_devices", {"cap": None, "flags": 0}, 2),
        ("node_list_devices", {"cap": "pci", "maxnames": 9, "flags": 0}, ["pci_0"]),
        ("node_device_get_parent", {"name": "pci_0"}, "computer"),
        ("node_device_get_parent", {"name": "computer"}, None),
        ("node_device_num_of_caps", {"name": "pci_0"}, 2),
        ("node_device_list_caps", {"name": "pci_0", "maxnames": 1}, ["pci"]),
        ("node_device_is_active", {"name": "pci_0"}, 1),
        ("node_device_is_persistent", {"name": "pci_0"}, 1),
        ("node_device_get_autostart", {"name": "pci_0"}, 0),
        ("connect_num_of_secrets", {}, 1),
        ("connect_list_secrets", {"maxuuids": 9}, ["03030303-0303-0303-0303-030303030303"]),
        ("connect_num_of_nwfilters", {}, 1),
        ("connect_list_nwfilters", {"maxnames": 9}, ["clean-traffic"]),
    ],
)
async def test_counts_names_and_states(house: House, name: str, args: dict[str, Any], expected: object) -> None:
    result = await house.call(name, **args)
    (field,) = result.__struct_fields__
    assert getattr(result, field) == expected


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("connect_list_all_networks", 0, ["default", "isolated"]),
        ("connect_list_all_networks", 1, ["isolated"]),
        ("connect_list_all_networks", 2 | 1 << 4, ["default"]),
        ("connect_list_all_networks", 1 | 1 << 4, []),
        ("connect_list_all_storage_pools", 2 | 1 << 6, ["images"]),
        ("connect_list_all_storage_pools", 1 << 9, []),
        ("connect_list_all_interfaces", 2, ["eth0"]),
        ("connect_list_all_node_devices", 2, ["pci_0"]),
        ("connect_list_all_node_devices", 1 | 2, ["pci_0", "computer"]),
        ("connect_list_all_secrets", 4, [SECRET]),
        ("connect_list_all_secrets", 8, []),
        ("connect_list_all_nwfilters", 0, ["clean-traffic"]),
    ],
)
async def test_lists_select_by_flags(house: House, name: str, flags: int, expected: list[Any]) -> None:
    result = await house.call(name, need_results=1, flags=flags)
    found = getattr(result, result.__struct_fields__[0])
    assert [ref.uuid if "secret" in name else ref.name for ref in found] == expected
    assert result.ret == len(expected)
    counted = await house.call(name, need_results=0, flags=flags)
    assert (getattr(counted, counted.__struct_fields__[0]), counted.ret) == ([], len(expected))
    with pytest.raises(UnsupportedFlags):
        await house.call(name, need_results=1, flags=1 << 29)


async def test_lookups_find_what_is_there(house: House) -> None:
    assert (await house.call("network_lookup_by_name", name="default")).net == NetworkRef("default", NET)
    assert (await house.call("network_lookup_by_uuid", uuid=NET)).net.name == "default"
    assert (await house.call("storage_pool_lookup_by_name", name="images")).pool.uuid == POOL
    assert (await house.call("storage_pool_lookup_by_uuid", uuid=POOL)).pool.name == "images"
    assert (await house.call("interface_lookup_by_name", name="eth0")).iface.mac == "52:54:00:AA:bb:01"
    assert (await house.call("interface_lookup_by_mac_string", mac="52:54:00:aa:BB:02")).iface.name == "eth1"
    assert (await house.call("node_device_lookup_by_name", name="pci_0")).dev.name == "pci_0"
    assert (await house.call("secret_lookup_by_uuid", uuid=SECRET)).secret.usageID == "/disk"
    assert (await house.call("secret_lookup_by_usage", usageType=1, usageID="/disk")).secret.uuid == SECRET
    assert (await house.call("nwfilter_lookup_by_name", name="clean-traffic")).nwfilter.uuid == FILTER
    assert (await house.call("nwfilter_lookup_by_uuid", uuid=FILTER)).nwfilter.name == "clean-traffic"


@pytest.mark.parametrize(
    ("error", "name", "args"),
    [
        (NoSuchNetwork, "network_lookup_by_name", {"name": "zzz"}),
        (NoSuchNetwork, "network_is_active", {"net": NetworkRef("zzz", b"z" * 16)}),
        (InternalError, "network_get_bridge_name", {"net": NetworkRef("isolated", ISOLATED)}),
        (NoSuchStoragePool, "storage_pool_lookup_by_uuid", {"uuid": b"z" * 16}),
        (NoSuchStoragePool, "storage_pool_is_active", {"pool": StoragePoolRef("zzz", b"z" * 16)}),
        (NoSuchInterface, "interface_lookup_by_mac_string", {"mac": "00:00:00:00:00:00"}),
        (NoSuchNodeDevice, "node_device_get_parent", {"name": "zzz"}),
        (NoSuchSecret, "secret_lookup_by_usage", {"usageType": 2, "usageID": "/disk"}),
        (NoSuchNWFilter, "nwfilter_lookup_by_name", {"name": "zzz"}),
    ],
)
async def test_what_is_not_there_is_said_to_be_so(
    house: House, error: type[Exception], name: str, args: dict[str, Any]
) -> None:
    with pytest.raises(error):
        await house.call(name, **args)


async def test_every_derived_read_is_called_by_some_test_here(house: House) -> None:
    """So that no row of the table is only written."""
    source = Path(__file__).read_text(encoding="utf-8")
    native = {"actor_ping", "actor_snapshot", "actor_capabilities", "actor_call_outcome", "actor_calls"}
    for name in (await house.call("actor_capabilities")).procedures:
        assert f'"{name}"' in source or name in native or name.startswith("connect_get_") or "connect_is" in name, name


async def test_what_every_actor_says_about_its_connection(house: House) -> None:
    assert (await house.call("connect_get_lib_version")).lib_ver == 9000000
    assert (await house.call("connect_is_secure")).secure == 1
    assert (await house.call("connect_supports_feature", feature=1)).supported == 0
    assert (await house.call("connect_get_hostname")).hostname
