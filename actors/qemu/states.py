"""What a guest's state becomes by each thing that happens, and what subscribers are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.qemu.guest import Guest
from schema.enums.domain_event import (
    DomainEventResumedDetailType as Resumed,
)
from schema.enums.domain_event import (
    DomainEventShutdownDetailType as ShutdownDetail,
)
from schema.enums.domain_event import (
    DomainEventStartedDetailType as Started,
)
from schema.enums.domain_event import (
    DomainEventStoppedDetailType as Stopped,
)
from schema.enums.domain_event import (
    DomainEventSuspendedDetailType as Suspended,
)
from schema.enums.domain_event import (
    DomainEventType as Event,
)
from schema.enums.domain_state import (
    DomainCrashedReason,
    DomainPausedReason,
    DomainPMSuspendedReason,
    DomainRunningReason,
    DomainShutdownReason,
    DomainShutoffReason,
    DomainState,
)

Told = tuple[str, Mapping[str, Any]]

STOPPED_DETAILS: Final = {
    DomainShutoffReason.SHUTDOWN: Stopped.SHUTDOWN,
    DomainShutoffReason.DESTROYED: Stopped.DESTROYED,
    DomainShutoffReason.CRASHED: Stopped.FAILED,
    DomainShutoffReason.SAVED: Stopped.SAVED,
    DomainShutoffReason.FAILED: Stopped.FAILED,
    DomainShutoffReason.MIGRATED: Stopped.MIGRATED,
    DomainShutoffReason.FROM_SNAPSHOT: Stopped.FROM_SNAPSHOT,
}

# the words of query-status
RUN_STATES: Final[dict[str, tuple[DomainState, int]]] = {
    "running": (DomainState.RUNNING, DomainRunningReason.UNKNOWN),
    "paused": (DomainState.PAUSED, DomainPausedReason.UNKNOWN),
    "prelaunch": (DomainState.PAUSED, DomainPausedReason.USER),
    "inmigrate": (DomainState.PAUSED, DomainPausedReason.MIGRATION),
    "postmigrate": (DomainState.PAUSED, DomainPausedReason.MIGRATION),
    "finish-migrate": (DomainState.PAUSED, DomainPausedReason.MIGRATION),
    "save-vm": (DomainState.PAUSED, DomainPausedReason.SAVE),
    "restore-vm": (DomainState.PAUSED, DomainPausedReason.MIGRATION),
    "debug": (DomainState.PAUSED, DomainPausedReason.UNKNOWN),
    "internal-error": (DomainState.PAUSED, DomainPausedReason.UNKNOWN),
    "io-error": (DomainState.PAUSED, DomainPausedReason.IOERROR),
    "watchdog": (DomainState.PAUSED, DomainPausedReason.WATCHDOG),
    "shutdown": (DomainState.SHUTDOWN, DomainShutdownReason.UNKNOWN),
    "suspended": (DomainState.PMSUSPENDED, DomainPMSuspendedReason.UNKNOWN),
    "guest-panicked": (DomainState.CRASHED, DomainCrashedReason.PANICKED),
    "colo": (DomainState.PAUSED, DomainPausedReason.UNKNOWN),
}


def lifecycle(guest: Guest, event: Event, detail: int = 0) -> Told:
    """libvirt's lifecycle event of a guest."""
    return "domain_event_lifecycle", {"dom": guest.ref, "event": int(event), "detail": int(detail)}


def started(guest: Guest, detail: Started = Started.BOOTED) -> Told:
    return lifecycle(guest, Event.STARTED, detail)


def resumed(guest: Guest, detail: Resumed = Resumed.UNPAUSED) -> Told:
    return lifecycle(guest, Event.RESUMED, detail)


def suspended(guest: Guest, detail: Suspended = Suspended.PAUSED) -> Told:
    return lifecycle(guest, Event.SUSPENDED, detail)


def shut_down(guest: Guest, by_guest: bool | None) -> Told:
    """The guest powered off; QEMU tells whether it did so itself."""
    if by_guest is None:
        return lifecycle(guest, Event.SHUTDOWN, ShutdownDetail.FINISHED)
    return lifecycle(guest, Event.SHUTDOWN, ShutdownDetail.GUEST if by_guest else ShutdownDetail.HOST)


def stopped(guest: Guest, reason: DomainShutoffReason) -> Told:
    if reason is DomainShutoffReason.CRASHED and guest.state is DomainState.CRASHED:
        # its kernel gave up, rather than its process
        return lifecycle(guest, Event.STOPPED, Stopped.CRASHED)
    return lifecycle(guest, Event.STOPPED, STOPPED_DETAILS.get(reason, Stopped.FAILED))


def state_of_status(status: str, state: DomainState, reason: int) -> tuple[DomainState, int]:
    """State and reason that QEMU's word means, where the last known one already fits it."""
    found = RUN_STATES.get(status)
    if found is None or found[0] == state:
        return state, reason
    if found[0] is DomainState.RUNNING:
        return DomainState.RUNNING, int(DomainRunningReason.UNPAUSED)
    return found[0], int(found[1])
