from __future__ import annotations

from typing import Any

import pytest

from gateway.routes import Routes, Specials, key_reader, shape_of
from gateway.specials import connect, events
from rpc.packet import Program
from schema.body import args_struct, result_struct
from schema.errors import UnknownProcedure
from schema.objects import DomainRef, DomainSnapshotRef, NodeDeviceRef, StorageVolRef, TypedParam
from schema.table import all_procedures, need_procedure

UUID = bytes(range(16))
DOM = DomainRef("a", UUID)


def specials() -> Specials:
    made = Specials()
    connect.add_to(made)
    events.add_to(made)
    return made


def test_every_call_of_the_served_programs_has_a_route() -> None:
    routes = Routes(specials())
    programs = {"remote": Program.REMOTE, "qemu": Program.QEMU, "lxc": Program.LXC}
    for procedure in all_procedures():
        if procedure.program in programs:
            assert routes.need(programs[procedure.program], procedure.number).procedure is procedure


@pytest.mark.parametrize("number", [0, 9999, -1, 107, 318])
def test_unknown_numbers_and_those_of_events_have_none(number: int) -> None:
    with pytest.raises(UnknownProcedure):
        Routes(specials()).need(Program.REMOTE, number)


def test_specials_are_named_like_procedures() -> None:
    made = specials()
    for name in (*made.immediate, *made.awaited, *made.before_open):
        assert need_procedure(name).program in ("remote", "qemu")


def test_every_event_registration_is_answered_here() -> None:
    made = specials()
    for procedure in all_procedures():
        if procedure.program in ("remote", "qemu") and "_event_" in procedure.name and "register" in procedure.name:
            assert procedure.name in made.immediate


@pytest.mark.parametrize(
    ("name", "args", "key"),
    [
        ("domain_suspend", {"dom": DOM}, UUID),
        ("domain_lookup_by_uuid", {"uuid": UUID}, UUID),
        ("domain_lookup_by_name", {"name": "a"}, "a"),
        ("domain_snapshot_delete", {"snap": DomainSnapshotRef("s", DOM), "flags": 0}, UUID),
        ("storage_vol_delete", {"vol": StorageVolRef("p", "n", "k"), "flags": 0}, "k"),
        ("node_device_destroy", {"name": "pci"}, "pci"),
        ("connect_list_all_domains", {"need_results": 1, "flags": 0}, None),
        ("domain_create_xml", {"xml_desc": "<domain/>", "flags": 0}, None),
    ],
)
def test_object_of_a_call_is_found(name: str, args: dict[str, Any], key: object) -> None:
    procedure = need_procedure(name)
    assert key_reader(procedure)(args_struct(procedure)(**args)) == key


def shaped(name: str, args: dict[str, Any], result: dict[str, Any]) -> Any:
    procedure = need_procedure(name)
    shape = shape_of(procedure)
    assert shape is not None
    return shape(args_struct(procedure)(**args), result_struct(procedure)(**result))


def test_list_that_nobody_needs_is_only_counted() -> None:
    devices = [NodeDeviceRef("a"), NodeDeviceRef("b")]
    for needed, expected in ((1, devices), (0, [])):
        result = shaped(
            "connect_list_all_node_devices",
            {"need_results": needed, "flags": 0},
            {"devices": devices, "ret": 2},
        )
        assert (result.devices, result.ret) == (expected, 2)


@pytest.mark.parametrize(("room", "count", "told"), [(0, 0, 3), (3, 3, 0), (2, 2, 0), (16, 3, 0)])
def test_parameters_are_counted_first_and_then_given(room: int, count: int, told: int) -> None:
    params = [TypedParam.of_ullong(name, 1) for name in "abc"]
    result = shaped(
        "domain_get_memory_parameters",
        {"dom": DOM, "nparams": room, "flags": 0},
        {"params": params, "nparams": 3},
    )
    assert (len(result.params), result.nparams) == (count, told)


def test_statistics_of_processors_are_counted_by_the_driver() -> None:
    assert shape_of(need_procedure("domain_get_cpu_stats")) is None
