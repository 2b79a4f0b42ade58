"""The table against libvirt's facts: nothing is missing, nothing is added, nothing differs."""

from __future__ import annotations

import importlib
import pkgutil
from enum import Enum
from typing import Any

import pytest

import schema.enums
from schema.enums.error import ErrorCode, ErrorDomain
from schema.error_formats import FORMATS
from schema.model import Event, Field, Procedure, ReadOnly
from schema.objects import CLASSES
from schema.table import (
    all_events,
    all_procedures,
    all_structs,
    find_event_by_id,
    need_constant,
    need_struct,
    need_union,
    procedure_by_number,
)
from tests.shared import shared_json

PROTOCOL: dict[str, Any] = shared_json("libvirt-rpc", "protocol.json")
API: dict[str, Any] = shared_json("libvirt-rpc", "api.json")
PROGRAMS = ("remote", "qemu", "lxc", "admin")
FACTS = [
    (program, fact)
    for program in PROGRAMS
    for fact in PROTOCOL["programs"][program]["procedures"]
    if fact["kind"] == "call"
]
EVENT_FACTS = [
    (program, fact)
    for program in PROGRAMS
    for fact in PROTOCOL["programs"][program]["procedures"]
    if fact["kind"] == "event"
]
CONSTANTS = {name: value for names in API["enums"].values() for name, value in names.items()}
SCALARS = {"int", "uint", "hyper", "uhyper", "double", "char", "uchar", "short", "ushort"}


def flattened(fact: dict[str, Any]) -> tuple[str, bool, int | None, int | None]:
    """A fact's type with its typedefs resolved: name, optional, exact length, greatest length."""
    type_, optional = fact["t"], fact.get("opt", False)
    exact, most = fact.get("fix"), fact.get("max")
    while type_ in PROTOCOL["typedefs"]:
        inner = PROTOCOL["typedefs"][type_]
        type_, optional = inner["t"], optional or inner.get("opt", False)
        exact = exact if exact is not None else inner.get("fix")
        if inner["t"] != "string" and inner["t"] not in PROTOCOL["typedefs"]:
            most = most if most is not None else inner.get("max")
    return type_, optional, exact, most


def check_fields(where: str, ours: tuple[Field, ...], struct: str | None, seen: frozenset[str] = frozenset()) -> None:
    theirs = PROTOCOL["structs"][struct] if struct else []
    assert [item.name for item in ours] == [fact["n"] for fact in theirs], where
    for item, fact in zip(ours, theirs, strict=True):
        check_field(f"{where}.{item.name}", item, fact, seen)


def check_field(where: str, item: Field, fact: dict[str, Any], seen: frozenset[str]) -> None:
    type_, optional, exact, most = flattened(fact)
    assert item.optional == optional, where
    if item.type == "uuid":
        assert (type_, exact) == ("opaque", 16), where
        return
    if type_ == "string" and not fact.get("max"):
        most = None
    assert (item.fixed, item.max) == (exact, most), where
    if type_ in PROTOCOL["enums"]:
        type_ = "int"
    if type_ in SCALARS or type_ in ("string", "opaque"):
        assert item.type == type_, where
    elif type_ in PROTOCOL["unions"]:
        arms = {arm["case"]: flattened(arm)[0] for arm in PROTOCOL["unions"][type_]["arms"]}
        assert {case: arm.type for case, arm in need_union(item.type).arms} == arms, where
    elif type_ not in seen:
        check_fields(where, need_struct(item.type).fields, type_, seen | {type_})


def by_program(program: str) -> list[Procedure]:
    return [procedure for procedure in all_procedures() if procedure.program == program]


@pytest.mark.parametrize(("program", "count"), [("remote", 443), ("qemu", 7), ("lxc", 1), ("admin", 19)])
def test_every_procedure_is_there(program: str, count: int) -> None:
    events = [event for event in all_events() if event.program == program]
    numbers = [procedure.number for procedure in by_program(program)]
    numbers += [event.number for event in events]
    numbers += [event.legacy_number for event in events if event.legacy_number is not None]
    assert sorted(numbers) == sorted(fact["n"] for fact in PROTOCOL["programs"][program]["procedures"])
    assert len(numbers) == len(set(numbers)) == count


@pytest.mark.parametrize(("program", "fact"), FACTS, ids=lambda part: part if isinstance(part, str) else part["name"])
def test_procedure_is_what_libvirt_has(program: str, fact: dict[str, Any]) -> None:
    procedure = procedure_by_number(program, fact["n"])
    prefix = "" if program == "remote" else f"{program}_"
    assert procedure.name.removeprefix(prefix) == fact["name"].lower()
    check_fields(f"{procedure.name} args", procedure.args, fact.get("args"))
    check_fields(f"{procedure.name} ret", procedure.ret, fact.get("ret"))
    assert procedure.high_priority == (fact.get("prio") == "high")
    stream = "read" if "readstream" in fact else "write" if "writestream" in fact else None
    if procedure.name == "domain_migrate_prepare_tunnel3_params":
        stream = "write"  # the facts lack it: libvirt's own function for this call is written by hand
    assert procedure.stream == stream
    assert procedure.sparse_flag == fact.get("sparseflag_value", 0)
    assert procedure.no_auth == fact.get("no_auth", False)
    assert set(procedure.functions) == set(fact.get("api", ()))
    expected = {None: ReadOnly.ALLOWED, "no": ReadOnly.REFUSED, "cond": ReadOnly.CONDITIONAL}[fact.get("ro")]
    if expected is ReadOnly.ALLOWED and (changes_identity_or_host(procedure) or is_migration_step(procedure)):
        expected = ReadOnly.REFUSED
    assert procedure.ro is expected
    rules = {acl_text(text) for text in fact.get("acl", ()) if text != "none"}
    assert {rule_text(rule) for rule in procedure.acl} == rules
    assert {f"{rule.object}:{rule.name}" for rule in procedure.aclfilter} == set(fact.get("aclfilter", ()))
    if "drv" in fact:
        assert procedure.served_by == fact["drv"]


def is_migration_step(procedure: Procedure) -> bool:
    """The facts derive the rule from the public functions, and the steps of a migration have none."""
    return procedure.object == "domain" and "_migrate_" in procedure.name and procedure.ro is ReadOnly.REFUSED


def changes_identity_or_host(procedure: Procedure) -> bool:
    """Neither an identity nor a daemon's own settings may be changed by those who may only read."""
    return procedure.name == "connect_set_identity" or (procedure.program == "admin" and not procedure.is_read)


def acl_text(text: str) -> str:
    """A rule of the facts with the values of its flags in place of their names."""
    parts = text.split(":")
    if len(parts) == 5:
        return f"{parts[0]}:{parts[1]}::{parts[3]}:{CONSTANTS[parts[4]]}"
    if len(parts) == 3:
        value = 0
        for name in parts[2].lstrip("!").split("|"):
            value |= CONSTANTS[name]
        return f"{parts[0]}:{parts[1]}:{'!' if parts[2][0] == '!' else ''}{value}"
    return text


def rule_text(rule: Any) -> str:
    if rule.param is not None:
        return f"{rule.object}:{rule.name}::{rule.param}:{rule.value}"
    if rule.flags:
        return f"{rule.object}:{rule.name}:{'!' if rule.negated else ''}{rule.flags}"
    return f"{rule.object}:{rule.name}"


@pytest.mark.parametrize(
    ("program", "fact"), EVENT_FACTS, ids=lambda part: part if isinstance(part, str) else part["name"]
)
def test_event_is_what_libvirt_has(program: str, fact: dict[str, Any]) -> None:
    event, fields = event_with_fields(program, fact["n"])
    theirs = PROTOCOL["structs"][fact["msg"]]
    if fields and fields[0].name == "callbackID":
        assert theirs[0]["n"] == "callbackID"
        if [one["n"] for one in theirs][1:] == ["msg"]:
            check_fields(event.name, fields[1:], theirs[1]["t"])
            return
        if [one["n"] for one in theirs][1:] == ["reason", "msg"]:
            assert fields[1] == Field("reason", "int")
            check_fields(event.name, fields[2:], theirs[2]["t"])
            return
    check_fields(event.name, fields, fact["msg"])


def event_with_fields(program: str, number: int) -> tuple[Event, tuple[Field, ...]]:
    for event in all_events():
        if event.program == program and event.number == number:
            return event, event.message_fields
        if event.program == program and event.legacy_number == number:
            return event, event.legacy_fields
    raise AssertionError(f"no event {number}")


@pytest.mark.parametrize(
    ("family", "enum"),
    [
        ("domain", "virDomainEventID"),
        ("network", "virNetworkEventID"),
        ("storage_pool", "virStoragePoolEventID"),
        ("node_device", "virNodeDeviceEventID"),
        ("secret", "virSecretEventID"),
    ],
)
def test_every_event_id_has_its_event(family: str, enum: str) -> None:
    ids = {value for name, value in API["enums"][enum].items() if not name.endswith("_LAST")}
    assert {event.event_id for event in all_events() if event.family == family} == ids
    assert all(find_event_by_id(family, one) is not None for one in ids)
    assert find_event_by_id(family, max(ids) + 1) is None


def test_every_record_has_a_class_of_the_same_fields() -> None:
    for struct in all_structs():
        if struct.name == "typed_param":
            assert CLASSES[struct.name].__struct_fields__ == ("field", "type", "value")
        else:
            assert CLASSES[struct.name].__struct_fields__ == tuple(item.name for item in struct.fields)


def test_every_bound_is_libvirts() -> None:
    for name, fact in PROTOCOL["constants"].items():
        value = fact["value"] if isinstance(fact, dict) else fact
        short = name.removeprefix("REMOTE_").removeprefix("VIR_").removeprefix("QEMU_")
        try:
            ours = need_constant(short)
        except KeyError:
            ours = need_constant(name)
        assert ours == value, name


def classes_by_libvirt_name() -> dict[str, type[Enum]]:
    found: dict[str, type[Enum]] = {}
    for module in pkgutil.iter_modules(schema.enums.__path__):
        for value in vars(importlib.import_module(f"schema.enums.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Enum) and value.__doc__ and "`vir" in value.__doc__:
                found[value.__doc__.split("`")[1]] = value
    return found


OURS = classes_by_libvirt_name()


@pytest.mark.parametrize("name", sorted(API["enums"]))
def test_enum_has_libvirts_values(name: str) -> None:
    values = {value for member, value in API["enums"][name].items() if not member.endswith("_LAST")}
    cls = OURS[name]
    ours = {int(member.value) for member in cls.__members__.values()}
    assert ours == values


def test_every_error_code_and_domain_is_there() -> None:
    codes = {value for name, value in API["enums"]["virErrorNumber"].items() if not name.endswith("_LAST")}
    assert {int(code) for code in ErrorCode} == codes
    domains = {value for name, value in API["enums"]["virErrorDomain"].items() if not name.endswith("_LAST")}
    assert {int(domain) for domain in ErrorDomain} == domains


def test_error_formats_are_those_that_were_seen() -> None:
    for code, formats in shared_json("libvirt-rpc", "vectors.json")["error_formats"].items():
        with_detail = [one for one in formats if "%s" in one]
        if with_detail:
            assert FORMATS[ErrorCode(int(code))] in with_detail
