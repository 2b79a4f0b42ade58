"""What a connection and its guests answer, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from schema.enums.domain_state import (
    DomainBlockedReason,
    DomainCrashedReason,
    DomainNostateReason,
    DomainPausedReason,
    DomainPMSuspendedReason,
    DomainRunningReason,
    DomainShutdownReason,
    DomainShutoffReason,
    DomainState,
)

Reason = (
    DomainBlockedReason
    | DomainCrashedReason
    | DomainNostateReason
    | DomainPausedReason
    | DomainPMSuspendedReason
    | DomainRunningReason
    | DomainShutdownReason
    | DomainShutoffReason
)

REASONS: dict[DomainState, type[Reason]] = {
    DomainState.NOSTATE: DomainNostateReason,
    DomainState.RUNNING: DomainRunningReason,
    DomainState.BLOCKED: DomainBlockedReason,
    DomainState.PAUSED: DomainPausedReason,
    DomainState.SHUTDOWN: DomainShutdownReason,
    DomainState.SHUTOFF: DomainShutoffReason,
    DomainState.CRASHED: DomainCrashedReason,
    DomainState.PMSUSPENDED: DomainPMSuspendedReason,
}
"""Which enum the reason of a state is from."""


class Version(NamedTuple):
    """A version number in its three parts."""

    major: int
    minor: int
    release: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.release}"

    @classmethod
    def from_number(cls, number: int) -> Version:
        """From libvirt's form, 9000000 for 9.0.0."""
        return cls(number // 1_000_000, number // 1000 % 1000, number % 1000)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """The host's processors and memory."""

    model: str
    memory_kib: int
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """State and consumption of a guest."""

    state: DomainState
    max_memory_kib: int
    memory_kib: int
    vcpus: int
    cpu_time_ns: int


@dataclass(frozen=True, slots=True)
class DomainStateInfo:
    """The state of a guest and why.

    While the guest's driver is down for good, `unknown` is true and `age_s` says how old the knowledge is that the
    answer was made of.
    """

    state: DomainState
    reason: Reason | int
    unknown: bool = False
    age_s: float | None = None


def state_from_numbers(
    state: int, reason: int, *, unknown: bool = False, age_s: float | None = None
) -> DomainStateInfo:
    """State and reason as enums; a number from a newer peer stays a number (the state becomes NOSTATE)."""
    try:
        known = DomainState(state)
    except ValueError:
        return DomainStateInfo(DomainState.NOSTATE, reason, unknown, age_s)
    try:
        return DomainStateInfo(known, REASONS[known](reason), unknown, age_s)
    except ValueError:
        return DomainStateInfo(known, reason, unknown, age_s)
