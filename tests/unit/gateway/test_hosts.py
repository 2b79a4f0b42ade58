from __future__ import annotations

from typing import Any

import pytest

from gateway.hosts import HOST_READERS, HOST_TYPES
from gateway.reads import READERS
from gateway.replica import Applied, Replica, View
from rpc.xdr import args_codec, result_codec
from schema.body import args_struct
from schema.host_summaries import known_flags
from schema.objects import InterfaceRef, NetworkRef, NodeDeviceRef, NWFilterRef, SecretRef, StoragePoolRef
from schema.table import need_procedure
from tests.unit.gateway.records import SCOPE, record, uuid_of

POOL = {"state": 2, "persistent": True, "autostart": True, "type": "dir", "scope": SCOPE}
NETWORK = {"active": True, "persistent": True, "autostart": False, "bridge": None, "scope": SCOPE}


def filled() -> View:
    view = View(Replica("test"), SCOPE)
    view.put("network", uuid_of("n1"), "n1", 1, NETWORK)
    view.put("network", uuid_of("n2"), "n2", 1, {**NETWORK, "active": False, "persistent": False, "autostart": True})
    view.put("storage_pool", uuid_of("p"), "p", 1, POOL)
    view.put("interface", b"eth1", "eth1", 1, {"active": True, "mac": "aa:bb:cc:dd:ee:ff", "scope": SCOPE})
    device = {
        "active": True,
        "persistent": True,
        "autostart": False,
        "parent": None,
        "caps": ["system"],
        "scope": SCOPE,
    }
    view.put("node_device", b"computer", "computer", 1, device)
    secret = {"usage_type": 1, "usage_id": "/x", "ephemeral": False, "private": True, "scope": SCOPE}
    view.put("secret", uuid_of("s"), "s", 1, secret)
    view.put("nwfilter", uuid_of("f"), "f", 1, {"scope": SCOPE})
    return view


VIEW = filled()


def ask(name: str, view: View = VIEW, /, **args: Any) -> Any:
    row = need_procedure(name)
    answer = READERS[name](view, args_codec(row).encode(args_struct(row)(**args)))
    return None if answer is None else result_codec(row).decode(answer)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("network_lookup_by_name", {"name": "n1"}, NetworkRef("n1", uuid_of("n1"))),
        ("network_lookup_by_uuid", {"uuid": uuid_of("n2")}, NetworkRef("n2", uuid_of("n2"))),
        ("storage_pool_lookup_by_name", {"name": "p"}, StoragePoolRef("p", uuid_of("p"))),
        ("interface_lookup_by_name", {"name": "eth1"}, InterfaceRef("eth1", "aa:bb:cc:dd:ee:ff")),
        ("node_device_lookup_by_name", {"name": "computer"}, NodeDeviceRef("computer")),
        ("secret_lookup_by_uuid", {"uuid": uuid_of("s")}, SecretRef(uuid_of("s"), 1, "/x")),
        ("nwfilter_lookup_by_uuid", {"uuid": uuid_of("f")}, NWFilterRef("f", uuid_of("f"))),
    ],
)
def test_lookups_give_references(name: str, args: dict[str, Any], expected: object) -> None:
    assert getattr(ask(name, **args), need_procedure(name).ret[0].name) == expected


@pytest.mark.parametrize("name", [name for name in HOST_READERS if "lookup_by_name" in name])
def test_unknown_names_are_left_to_the_driver(name: str) -> None:
    assert ask(name, name="nobody") is None


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("network_is_active", 1, 0), ("network_is_persistent", 1, 0), ("network_get_autostart", 0, 1)],
)
def test_facts_of_networks(name: str, first: int, second: int) -> None:
    field = need_procedure(name).ret[0].name
    for network, expected in (("n1", first), ("n2", second)):
        assert getattr(ask(name, net=NetworkRef(network, uuid_of(network))), field) == expected
    assert ask(name, net=NetworkRef("n1", bytes(16))) is None


def test_facts_of_pools() -> None:
    pool = StoragePoolRef("p", uuid_of("p"))
    assert ask("storage_pool_is_active", pool=pool).active == 1
    assert ask("storage_pool_get_autostart", pool=pool).autostart == 1


@pytest.mark.parametrize(
    ("flags", "names"), [(0, ["n1", "n2"]), (1, ["n2"]), (2, ["n1"]), (3, ["n1", "n2"]), (16, ["n2"])]
)
def test_lists_select_by_flags(flags: int, names: list[str]) -> None:
    result = ask("connect_list_all_networks", need_results=1, flags=flags)
    assert [one.name for one in result.nets] == names
    assert result.ret == len(names)
    assert ask("connect_list_all_networks", need_results=0, flags=flags).nets == []


@pytest.mark.parametrize("name", [name for name in HOST_READERS if name.startswith("connect_list_all_")])
def test_every_list_knows_its_flags_and_leaves_others_to_the_driver(name: str) -> None:
    types = {"networks": "network", "storage_pools": "storage_pool", "interfaces": "interface"}
    types |= {"node_devices": "node_device", "secrets": "secret", "nwfilters": "nwfilter"}
    flags = known_flags(types[name.removeprefix("connect_list_all_")])
    assert ask(name, need_results=1, flags=0).ret >= 1
    unknown = next(1 << bit for bit in range(32) if not flags & 1 << bit)
    assert ask(name, need_results=1, flags=unknown) is None


def test_counts() -> None:
    assert ask("connect_num_of_networks").num == 1
    assert ask("connect_num_of_defined_networks").num == 1


def test_events_change_them() -> None:
    replica = Replica("test")
    replica.load(1, 10, [], 0.0)
    made = record(11, "n")
    made["object"], made["summary"] = ["network", uuid_of("n"), "n"], NETWORK
    assert replica.apply(made, 0.0) is Applied.NEW
    assert ask("connect_num_of_networks", replica.view(SCOPE)).num == 1
    assert replica.apply({**made, "seq": 12, "summary": None}, 0.0) is Applied.NEW
    assert ask("connect_num_of_networks", replica.view(SCOPE)).num == 0
    assert ask("network_lookup_by_name", replica.view(SCOPE), name="n") is None


@pytest.mark.parametrize("name", sorted(HOST_READERS))
@pytest.mark.parametrize("payload", [b"\0", b"\xff" * 4, b"\xff" * 40, bytes(40)])
def test_garbage_is_left_to_the_slow_path(name: str, payload: bytes) -> None:
    assert HOST_READERS[name](VIEW, payload) is None


def test_every_type_is_kept() -> None:
    assert set(VIEW.hosts) == set(HOST_TYPES)
    VIEW.put("domain_snapshot", b"x", "x", 1, {})
    VIEW.drop("domain_snapshot", b"x")
