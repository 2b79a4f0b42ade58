"""What a subscriber receives: an event, or the notice that history before it is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID

from broker.wire import Cursor, WireError, unpack_value
from client.lifecycle import lifecycle_of
from schema.enums.domain_event import DomainEventType


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What an event is about: `key` is the uuid's bytes where the object has one, else its name."""

    type: str
    key: bytes
    name: str

    @property
    def uuid(self) -> UUID | None:
        """The object's uuid, if its key is one."""
        return UUID(bytes=self.key) if len(self.key) == 16 else None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as its driver told it.

    `cursor` is the place right after it in the journal: `events(after=event.cursor)` goes on behind it.
    `kind` is an event of the schema (`domain_event_lifecycle`), `changed` where libvirt has none, or `epoch` when a
    driver began. `summary` is what lists answer about the object from now on, None when it is gone.
    """

    cursor: Cursor
    source: str
    epoch: int
    seq: int
    kind: str
    object: ObjectName | None
    data: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    version: int
    time: float
    mono: float
    origin: str
    who: Mapping[str, Any] | None
    call: str | None
    trace: str | None
    scope: str

    @property
    def lifecycle(self) -> tuple[DomainEventType | int, IntEnum | int] | None:
        """What happened to a guest and why, as enums; None for other kinds of events."""
        if self.kind != "domain_event_lifecycle" or "event" not in self.data:
            return None
        return lifecycle_of(self.data["event"], self.data.get("detail", 0))


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object of a snapshot."""

    source: str
    type: str
    key: bytes
    name: str
    version: int
    summary: Mapping[str, Any]

    @property
    def uuid(self) -> UUID | None:
        """The object's uuid, if its key is one."""
        return UUID(bytes=self.key) if len(self.key) == 16 else None


@dataclass(frozen=True, slots=True)
class Resync:
    """Events between the cursors `lost` are gone from the journal; here is what exists instead.

    `objects` is everything that the ready drivers have, taken at or after `cursor`: events that follow may repeat
    what it shows already, and an object's `version` tells. `unknown` names drivers that could not be asked: what is
    known of their objects stays as it is.
    """

    cursor: Cursor
    objects: Sequence[KnownObject]
    lost: tuple[Cursor, Cursor]
    unknown: Sequence[str] = ()

    @property
    def domains(self) -> list[KnownObject]:
        """The guests among the objects."""
        return [known for known in self.objects if known.type == "domain"]


def key_bytes(key: object) -> bytes:
    """A key as bytes, whichever form the driver gave it."""
    return key if isinstance(key, bytes) else str(key).encode()


def event_from_record(cursor: Cursor, record: bytes) -> Event:
    """The event in a journal record. Raises WireError when it is none."""
    fields = unpack_value(record)
    try:
        about = fields["object"]
        return Event(
            cursor=cursor,
            source=fields["source"],
            epoch=fields["epoch"],
            seq=fields["seq"],
            kind=fields["kind"],
            object=None if about is None else ObjectName(about[0], key_bytes(about[1]), about[2]),
            data=fields.get("data") or {},
            summary=fields.get("summary"),
            version=fields.get("version") or 0,
            time=fields["wall"],
            mono=fields.get("mono") or 0.0,
            origin=fields.get("origin") or "unknown",
            who=fields.get("who"),
            call=fields.get("call"),
            trace=fields.get("trace"),
            scope=fields.get("scope") or "",
        )
    except (KeyError, TypeError, IndexError, AttributeError) as exc:
        raise WireError(f"not an event record: {exc!r}") from exc
