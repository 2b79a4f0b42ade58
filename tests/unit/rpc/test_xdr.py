from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc.xdr import XdrCodec, XdrError, args_codec, error_codec, event_codec, fields_codec, result_codec
from schema.model import Field
from schema.objects import CLASSES, DomainRef, ErrorRecord, TypedParam
from schema.table import all_events, all_procedures, need_procedure, need_struct

UUID = bytes(range(16))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "uint": st.integers(0, 2**32 - 1),
    "hyper": st.integers(-(2**63), 2**63 - 1),
    "uhyper": st.integers(0, 2**64 - 1),
    "double": st.floats(allow_nan=False),
    "char": st.integers(-128, 127),
    "uchar": st.integers(0, 255),
    "ushort": st.integers(0, 65535),
    "string": st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=9),
}
PARAMS = st.one_of(
    st.builds(TypedParam.of_int, SCALARS["string"], SCALARS["int"]),
    st.builds(TypedParam.of_uint, SCALARS["string"], SCALARS["uint"]),
    st.builds(TypedParam.of_llong, SCALARS["string"], SCALARS["hyper"]),
    st.builds(TypedParam.of_ullong, SCALARS["string"], SCALARS["uhyper"]),
    st.builds(TypedParam.of_double, SCALARS["string"], SCALARS["double"]),
    st.builds(TypedParam.of_boolean, SCALARS["string"], st.booleans()),
    st.builds(TypedParam.of_string, SCALARS["string"], SCALARS["string"]),
)


def values_of(item: Field) -> st.SearchStrategy[Any]:
    value = one_of(item)
    return st.none() | value if item.optional else value


def one_of(item: Field) -> st.SearchStrategy[Any]:
    if item.type == "uuid":
        return st.binary(min_size=16, max_size=16)
    if item.is_bytes:
        return st.binary(min_size=item.fixed or 0, max_size=item.fixed or min(item.max or 0, 9))
    single = named(item.type)
    return st.lists(single, max_size=min(item.max, 4)) if item.max is not None else single


def named(type_: str) -> st.SearchStrategy[Any]:
    if type_ in SCALARS:
        return SCALARS[type_]
    if type_ == "typed_param":
        return PARAMS
    return st.builds(CLASSES[type_], *(values_of(item) for item in need_struct(type_).fields))


WIRE = [procedure for procedure in all_procedures() if procedure.program != "native"]


@pytest.mark.parametrize("procedure", WIRE, ids=lambda procedure: procedure.name)
def test_every_procedure_reads_what_it_wrote(procedure: Any) -> None:
    @settings(max_examples=4, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        for codec, fields, make in (
            (args_codec(procedure), procedure.args, codec_class(args_codec(procedure))),
            (result_codec(procedure), procedure.ret, codec_class(result_codec(procedure))),
        ):
            value = make(**{item.name: data.draw(values_of(item)) for item in fields})
            payload = codec.encode(value)
            assert len(payload) % 4 == 0
            assert codec.decode(payload) == value
            if payload:
                with pytest.raises(XdrError, match=procedure.name):
                    codec.decode(payload[: max(0, len(payload) - 4)] if len(payload) % 4 == 0 else payload)

    check()


def codec_class(codec: XdrCodec) -> Any:
    return codec._make


@pytest.mark.parametrize("event", [e for e in all_events() if e.program != "native"], ids=lambda event: event.name)
def test_every_event_reads_what_it_wrote(event: Any) -> None:
    @settings(max_examples=4, deadline=None, database=None, derandomize=True)
    @given(st.fixed_dictionaries({item.name: values_of(item) for item in event.fields}))
    def check(values: dict[str, Any]) -> None:
        assert event_codec(event).decode(event_codec(event).encode(values)) == values

    check()


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.sampled_from(WIRE), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_as_xdr(procedure: Any, payload: bytes) -> None:
    for codec in (args_codec(procedure), result_codec(procedure)):
        try:
            codec.decode(payload)
        except XdrError:
            pass


def test_text_that_is_not_utf8_keeps_its_bytes() -> None:
    codec = args_codec(need_procedure("domain_lookup_by_name"))
    payload = struct.pack(">I", 3) + b"a\xff\xfe\0"
    values = codec.decode(payload)
    assert values.name == "a\udcff\udcfe"
    assert codec.encode(values) == payload


def test_text_with_a_nul_is_refused() -> None:
    with pytest.raises(XdrError, match="domain_lookup_by_name: field 'name': a text with a NUL"):
        args_codec(need_procedure("domain_lookup_by_name")).decode(struct.pack(">I", 3) + b"a\0b\0")


@pytest.mark.parametrize("length", [4194305, 2**32 - 1])
def test_text_beyond_its_bound_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(XdrError, match="'name': longer than 4194304"):
        args_codec(need_procedure("domain_lookup_by_name")).decode(struct.pack(">I", length))


def test_count_beyond_what_is_left_is_refused() -> None:
    codec = result_codec(need_procedure("connect_list_all_domains"))
    with pytest.raises(XdrError, match="'domains': ends too early"):
        codec.decode(struct.pack(">I", 16384) + bytes(40))
    with pytest.raises(XdrError, match="'domains': longer than 16384"):
        codec.decode(struct.pack(">I", 16385) + bytes(40))


def test_list_beyond_its_bound_is_not_written() -> None:
    codec = result_codec(need_procedure("connect_list_all_domains"))
    many = codec_class(codec)(domains=[DomainRef("a", UUID)] * 16385, ret=16385)
    with pytest.raises(XdrError, match="'domains': longer than 16384"):
        codec.encode(many)


def test_optional_value_begins_with_zero_or_one() -> None:
    codec = args_codec(need_procedure("connect_open"))
    assert codec.decode(struct.pack(">II", 0, 1)).name is None
    with pytest.raises(XdrError, match="'name': an optional value"):
        codec.decode(struct.pack(">II", 2, 1))


def test_bytes_behind_the_last_field_and_in_the_padding_are_ignored() -> None:
    codec = args_codec(need_procedure("domain_lookup_by_name"))
    assert codec.decode(struct.pack(">I", 1) + b"aXYZ" + b"more").name == "a"


def test_small_integers_take_four_bytes_and_keep_their_range() -> None:
    codec = fields_codec("t", (Field("c", "char"), Field("u", "uchar"), Field("s", "ushort")))
    assert codec.encode({"c": -1, "u": 255, "s": 65535}) == struct.pack(">iII", -1, 255, 65535)
    for bad in ({"c": 128, "u": 0, "s": 0}, {"c": 0, "u": 256, "s": 0}, {"c": 0, "u": 0, "s": -1}):
        with pytest.raises(XdrError, match="t: field"):
            codec.encode(bad)
    with pytest.raises(XdrError, match="t: field 'u': not between"):
        codec.decode(struct.pack(">iII", 0, 256, 0))


def test_array_of_chars_is_four_bytes_each_and_signed() -> None:
    codec = fields_codec("t", (Field("m", "char", fixed=2),))
    assert codec.encode({"m": b"\x01\xff"}) == b"\0\0\0\x01\xff\xff\xff\xff"
    assert codec.decode(b"\0\0\0\x01\xff\xff\xff\xff") == {"m": b"\x01\xff"}
    with pytest.raises(XdrError, match="'m': not 2 bytes"):
        codec.encode({"m": b"\x01"})


def test_parameter_of_unknown_type_is_refused() -> None:
    codec = result_codec(need_procedure("domain_get_scheduler_parameters"))
    with pytest.raises(XdrError, match="no known type"):
        codec.decode(struct.pack(">IIcxxxii", 1, 1, b"a", 8, 0))


def test_missing_value_names_message_and_field() -> None:
    with pytest.raises(XdrError, match="t: 'm'"):
        fields_codec("t", (Field("m", "int"),)).encode({})
    with pytest.raises(XdrError, match="domain_lookup_by_name"):
        args_codec(need_procedure("domain_lookup_by_name")).encode(object())


def test_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(XdrError, match="t: "):
        fields_codec("t", (Field("m", "int"),)).encode({"m": 2**31})


def test_error_is_written_as_libvirt_does() -> None:
    error = ErrorRecord(42, 12, "Domain not found", 2, None, "Domain not found", None, None, -1, -1, None)
    assert error_codec().decode(error_codec().encode(error)) == error
