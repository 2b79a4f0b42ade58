"""What to tell of an object that changed while this driver was not there to see it.

Nobody saw how it happened, so only what must have happened is told: a guest that ran and does not has stopped, with the
detail that its reason gives. A driver that knows more overrides `Actor.differences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from actors.runtime.objects import CHANGED, Entry
from schema.enums.domain_event import (
    DomainEventCrashedDetailType,
    DomainEventDefinedDetailType,
    DomainEventPMSuspendedDetailType,
    DomainEventResumedDetailType,
    DomainEventStartedDetailType,
    DomainEventStoppedDetailType,
    DomainEventSuspendedDetailType,
    DomainEventType,
    DomainEventUndefinedDetailType,
)
from schema.enums.domain_state import DomainPausedReason, DomainShutoffReason, DomainState
from schema.enums.network import NetworkEventLifecycleType
from schema.enums.storage_pool import StoragePoolEventLifecycleType, StoragePoolState

Events = list[tuple[str, dict[str, Any]]]

_STOPPED: Final = {
    DomainShutoffReason.SHUTDOWN: DomainEventStoppedDetailType.SHUTDOWN,
    DomainShutoffReason.DESTROYED: DomainEventStoppedDetailType.DESTROYED,
    DomainShutoffReason.CRASHED: DomainEventStoppedDetailType.CRASHED,
    DomainShutoffReason.MIGRATED: DomainEventStoppedDetailType.MIGRATED,
    DomainShutoffReason.SAVED: DomainEventStoppedDetailType.SAVED,
    DomainShutoffReason.FROM_SNAPSHOT: DomainEventStoppedDetailType.FROM_SNAPSHOT,
}
_SUSPENDED: Final = {
    DomainPausedReason.MIGRATION: DomainEventSuspendedDetailType.MIGRATED,
    DomainPausedReason.IOERROR: DomainEventSuspendedDetailType.IOERROR,
    DomainPausedReason.WATCHDOG: DomainEventSuspendedDetailType.WATCHDOG,
    DomainPausedReason.FROM_SNAPSHOT: DomainEventSuspendedDetailType.RESTORED,
}
_SUSPENDED_STATES: Final = frozenset({DomainState.PAUSED})


def differences(old: Entry | None, new: Entry | None) -> Events:
    """The events that lead from one summary to the other; one `changed` where libvirt has none."""
    some = new or old
    if some is None:
        return []
    told = _TELLERS.get(some.type)
    events = [] if told is None else list(told(old, new))
    return events or [(kind, dict(data)) for kind, data in CHANGED]


def _domain(old: Entry | None, new: Entry | None) -> Iterator[tuple[str, dict[str, Any]]]:
    before = {} if old is None else old.summary
    after = {} if new is None else new.summary
    some = new or old
    assert some is not None

    def event(kind: DomainEventType, detail: int) -> tuple[str, dict[str, Any]]:
        return "domain_event_lifecycle", {"dom": some.ref, "event": int(kind), "detail": int(detail)}

    ran, runs = before.get("id", -1) != -1, after.get("id", -1) != -1
    state, was = after.get("state"), before.get("state")
    if after.get("persistent") and (
        not before.get("persistent") or (old is not None and new is not None and not new.has_definition_of(old))
    ):
        is_new = not before.get("persistent")
        yield event(
            DomainEventType.DEFINED,
            DomainEventDefinedDetailType.ADDED if is_new else DomainEventDefinedDetailType.UPDATED,
        )
    if ran and (not runs or before["id"] != after["id"]):
        reason = after.get("reason", DomainShutoffReason.UNKNOWN) if not runs else DomainShutoffReason.UNKNOWN
        yield event(DomainEventType.STOPPED, _STOPPED.get(reason, DomainEventStoppedDetailType.FAILED))
        ran, was = False, None
    if runs and not ran:
        yield event(DomainEventType.STARTED, DomainEventStartedDetailType.BOOTED)
    if runs and state != was:
        if state in _SUSPENDED_STATES:
            detail = _SUSPENDED.get(after.get("reason", 0), DomainEventSuspendedDetailType.PAUSED)
            yield event(DomainEventType.SUSPENDED, detail)
        elif state == DomainState.RUNNING and (was in _SUSPENDED_STATES or was == DomainState.PMSUSPENDED):
            yield event(DomainEventType.RESUMED, DomainEventResumedDetailType.UNPAUSED)
        elif state == DomainState.PMSUSPENDED:
            yield event(DomainEventType.PMSUSPENDED, DomainEventPMSuspendedDetailType.MEMORY)
        elif state == DomainState.CRASHED:
            yield event(DomainEventType.CRASHED, DomainEventCrashedDetailType.PANICKED)
    if before.get("persistent") and not after.get("persistent"):
        yield event(DomainEventType.UNDEFINED, DomainEventUndefinedDetailType.REMOVED)


def _lifecycle(
    event_name: str,
    argument: str,
    is_active: Callable[[dict[str, Any]], bool],
    numbers: tuple[int, int, int, int],
) -> Callable[[Entry | None, Entry | None], Iterator[tuple[str, dict[str, Any]]]]:
    defined, undefined, started, stopped = numbers

    def tell(old: Entry | None, new: Entry | None) -> Iterator[tuple[str, dict[str, Any]]]:
        some = new or old
        assert some is not None
        before = {} if old is None else old.summary
        after = {} if new is None else new.summary

        def event(number: int) -> tuple[str, dict[str, Any]]:
            return event_name, {argument: some.ref, "event": number, "detail": 0}

        was, is_ = bool(before.get("persistent")), bool(after.get("persistent"))
        ran, runs = is_active(before), is_active(after)
        if is_ and (not was or (old is not None and new is not None and not new.has_definition_of(old))):
            yield event(defined)
        if ran and not runs:
            yield event(stopped)
        if runs and not ran:
            yield event(started)
        if was and not is_:
            yield event(undefined)

    return tell


_TELLERS: Final[dict[str, Callable[[Entry | None, Entry | None], Iterator[tuple[str, dict[str, Any]]]]]] = {
    "domain": _domain,
    "network": _lifecycle(
        "network_event_lifecycle",
        "net",
        lambda s: bool(s.get("active")),
        (
            NetworkEventLifecycleType.DEFINED,
            NetworkEventLifecycleType.UNDEFINED,
            NetworkEventLifecycleType.STARTED,
            NetworkEventLifecycleType.STOPPED,
        ),
    ),
    "storage_pool": _lifecycle(
        "storage_pool_event_lifecycle",
        "pool",
        lambda s: s.get("state", StoragePoolState.INACTIVE) != StoragePoolState.INACTIVE,
        (
            StoragePoolEventLifecycleType.DEFINED,
            StoragePoolEventLifecycleType.UNDEFINED,
            StoragePoolEventLifecycleType.STARTED,
            StoragePoolEventLifecycleType.STOPPED,
        ),
    ),
}
