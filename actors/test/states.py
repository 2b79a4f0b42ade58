"""What a guest's state becomes by each operation, and what subscribers are told of it.

The reasons and details are those of libvirt's own test driver, which a client can tell apart: a guest that was put into
a managed save image starts as BOOTED, not as RESTORED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schema.enums.domain import DomainLifecycleAction
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_event import DomainEventStoppedDetailType as Stopped
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_state import DomainPausedReason as PausedReason
from schema.enums.domain_state import DomainRunningReason as RunningReason
from schema.enums.domain_state import DomainShutoffReason as ShutoffReason
from schema.enums.domain_state import DomainState
from schema.errors import DomainStateError, ErrorDomain, InternalError


@dataclass(frozen=True, slots=True)
class Move:
    """One change of state; without `event` nobody is told, because libvirt tells nobody."""

    state: DomainState
    reason: int
    event: Event | None = None
    detail: int = 0

    @property
    def ends(self) -> bool:
        """Whether the guest is off afterwards."""
        return self.state is DomainState.SHUTOFF


BOOT: Final = Move(DomainState.RUNNING, RunningReason.BOOTED, Event.STARTED, Started.BOOTED)
RESTORE: Final = Move(DomainState.RUNNING, RunningReason.RESTORED, Event.STARTED, Started.RESTORED)
SUSPEND: Final = Move(DomainState.PAUSED, PausedReason.USER, Event.SUSPENDED, Suspended.PAUSED)
RESUME: Final = Move(DomainState.RUNNING, RunningReason.UNPAUSED, Event.RESUMED, Resumed.UNPAUSED)
REBOOT: Final = Move(DomainState.RUNNING, RunningReason.BOOTED)
SHUTDOWN: Final = Move(DomainState.SHUTOFF, ShutoffReason.SHUTDOWN, Event.STOPPED, Stopped.SHUTDOWN)
DESTROY: Final = Move(DomainState.SHUTOFF, ShutoffReason.DESTROYED, Event.STOPPED, Stopped.DESTROYED)
SAVE: Final = Move(DomainState.SHUTOFF, ShutoffReason.SAVED, Event.STOPPED, Stopped.SAVED)
CRASH: Final = Move(DomainState.SHUTOFF, ShutoffReason.CRASHED, Event.STOPPED, Stopped.CRASHED)

REVERT: Final = Move(DomainState.RUNNING, RunningReason.FROM_SNAPSHOT, Event.STARTED, Started.FROM_SNAPSHOT)
REVERT_PAUSED: Final = Move(DomainState.PAUSED, PausedReason.FROM_SNAPSHOT, Event.SUSPENDED, Suspended.FROM_SNAPSHOT)
REVERT_OFF: Final = Move(DomainState.SHUTOFF, ShutoffReason.FROM_SNAPSHOT, Event.STOPPED, Stopped.FROM_SNAPSHOT)

_AFTER_REBOOT: Final = {
    DomainLifecycleAction.DESTROY: SHUTDOWN,
    DomainLifecycleAction.RESTART: REBOOT,
    DomainLifecycleAction.RESTART_RENAME: REBOOT,
    DomainLifecycleAction.PRESERVE: SHUTDOWN,
    DomainLifecycleAction.COREDUMP_DESTROY: SHUTDOWN,
    DomainLifecycleAction.COREDUMP_RESTART: REBOOT,
}


def move_of_reboot(on_reboot: DomainLifecycleAction) -> Move:
    """What a reboot does to a guest whose definition says `on_reboot`."""
    return _AFTER_REBOOT[on_reboot]


def is_active(state: int) -> bool:
    """Whether a guest in this state has an id."""
    return state != DomainState.SHUTOFF


def check_active(state: int) -> None:
    """Raises DomainStateError for a guest that is off."""
    if not is_active(state):
        raise DomainStateError("domain is not running", domain=ErrorDomain.DOMAIN)


def check_suspendable(state: int, name: str) -> None:
    """Raises InternalError, as libvirt does, for a guest that is off or paused already."""
    if state in (DomainState.SHUTOFF, DomainState.PAUSED):
        raise InternalError(f"domain '{name}' not running")


def check_paused(state: int, name: str) -> None:
    """Raises InternalError, as libvirt does, for a guest that is not paused."""
    if state != DomainState.PAUSED:
        raise InternalError(f"domain '{name}' not paused")


def check_stoppable(state: int, name: str) -> None:
    """Raises InternalError, as libvirt does, for a guest that cannot shut down because it is off."""
    if state == DomainState.SHUTOFF:
        raise InternalError(f"domain '{name}' not running")


def check_startable(state: int, name: str) -> None:
    """Raises InternalError, as libvirt does, for a guest that has been started already."""
    if state != DomainState.SHUTOFF:
        raise InternalError(f"Domain '{name}' is already running")
