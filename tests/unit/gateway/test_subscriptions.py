from __future__ import annotations

import struct
from typing import Any

import pytest

from gateway.subscriptions import ClientSubscriptions, Registration, Subscriptions, monitor_pattern
from rpc.packet import PacketReader, PacketType
from rpc.xdr import event_codec, legacy_event_codec
from schema.errors import InternalError, InvalidArguments, InvalidMessage
from schema.table import need_event
from tests.unit.gateway.records import SCOPE, record, uuid_of

LIFECYCLE = need_event("domain_event_lifecycle")


class FakeSink:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.client = ClientSubscriptions()

    def send_event(self, message: bytes) -> None:
        self.messages.append(message)


def registration(sink: FakeSink, **changes: Any) -> Registration:
    values: dict[str, Any] = {"source": "test", "scope": SCOPE, "event": LIFECYCLE, "callback_id": -1, "after_seq": 0}
    return Registration(sink, **{**values, **changes})


def test_client_is_told_with_its_callback_id() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    ids = [subscriptions.add(sink.client, registration(sink)) for _ in range(2)]
    assert ids == [0, 1]
    subscriptions.deliver("test", record(1, "a", id=4))
    assert len(sink.messages) == 2
    for number, message in zip(ids, sink.messages, strict=True):
        reader = PacketReader()
        reader.feed(message)
        packet = reader.next_packet()
        assert packet is not None
        assert (packet.procedure, packet.type, packet.serial, packet.status) == (318, PacketType.MESSAGE, 1, 0)
        assert packet.payload[:4] == struct.pack(">i", number)
        values = event_codec(LIFECYCLE).decode(packet.payload[4:])
        assert (values["dom"].name, values["dom"].id, values["event"]) == ("a", 4, 2)


def test_older_clients_are_told_without_one() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    subscriptions.add_legacy(sink.client, registration(sink))
    subscriptions.deliver("test", record(1, "a"))
    reader = PacketReader()
    reader.feed(sink.messages[0])
    packet = reader.next_packet()
    assert packet is not None
    assert packet.procedure == 107
    assert legacy_event_codec(LIFECYCLE).decode(packet.payload)["dom"].name == "a"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"key": uuid_of("a")}, True),
        ({"key": uuid_of("b")}, False),
        ({"scope": "test:///else"}, False),
        ({"source": "qemu"}, False),
        ({"event": need_event("domain_event_reboot")}, False),
        ({"after_seq": 6}, True),
        ({"after_seq": 7}, False),
    ],
)
def test_only_what_was_asked_for_is_told(changes: dict[str, Any], told: bool) -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    subscriptions.add(sink.client, registration(sink, **changes))
    subscriptions.deliver("test", record(7, "a"))
    assert bool(sink.messages) == told


def test_who_deregistered_or_left_is_not_told() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    first = subscriptions.add(sink.client, registration(sink))
    subscriptions.add(sink.client, registration(sink))
    subscriptions.remove(sink.client, first, "domain")
    subscriptions.deliver("test", record(1, "a"))
    assert len(sink.messages) == 1
    assert subscriptions.sinks_of("test") == {sink}
    subscriptions.remove_client(sink.client)
    subscriptions.deliver("test", record(2, "a"))
    assert len(sink.messages) == 1
    assert subscriptions.sinks_of("test") == set()


def test_deregistering_what_is_not_there_fails() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    with pytest.raises(InternalError, match="domain event callback 3 not registered"):
        subscriptions.remove(sink.client, 3, "domain")
    with pytest.raises(InternalError, match="domain event 0 not registered"):
        subscriptions.remove_legacy(sink.client, 0)


def test_an_older_registration_exists_once() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    subscriptions.add_legacy(sink.client, registration(sink))
    with pytest.raises(InvalidArguments, match="event callback already tracked"):
        subscriptions.add_legacy(sink.client, registration(sink))
    subscriptions.remove_legacy(sink.client, 0)
    subscriptions.add_legacy(sink.client, registration(sink))


def test_event_that_does_not_hold_what_its_kind_says_is_told_to_nobody() -> None:
    subscriptions, sink = Subscriptions(), FakeSink()
    subscriptions.add(sink.client, registration(sink))
    broken = record(1, "a")
    broken["data"] = {"event": 1}
    with pytest.raises(InvalidMessage):
        subscriptions.deliver("test", broken)
    assert not sink.messages


@pytest.mark.parametrize(
    ("event", "flags", "name", "matches"),
    [
        (None, 0, "STOP", True),
        ("STOP", 0, "STOP", True),
        ("STOP", 0, "STOPPED", False),
        ("stop", 0, "STOP", False),
        ("stop", 2, "STOP", True),
        ("S.*P", 1, "STOP", True),
        ("S.*P", 0, "STOP", False),
    ],
)
def test_monitor_events_are_selected_by_name(event: str | None, flags: int, name: str, matches: bool) -> None:
    pattern = monitor_pattern(event, flags)
    assert (pattern is None or pattern.search(name) is not None) == matches


def test_wrong_expression_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="failed to compile regex"):
        monitor_pattern("(", 1)
