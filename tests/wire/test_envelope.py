"""Yesterday's bytes of our own protocol: each stored message is read, understood, and written again to the same bytes.

A file holds one message, a frame per line in hex. Files are added, never edited: a change that breaks one breaks a peer
of another version.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import wire
from broker.segments import pack_record, records_in
from broker.wire import Kind, Published

FOLDER = Path(__file__).parent / "envelope"
KINDS = {kind.name.lower(): kind for kind in Kind}


def frames(path: Path) -> list[bytes]:
    return [bytes.fromhex(line) for line in path.read_text(encoding="ascii").splitlines()]


def files(*kinds: str) -> list[Path]:
    found = [path for path in sorted(FOLDER.iterdir()) if path.name.rpartition(".")[0] in kinds]
    assert {path.name.rpartition(".")[0] for path in found} == set(kinds)
    return found


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", files(*KINDS), ids=named)
def test_a_stored_header_is_understood(path: Path) -> None:
    _, header, _ = frames(path)
    kind, flags, ttl_ms, correlation = wire.unpack_header(header)
    assert kind == KINDS[path.name.rpartition(".")[0]]
    assert wire.pack_header(kind, correlation, ttl_ms, flags) == header


@pytest.mark.parametrize("path", files("call"), ids=named)
def test_a_stored_call_is_understood(path: Path) -> None:
    *_, body = frames(path)
    packed, rest = wire.split_body(body)
    prologue = wire.unpack_call_prologue(packed)
    assert prologue.procedure in ("domain_create", "domain_destroy")
    assert isinstance(wire.unpack_value(rest), dict)
    assert wire.join_body(wire.pack_call_prologue(prologue), rest) == body


@pytest.mark.parametrize("path", files("reply", "error"), ids=named)
def test_a_stored_outcome_is_understood(path: Path) -> None:
    *_, body = frames(path)
    packed, rest = wire.split_body(body)
    prologue = wire.unpack_reply_prologue(packed)
    wire.unpack_value(rest)
    assert wire.join_body(wire.pack_reply_prologue(prologue), rest) == body


@pytest.mark.parametrize("path", files("event", "register", "registered", "replay", "replay_part"), ids=named)
def test_a_stored_map_is_understood(path: Path) -> None:
    *_, body = frames(path)
    value = wire.unpack_value(body)
    assert isinstance(value, dict) and wire.pack_value(value) == body


@pytest.mark.parametrize("path", files("published"), ids=named)
def test_a_stored_publication_is_understood(path: Path) -> None:
    source, packed, body = frames(path)
    position = wire.unpack_position(packed)
    assert wire.pack_position(position) == packed
    if position.what == Published.EVENT:
        head = wire.unpack_record_head(body)
        assert (head.source.encode(), head.epoch, head.seq) == (source, position.epoch, position.seq)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("door.*")), ids=named)
def test_a_stored_door_message_is_understood(path: Path) -> None:
    (data,) = frames(path)
    message = wire.take_door(bytearray(data))
    assert message is not None and wire.pack_door(message) == data


@pytest.mark.parametrize("path", files("journal.record"), ids=named)
def test_a_stored_journal_record_is_understood(path: Path) -> None:
    (data,) = frames(path)
    ((end, record),) = records_in(data)
    assert end == len(data) and pack_record(record) == data
    assert wire.unpack_record_head(record).source == "test"
