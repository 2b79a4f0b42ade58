from __future__ import annotations

import msgspec
import pytest

from gateway import parts
from gateway.parts import Parts
from rpc.xdr import result_codec
from schema.body import Packed, pack_result, packed_parts, unpack_result
from schema.errors import InvalidMessage
from schema.objects import DomainRef, DomainStatsRecord, TypedParam
from schema.table import need_procedure

ROW = need_procedure("connect_get_all_domain_stats")


def stats(number: int, mem: int = 1) -> DomainStatsRecord:
    params = [TypedParam.of_ullong("balloon.current", mem), TypedParam.of_string("block.0.name", "väa")]
    return DomainStatsRecord(DomainRef(f"guest-{number}", bytes([number]) * 16), params)


def whole(items: list[DomainStatsRecord]) -> bytes:
    body = pack_result(ROW, items)
    return result_codec(ROW).encode(unpack_result(ROW, body))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_translated_by_parts_is_translated_as_a_whole(count: int) -> None:
    translator = Parts(ROW)
    items = [stats(number) for number in range(count)]
    for _ in range(2):
        assert translator.translate(pack_result(ROW, items)) == whole(items)


def test_an_item_that_changed_is_told_as_it_is() -> None:
    translator = Parts(ROW)
    translator.translate(pack_result(ROW, [stats(1), stats(2)]))
    changed = [stats(1, mem=5), stats(2)]
    assert translator.translate(pack_result(ROW, changed)) == whole(changed)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "KEPT_BYTES_MAX", 2000)
    translator = Parts(ROW)
    for mem in range(100):
        items = [stats(1, mem), stats(2)]
        assert translator.translate(pack_result(ROW, items)) == whole(items)
        assert len(translator._young) + len(translator._old) < 50


@pytest.mark.parametrize("body", [b"", b"\xc0", msgspec.msgpack.encode({"other": []})])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        Parts(ROW).translate(body)


def test_a_wrong_item_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        Parts(ROW).translate(msgspec.msgpack.encode({"retStats": [["name", b"short", -1], []]}))


def test_a_result_of_parts_is_the_result() -> None:
    items = [stats(number) for number in range(5)]
    kept = packed_parts(ROW, items)
    assert pack_result(ROW, Packed(ROW, kept)) == pack_result(ROW, items)


def test_a_part_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        packed_parts(ROW, [DomainStatsRecord(DomainRef("a", b"short"), [])])
