"""Which actors there are, in which state, and which incarnation of each may speak.

Pure: no socket, no clock, no file. An actor's *epoch* counts its incarnations; only the newest may speak, and what an
older one still sends is recognised by its routing id and dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from schema.errors import Fenced, InvalidMessage

BEATLESS_AFTER_STALL_S: Final = 1.0  # a broker that itself stood still for longer accuses nobody of it
PLATFORM: Final = ("warden", "gateway")  # roles that supervisord keeps alive, not the warden


class State(StrEnum):
    """What an actor is doing, as callers and `status` see it."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DEGRADED = "degraded"
    DISABLED = "disabled"


class Incarnation(NamedTuple):
    """What must survive the broker: the newest epoch of an actor, and the process that it was granted to."""

    epoch: int
    pid: int


class Hang(NamedTuple):
    """An actor that has to be replaced, and why."""

    actor: Actor
    why: str


@dataclass(slots=True, eq=False)
class Actor:
    """One actor: what the broker knows of it."""

    name: str
    epoch: int = 0
    pid: int = 0
    routing_id: bytes | None = None  # of the incarnation whose lifeline is open
    is_ready: bool = False
    said_bye: bool = False
    told: State = State.STOPPED  # the warden's word, which counts while no incarnation is connected
    why: str = ""
    retry_at: float | None = None
    procedures: frozenset[str] = frozenset()
    version: str = ""
    since: float = 0.0
    beat_at: float = 0.0
    progress_s: float = 0.0
    seq: int = 0
    depth: int = 0
    rss_kib: int = 0
    starts: int = 0
    deaths: int = 0
    hangs: int = 0

    @property
    def state(self) -> State:
        """What callers see. A verdict of the warden outweighs a process that still runs."""
        if self.told in (State.DISABLED, State.DEGRADED):
            return self.told
        if self.routing_id is None:
            return State.RESTARTING if self.told is State.READY else self.told
        return State.READY if self.is_ready else State.STARTING

    @property
    def serves(self) -> bool:
        """Whether a call may be sent to it now."""
        return self.is_ready and self.routing_id is not None and self.told not in (State.DISABLED, State.DEGRADED)


class Registry:
    """All actors by name."""

    def __init__(self, names: Iterable[str], epochs: Mapping[str, Incarnation]) -> None:
        self._actors: dict[str, Actor] = {}
        for name in names:
            known = epochs.get(name, Incarnation(0, 0))
            self._actors[name] = Actor(name, epoch=known.epoch, pid=known.pid)

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._actors.values())

    def find(self, name: str) -> Actor | None:
        """The actor of that name, if it can exist here."""
        return self._actors.get(name)

    def add(self, name: str) -> Actor:
        """An actor that became possible after the start."""
        return self._actors.setdefault(name, Actor(name))

    def grant(self, actor: Actor, incarnation: Incarnation, nonce: str, now: float) -> bytes:
        """Begins an incarnation; the one before is superseded. The routing id of the new one."""
        actor.epoch, actor.pid = incarnation
        actor.starts += 1
        return self._connected(actor, f"{actor.name}#{actor.epoch}.{nonce}".encode(), now)

    def check_resume(self, actor: Actor, routing_id: bytes, epoch: int, pid: int) -> None:
        """Raises Fenced unless this process is the newest incarnation, InvalidMessage when the id is not one of its."""
        if epoch != actor.epoch or pid != actor.pid:
            raise Fenced(f"epoch {epoch} of '{actor.name}' (process {pid}) is over, the newest is {actor.epoch}")
        prefix = f"{actor.name}#{epoch}.".encode()
        nonce = routing_id[len(prefix) :]
        if not routing_id.startswith(prefix) or len(nonce) != 32 or not nonce.isalnum():
            raise InvalidMessage(f"the routing id that '{actor.name}' resumes is not one of epoch {epoch}")
        if actor.routing_id is not None and actor.routing_id != routing_id:
            raise Fenced(f"epoch {epoch} of '{actor.name}' is connected under another routing id")

    def resume(self, actor: Actor, routing_id: bytes, now: float) -> None:
        """Continues an incarnation that `check_resume` found to be the newest."""
        self._connected(actor, routing_id, now)

    def burn(self, actor: Actor) -> None:
        """Nobody may resume the epoch of an incarnation that was fenced; the next one begins after it."""
        actor.epoch += 1
        actor.pid = 0

    def register(self, actor: Actor, procedures: Iterable[str], version: str, is_ready: bool) -> None:
        """The incarnation says what it serves, and whether it is ready."""
        actor.procedures = frozenset(procedures)
        actor.version = version
        actor.is_ready = is_ready
        if is_ready:
            actor.why = "" if actor.told not in (State.DEGRADED, State.DISABLED) else actor.why
            if actor.told not in (State.DEGRADED, State.DISABLED):
                actor.told = State.READY
                actor.retry_at = None

    def gone(self, actor: Actor, why: str) -> bool:
        """The connected incarnation ended or was fenced; whether it did so in order."""
        orderly = actor.said_bye
        actor.routing_id = None
        actor.is_ready = False
        actor.said_bye = False
        actor.deaths += not orderly
        if actor.told not in (State.DEGRADED, State.DISABLED):
            actor.told = State.STOPPED if orderly else State.RESTARTING
            actor.why = "" if orderly else why
        return orderly

    def tell(self, actor: Actor, state: State, why: str, retry_at: float | None) -> None:
        """The warden's word about an actor's process.

        Of a connected actor only the verdicts count: whether it is ready is between it and the broker.
        """
        if state is State.READY:
            state = State.READY if actor.is_ready else State.STARTING
        actor.told = state
        actor.why = why
        actor.retry_at = retry_at

    def beat(self, actor: Actor, now: float, progress_s: float, seq: int, depth: int, rss_kib: int) -> None:
        """A heartbeat arrived."""
        actor.beat_at = now
        actor.progress_s = progress_s
        actor.seq = seq
        actor.depth = depth
        actor.rss_kib = rss_kib

    def forgive(self, now: float) -> None:
        """The broker itself stood still: every beat counts as fresh."""
        for actor in self:
            actor.beat_at = now
            actor.progress_s = 0.0

    def hanging(self, now: float, hang_after_s: float, start_after_s: float) -> list[Hang]:
        """Connected actors without a beat, or whose loop made no progress, for too long.

        One that still starts may be busy with what it finds for `start_after_s`.
        """
        found = []
        for actor in self:
            if actor.routing_id is None:
                continue
            silent_s = now - actor.beat_at
            if silent_s > hang_after_s:
                found.append(Hang(actor, f"no heartbeat for {silent_s:.1f} s"))
            elif silent_s + actor.progress_s > (hang_after_s if actor.is_ready else start_after_s):
                found.append(Hang(actor, f"no progress of its loop for {silent_s + actor.progress_s:.1f} s"))
        return found

    @staticmethod
    def _connected(actor: Actor, routing_id: bytes, now: float) -> bytes:
        actor.routing_id = routing_id
        actor.is_ready = False
        actor.said_bye = False
        actor.since = actor.beat_at = now
        actor.progress_s = 0.0
        if actor.told not in (State.DEGRADED, State.DISABLED):
            actor.told = State.STARTING
        return routing_id
