"""Meanings that only Virtroupe has: what can happen to a call between processes.

Each carries the libvirt code that makes libvirt's own clients behave best: a busy queue and a passed deadline are a
timeout, a cancelled call is an aborted one, everything about a driver that died is a failed operation.
"""

from schema.enums.error import ErrorCode, ErrorDomain
from schema.error_root import VirtError


class Busy(VirtError):
    """A queue is full; nothing was done, and `retry_after_s` says when to come again."""

    code = ErrorCode.OPERATION_TIMEOUT
    expected = True

    def __init__(self, retry_after_s: float, detail: str = "too many calls wait already") -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class DeadlinePassed(VirtError):
    """The call's deadline passed; the detail names who held the object, where that is known."""

    code = ErrorCode.OPERATION_TIMEOUT
    expected = True


class Cancelled(VirtError):
    """The caller, or an overriding call, cancelled it."""

    code = ErrorCode.OPERATION_ABORTED
    expected = True


class HypervisorGone(VirtError):
    """The hypervisor, or the guest's process, went away during the call."""

    code = ErrorCode.OPERATION_FAILED


class DriverDegraded(VirtError):
    """A driver ended too often and is not started again until somebody resets it."""

    code = ErrorCode.OPERATION_FAILED
    expected = True

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"driver '{name}' is degraded: {why}", str3=name)

    @property
    def name(self) -> str | None:
        """The driver."""
        return self.str3


class DriverGone(VirtError):
    """A driver ended during the call and did not come back in time; what it did is unknown or nothing."""

    code = ErrorCode.OPERATION_FAILED

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"driver '{name}' is gone: {why}", str3=name)

    @property
    def name(self) -> str | None:
        """The driver."""
        return self.str3


class CallUndone(VirtError):
    """The verdict on a change whose driver died: what had been done of it was undone."""

    code = ErrorCode.OPERATION_FAILED


class CallNotStarted(VirtError):
    """The verdict on a change whose driver died: nothing of it had been done."""

    code = ErrorCode.OPERATION_FAILED


class CallPending(VirtError):
    """The outcome is not known yet: the driver died, and its successor did not come before the deadline.

    `call` is the call's id, which `actor_call_outcome` resolves later.
    """

    code = ErrorCode.OPERATION_TIMEOUT

    def __init__(self, call: str, detail: str = "the outcome of the call is not known yet") -> None:
        super().__init__(detail, str3=call)

    @property
    def call(self) -> str | None:
        """The id of the call."""
        return self.str3


class DriverStopped(VirtError):
    """An operator stopped the driver; it is not started on demand until it is started by hand."""

    code = ErrorCode.OPERATION_FAILED
    expected = True

    def __init__(self, name: str) -> None:
        super().__init__(f"driver '{name}' was stopped by an operator", str3=name)

    @property
    def name(self) -> str | None:
        """The driver."""
        return self.str3


class Fenced(VirtError):
    """The peer belongs to an older epoch: a newer incarnation took its name, so it has to end."""

    code = ErrorCode.INTERNAL_ERROR


class NotRegistered(VirtError):
    """The peer is not, or no longer, registered with the broker under the name it uses."""

    code = ErrorCode.INTERNAL_ERROR


class InvalidMessage(VirtError):
    """A message between two of our processes breaks their protocol."""

    code = ErrorCode.RPC
    domain = ErrorDomain.RPC
