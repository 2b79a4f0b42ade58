"""Errors as a person meets them: a line that says what is wrong, what to do next, and the exit code."""

from __future__ import annotations

import sys
from typing import Final

from client.command.output import printable, to_json
from client.errors import (
    AccessDenied,
    AgentUnreachable,
    Busy,
    CallPending,
    DeadlinePassed,
    DomainStateError,
    DriverDegraded,
    DriverGone,
    DriverStopped,
    NoConnection,
    NoSuchDomain,
    NoSuchInterface,
    NoSuchNetwork,
    NoSuchNodeDevice,
    NoSuchNWFilter,
    NoSuchSecret,
    NoSuchSnapshot,
    NoSuchStoragePool,
    NoSuchStorageVol,
    OperationDenied,
    ResourceBusy,
    VirtError,
    XmlDetailError,
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
NOT_NOW: Final = 5
DRIVER_DOWN: Final = 6

_CODES: Final[tuple[tuple[tuple[type[VirtError], ...], int], ...]] = (
    ((AgentUnreachable,), UNREACHABLE),
    (
        (
            NoSuchDomain,
            NoSuchInterface,
            NoSuchNWFilter,
            NoSuchNetwork,
            NoSuchNodeDevice,
            NoSuchSecret,
            NoSuchSnapshot,
            NoSuchStoragePool,
            NoSuchStorageVol,
        ),
        NOT_FOUND,
    ),
    ((Busy, CallPending, DeadlinePassed, ResourceBusy), NOT_NOW),
    ((DriverDegraded, DriverGone, DriverStopped), DRIVER_DOWN),
)


def exit_code(error: VirtError) -> int:
    """What the command ends with."""
    return next((code for classes, code in _CODES if isinstance(error, classes)), FAILED)


def advice(error: VirtError) -> str | None:
    """What to do next, where that is known."""
    match error:
        case AgentUnreachable():
            return "start it with 'virtroupe up', or name its folder with --root DIR"
        case NoSuchDomain():
            return "'virtroupe list --all' shows the guests"
        case NoSuchNetwork():
            return "'virtroupe net-list --all' shows the networks"
        case NoSuchStoragePool():
            return "'virtroupe pool-list --all' shows the pools"
        case Busy() if error.retry_after_s is not None:
            return f"try again in {error.retry_after_s:.1f} s"
        case CallPending():
            return "look at the guest's state before trying again"
        case DriverDegraded():
            return f"'virtroupe actor log {error.name}' says why, 'virtroupe actor reset {error.name}' tries again"
        case DriverStopped():
            return f"'virtroupe actor start {error.name}' starts it"
        case DriverGone():
            return "'virtroupe status' shows what the agent does about it"
        case DeadlinePassed():
            return "'virtroupe top --once' shows guests and drivers"
        case NoConnection():
            return "-c URI names another driver, such as qemu:///system, qemu:///session or test:///default"
        case AccessDenied():
            return "--readonly lets you look; 'broker.allow' in the configuration names who may change things"
        case OperationDenied():
            return "connect without --readonly to change things"
        case DomainStateError():
            return "'virtroupe domstate GUEST --reason' shows its state"
    return None


def report(error: VirtError, *, as_json: bool) -> int:
    """Writes the error to standard error and tells the exit code."""
    code = exit_code(error)
    hint = advice(error)
    if as_json:
        told = {
            "kind": error.kind,
            "code": int(error.code),
            "message": error.message,
            "advice": hint,
            "retry_after_s": error.retry_after_s,
            "exit": code,
        }
        sys.stderr.write(to_json({"error": told}, indent=None) + "\n")
    else:
        if isinstance(error, XmlDetailError):  # a line of the document, and below it a mark where it is wrong
            message = "\n".join(printable(line) for line in error.message.splitlines())
        else:
            message = printable(" ".join(error.message.split()))
        sys.stderr.write(f"error: {message}" + (f" ({hint})" if hint else "") + "\n")
    return code
