"""What the boundary between processes refuses, and that the refusal names procedure and field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schema.body import (
    convert_event,
    event_data,
    pack_args,
    pack_event,
    pack_result,
    unpack_args,
    unpack_event,
    unpack_result,
)
from schema.errors import InvalidArguments, InvalidMessage, UnknownProcedure
from schema.objects import DomainRef, TypedParam
from schema.table import all_procedures, need_procedure, procedure_by_number

UUID = bytes(16)
DOM = DomainRef("web1", UUID, 3)
CREATE = need_procedure("domain_create_with_flags")
SET_METADATA = need_procedure("domain_set_metadata")
LIST = need_procedure("connect_list_all_domains")


def packed(**values: Any) -> bytes:
    return msgspec.msgpack.encode(values)


def test_arguments_come_back_as_they_went() -> None:
    values = unpack_args(CREATE, pack_args(CREATE, {"dom": DOM, "flags": 1}))
    assert (values.dom, values.flags) == (DOM, 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"dom": DOM}, "domain_create_with_flags: missing argument 'flags'"),
        ({"dom": DOM, "flags": 1, "more": 2}, "domain_create_with_flags: unknown argument 'more'"),
        ({"dom": DOM, "flags": "1"}, "domain_create_with_flags: argument 'flags': expected `int`"),
        ({"dom": DOM, "flags": True}, "domain_create_with_flags: argument 'flags': expected `int`"),
        ({"dom": DOM, "flags": 1.0}, "domain_create_with_flags: argument 'flags'"),
        ({"dom": DOM, "flags": -1}, "domain_create_with_flags: argument 'flags'"),
        ({"dom": DOM, "flags": 2**32}, "domain_create_with_flags: argument 'flags'"),
        ({"dom": None, "flags": 0}, "domain_create_with_flags: argument 'dom'"),
        ({"dom": ["web1", bytes(15), 3], "flags": 0}, "domain_create_with_flags: argument 'dom'"),
        ({"dom": ["web1", UUID, 3, 4], "flags": 0}, "domain_create_with_flags: argument 'dom'"),
        ({"dom": ["w" * 4194305, UUID, 3], "flags": 0}, "domain_create_with_flags: argument 'dom'"),
    ],
)
def test_wrong_arguments_are_refused_on_both_sides(values: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        pack_args(CREATE, values)
    assert text in caught.value.message
    with pytest.raises(InvalidArguments) as caught:
        unpack_args(CREATE, packed(**values))
    assert text in caught.value.message


def test_over_long_text_names_procedure_and_argument() -> None:
    with pytest.raises(InvalidArguments, match="domain_lookup_by_name: argument 'name'"):
        pack_args(need_procedure("domain_lookup_by_name"), {"name": "x" * 4194305})


def test_over_long_array_names_procedure_and_argument() -> None:
    procedure = need_procedure("domain_send_key")
    values = {"dom": DOM, "codeset": 0, "holdtime": 0, "keycodes": [1] * 17, "flags": 0}
    with pytest.raises(InvalidArguments, match="domain_send_key: argument 'keycodes'"):
        pack_args(procedure, values)


def test_over_long_bytes_name_procedure_and_argument() -> None:
    procedure = need_procedure("domain_pin_vcpu")
    with pytest.raises(InvalidArguments, match="domain_pin_vcpu: argument 'cpumap'"):
        pack_args(procedure, {"dom": DOM, "vcpu": 0, "cpumap": bytes(2049)})


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="domain_lookup_by_name: argument 'name': not valid UTF-8"):
        pack_args(need_procedure("domain_lookup_by_name"), {"name": "a\udcff"})
    with pytest.raises(InvalidArguments, match="domain_lookup_by_name: argument 'name': not valid UTF-8"):
        unpack_args(need_procedure("domain_lookup_by_name"), b"\x81\xa4name\xa1\xff")


def test_optional_argument_may_be_left_out() -> None:
    args = {"dom": DOM, "type": 0, "metadata": None, "key": None, "uri": None, "flags": 0}
    assert unpack_args(SET_METADATA, pack_args(SET_METADATA, args)).metadata is None
    short = {"dom": DOM, "type": 0, "flags": 0}
    assert unpack_args(SET_METADATA, pack_args(SET_METADATA, short)).uri is None


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xc1", b"\x90", b"\x81\xa5flags\x01\x00", b"\xff" * 40])
def test_body_that_is_no_map_of_arguments_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArguments, match="domain_create_with_flags"):
        unpack_args(CREATE, body)


def test_result_may_be_given_short() -> None:
    assert unpack_result(LIST, pack_result(LIST, [DOM])).ret == 1
    assert (
        unpack_result(need_procedure("connect_get_type"), pack_result(need_procedure("connect_get_type"), "QEMU")).type
        == "QEMU"
    )
    assert pack_result(need_procedure("domain_suspend"), None) == b"\x80"


def test_wrong_result_is_the_servers_fault() -> None:
    with pytest.raises(InvalidMessage, match="connect_list_all_domains: result 'domains'"):
        pack_result(LIST, {"domains": [1], "ret": 1})
    with pytest.raises(InvalidMessage, match="connect_list_all_domains: missing result 'ret'"):
        unpack_result(LIST, packed(domains=[]))
    with pytest.raises(InvalidMessage, match="connect_list_all_domains: result 'domains'"):
        pack_result(LIST, [DOM] * 16385)


@pytest.mark.parametrize(
    ("kind", "value"), [(0, 1), (8, 1), (1, 2**31), (2, -1), (4, 2**64), (5, 1), (6, 2), (7, 1), (1, 1.5), (1, "1")]
)
def test_parameter_whose_value_is_not_of_its_type_is_refused(kind: int, value: Any) -> None:
    with pytest.raises(ValueError, match="parameter 'p'"):
        TypedParam("p", kind, value)
    procedure = need_procedure("domain_set_scheduler_parameters")
    with pytest.raises(InvalidArguments, match="domain_set_scheduler_parameters: argument 'params'"):
        unpack_args(procedure, packed(dom=DOM, params=[["p", kind, value if value != 2**64 else -1]]))


def test_events_are_checked_like_calls() -> None:
    data = event_data("domain_event_lifecycle", {"dom": DOM, "event": 2, "detail": 0})
    assert convert_event("domain_event_lifecycle", data).dom == DOM
    body = pack_event("domain_event_lifecycle", data)
    assert unpack_event("domain_event_lifecycle", body).event == 2
    with pytest.raises(InvalidMessage, match="domain_event_lifecycle: missing field 'detail'"):
        pack_event("domain_event_lifecycle", {"dom": DOM, "event": 2})
    with pytest.raises(UnknownProcedure):
        pack_event("domain_event_nothing", {})


def test_unknown_procedures_are_said_to_be_unknown() -> None:
    with pytest.raises(UnknownProcedure, match="unknown procedure: domain_fly"):
        need_procedure("domain_fly")
    with pytest.raises(UnknownProcedure, match="unknown procedure: 9999"):
        procedure_by_number("remote", 9999)


def test_every_procedure_has_a_deadline_or_is_a_task() -> None:
    for procedure in all_procedures():
        assert (procedure.deadline_s is None) == (procedure.call_class == "task"), procedure.name
