"""What can be the matter with an actor's process, and what the warden can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KILL_WAIT_S: Final = 0.3
"""How long a killed process may take to die before its successor is started beside it."""

STOP_WAIT_S: Final = 11.0
"""supervisord kills what it stops after 10 s."""


class Phase(StrEnum):
    """Where an actor's process is."""

    STOPPED = "stopped"
    SPAWNING = "spawning"  # supervisord was asked to start it
    UP = "up"
    STOPPING = "stopping"
    KILLED = "killed"
    WAITING = "waiting"  # until `retry_at`
    DEGRADED = "degraded"
    DISABLED = "disabled"


PUBLIC: Final = {
    Phase.STOPPED: "stopped",
    Phase.SPAWNING: "starting",
    Phase.UP: "starting",
    Phase.STOPPING: "stopped",
    Phase.KILLED: "restarting",
    Phase.WAITING: "restarting",
    Phase.DEGRADED: "degraded",
    Phase.DISABLED: "disabled",
}


PATIENCE: Final = {Phase.KILLED: KILL_WAIT_S, Phase.STOPPING: STOP_WAIT_S}


class After(StrEnum):
    """What follows the end of a process that the warden itself ends."""

    START = "start"
    CRASH = "crash"  # starts too, but the crash counts
    STOP = "stop"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Start:
    """supervisord has to start the actor in a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """supervisord has to end what runs in a slot, in order."""

    slot: int


@dataclass(frozen=True, slots=True)
class Kill:
    """This process has to die now."""

    pid: int


@dataclass(frozen=True, slots=True)
class Look:
    """supervisord has to say what it has in the slots: none is known to be free."""


@dataclass(frozen=True, slots=True)
class Tell:
    """The broker, and the log, have to know."""

    state: str
    why: str
    retry_at: float | None


Deed = Start | Stop | Kill | Look | Tell
