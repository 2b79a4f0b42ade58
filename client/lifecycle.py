"""What lifecycle events mean, in words: `started booted`, `stopped destroyed`."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from schema.enums.domain_event import (
    DomainEventCrashedDetailType,
    DomainEventDefinedDetailType,
    DomainEventPMSuspendedDetailType,
    DomainEventResumedDetailType,
    DomainEventShutdownDetailType,
    DomainEventStartedDetailType,
    DomainEventStoppedDetailType,
    DomainEventSuspendedDetailType,
    DomainEventType,
    DomainEventUndefinedDetailType,
)

DETAILS: Final[dict[DomainEventType, type[IntEnum]]] = {
    DomainEventType.DEFINED: DomainEventDefinedDetailType,
    DomainEventType.UNDEFINED: DomainEventUndefinedDetailType,
    DomainEventType.STARTED: DomainEventStartedDetailType,
    DomainEventType.SUSPENDED: DomainEventSuspendedDetailType,
    DomainEventType.RESUMED: DomainEventResumedDetailType,
    DomainEventType.STOPPED: DomainEventStoppedDetailType,
    DomainEventType.SHUTDOWN: DomainEventShutdownDetailType,
    DomainEventType.PMSUSPENDED: DomainEventPMSuspendedDetailType,
    DomainEventType.CRASHED: DomainEventCrashedDetailType,
}


def lifecycle_of(event: int, detail: int) -> tuple[DomainEventType | int, IntEnum | int]:
    """Type and detail of a guest's lifecycle event as enums; numbers from a newer peer stay numbers."""
    try:
        kind = DomainEventType(event)
    except ValueError:
        return event, detail
    try:
        return kind, DETAILS[kind](detail)
    except ValueError:
        return kind, detail


def word_of(value: IntEnum | int) -> str:
    """A member's name as a word, a number as itself."""
    return value.name.lower().replace("_", " ") if isinstance(value, IntEnum) else str(value)
