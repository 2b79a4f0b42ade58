"""Which libvirt client wants to be told what, and the bytes of telling it.

Pure. An event is encoded once, however many clients are told; only the callback id differs from one to the next.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from rpc.packet import EVENT_SERIAL, LENGTH_MIN, PROGRAM_VERSION, PacketType, Program, Status, pack_message_header
from rpc.xdr import event_codec, legacy_event_codec
from schema.body import convert_event
from schema.errors import InternalError, InvalidArguments
from schema.model import Event

PROGRAMS: Final = {"remote": int(Program.REMOTE), "qemu": int(Program.QEMU), "lxc": int(Program.LXC)}
LEGACY_EVENT_ID_MAX: Final = 15
_int: Final = struct.Struct(">i")
_REGEX: Final = 1
_NO_CASE: Final = 2


class Sink(Protocol):
    """A client that is told."""

    def send_event(self, message: bytes) -> None:
        """Sends a whole message."""


@dataclass(slots=True, eq=False)
class Registration:
    """One client's wish: an event of a source, of all objects or of one, that happens after `after_seq`."""

    sink: Sink
    source: str
    scope: str
    event: Event
    callback_id: int
    after_seq: int
    key: bytes | str | None = None
    legacy: bool = False
    pattern: re.Pattern[str] | None = None
    may: Callable[[Mapping[str, Any]], bool] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is for all objects of its scope, whatever the record says."""
        return self.key is None and self.may is None and self.pattern is None

    def wants(self, record: Mapping[str, Any]) -> bool:
        """Whether the record is what the client wished for."""
        if record["scope"] not in (self.scope, "") or record["seq"] <= self.after_seq:
            return False
        if self.key is not None and (record["object"] is None or record["object"][1] != self.key):
            return False
        if self.may is not None and not self.may(record):
            return False
        return self.pattern is None or self.pattern.search(record["data"].get("event", "")) is not None


@dataclass(slots=True)
class ClientSubscriptions:
    """The registrations of one connection."""

    next_id: int = 0
    by_id: dict[int, Registration] = field(default_factory=dict)
    legacy: dict[int, Registration] = field(default_factory=dict)


def monitor_pattern(event: str | None, flags: int) -> re.Pattern[str] | None:
    """What a registration for QEMU's monitor events selects by their name.

    Raises InvalidArguments for an expression that is none.
    """
    if event is None:
        return None
    expression = event if flags & _REGEX else f"^{re.escape(event)}$"
    try:
        return re.compile(expression, re.IGNORECASE if flags & _NO_CASE else 0)
    except re.error as exc:
        raise InvalidArguments(f"failed to compile regex '{event}': {exc}") from exc


class Subscriptions:
    """All registrations, by source and event."""

    def __init__(self) -> None:
        self._by_event: dict[tuple[str, str], dict[int, Registration]] = {}

    def add(self, client: ClientSubscriptions, registration: Registration) -> int:
        """Adds a registration under a new id of its client, which it gives."""
        registration.callback_id = client.next_id
        client.next_id += 1
        client.by_id[registration.callback_id] = registration
        self._link(registration)
        return registration.callback_id

    def add_legacy(self, client: ClientSubscriptions, registration: Registration) -> None:
        """Adds a registration of the older kind, which has no id and exists once for each event.

        Raises InvalidArguments when it is there.
        """
        event_id = registration.event.event_id or 0
        if event_id in client.legacy:
            raise InvalidArguments("event callback already tracked")
        registration.legacy = True
        client.legacy[event_id] = registration
        self._link(registration)

    def remove(self, client: ClientSubscriptions, callback_id: int, what: str) -> None:
        """Removes a registration. Raises InternalError when there is none."""
        registration = client.by_id.pop(callback_id, None)
        if registration is None:
            raise InternalError(f"{what} event callback {callback_id} not registered")
        self._unlink(registration)

    def remove_legacy(self, client: ClientSubscriptions, event_id: int) -> None:
        """Removes a registration of the older kind. Raises InternalError when there is none."""
        registration = client.legacy.pop(event_id, None)
        if registration is None:
            raise InternalError(f"domain event {event_id} not registered")
        self._unlink(registration)

    def remove_client(self, client: ClientSubscriptions) -> None:
        """Removes all that a connection registered."""
        for registration in (*client.by_id.values(), *client.legacy.values()):
            self._unlink(registration)
        client.by_id.clear()
        client.legacy.clear()

    def sinks_of(self, source: str) -> set[Sink]:
        """Every client that is told anything of a source."""
        return {
            registration.sink
            for (name, _), known in self._by_event.items()
            if name == source
            for registration in known.values()
        }

    def _link(self, registration: Registration) -> None:
        key = registration.source, registration.event.name
        self._by_event.setdefault(key, {})[id(registration)] = registration

    def _unlink(self, registration: Registration) -> None:
        key = registration.source, registration.event.name
        known = self._by_event[key]
        del known[id(registration)]
        if not known:
            del self._by_event[key]

    def deliver(self, source: str, record: Mapping[str, Any]) -> None:
        """Tells everybody who wants to know of a record.

        Raises InvalidMessage when the record does not hold what its kind says.
        """
        registrations = self._by_event.get((source, record["kind"]))
        if not registrations:
            return
        messages = _Messages(record)
        scope, seq = record["scope"], record["seq"]
        for registration in tuple(registrations.values()):
            if registration.after_seq >= seq or (registration.scope != scope and scope):
                continue
            if registration.is_plain or registration.wants(record):
                registration.sink.send_event(messages.of(registration))


class _Messages:
    """The forms of one event, each made when first needed."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self._values: dict[str, Any] | None = None
        self._new: tuple[bytes, bytes] | None = None
        self._by_id: dict[int, bytes] = {}
        self._legacy: bytes | None = None

    def of(self, registration: Registration) -> bytes:
        event = registration.event
        if registration.legacy:
            if self._legacy is None:
                payload = legacy_event_codec(event).encode(self._read())
                self._legacy = message_head(event.program, event.legacy_number or 0, len(payload)) + payload
            return self._legacy
        known = self._by_id.get(registration.callback_id)  # most clients have but one, of the same number
        if known is not None:
            return known
        if self._new is None:
            payload = event_codec(event).encode(self._read())
            size = len(payload) + (4 if event.has_callback else 0)
            self._new = message_head(event.program, event.number, size), payload
        head, payload = self._new
        message = head + (_int.pack(registration.callback_id) if event.has_callback else b"") + payload
        self._by_id[registration.callback_id] = message
        return message

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            self._values = msgspec.structs.asdict(convert_event(self._record["kind"], self._record["data"]))
        return self._values


def message_head(program: str, number: int, size: int) -> bytes:
    """The header of an event of so many bytes."""
    return pack_message_header(
        LENGTH_MIN + size, PROGRAMS[program], PROGRAM_VERSION, number, PacketType.MESSAGE, EVENT_SERIAL, Status.OK
    )
