"""What the warden does about one actor: a state machine without processes, clocks or sockets.

Each method says what happened and when; the deeds that follow from it are collected and fetched with `deeds()`. The
actor's *process* is what supervisord runs in one of its slots; its death is told exactly once. Once it is ready, a
*spare* is started in the other slot: the same program, which has imported everything and waits for the role's lock. The
kernel gives it the lock the moment the process ends, so the warden only has to understand that it took over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schema.errors import DriverDegraded, DriverStopped
from warden.budget import Budget
from warden.deeds import PATIENCE, PUBLIC, After, Deed, Kill, Look, Phase, Start, Stop, Tell
from warden.slots import Held, Slots

SLOT_WAIT_S: Final = 0.25
_NO_SLOT: Final = "both slots are held by processes that did not end"
SPARE_PAUSE_S: Final = 5.0
"""After a spare ended by itself: a program that cannot even wait is not started over and over."""


@dataclass(slots=True)
class Charge:
    """One actor."""

    name: str
    budget: Budget
    start_timeout_s: float
    has_spares: bool = True
    slots: Slots = field(default_factory=Slots)
    phase: Phase = Phase.STOPPED
    why: str = ""
    slot: int | None = None
    pid: int = 0
    epoch: int = 0
    is_ready: bool = False
    was_ready: bool = False
    started_at: float = 0.0
    unready_since: float = 0.0
    retry_at: float | None = None
    crashes: int = 0
    spare_slot: int | None = None
    spare_pid: int = 0
    _spare_after: float = 0.0
    _early: tuple[int, int] = (0, 0)
    _unwanted: set[int] = field(default_factory=set)
    _after: After = After.START
    _since: float = 0.0
    _killed_for: str = ""
    _hung_epoch: int = 0
    _deeds: list[Deed] = field(default_factory=list)

    @property
    def state(self) -> str:
        """As the broker's registry calls it."""
        if self.phase is Phase.UP and self.is_ready:
            return "ready"
        if self.phase is Phase.STOPPING:
            return {After.DISABLE: "disabled", After.STOP: "stopped"}.get(self._after, "restarting")
        return PUBLIC[self.phase]

    @property
    def is_wanted(self) -> bool:
        """Whether it is to run, now or soon."""
        if self.phase is Phase.STOPPING:
            return self._after in (After.START, After.CRASH)
        return self.phase in (Phase.SPAWNING, Phase.UP, Phase.KILLED, Phase.WAITING)

    @property
    def has_process(self) -> bool:
        """Whether there is one that can be watched."""
        return self.pid != 0

    @property
    def pids(self) -> list[int]:
        """Its process and its spare, as far as they are there."""
        return [pid for pid in (self.pid, self.spare_pid) if pid]

    def deeds(self) -> list[Deed]:
        """What has to be done now, in order; asked once."""
        deeds, self._deeds = self._deeds, []
        return deeds

    # -- what others want

    def ensure(self, now: float) -> None:
        """A call needs it. Raises DriverStopped, DriverDegraded."""
        if self.phase is Phase.DISABLED or (self.phase is Phase.STOPPING and self._after is After.DISABLE):
            raise DriverStopped(self.name)
        if self.phase is Phase.DEGRADED:
            raise DriverDegraded(self.name, self.why)
        if self.phase is Phase.STOPPED:
            self._spawn(now)
        elif self.phase is Phase.STOPPING and self._after is After.STOP:
            self._after = After.START
            self._tell()

    def start(self, now: float) -> None:
        """An operator wants it to run; whatever kept it from that is forgotten."""
        if self.phase in (Phase.STOPPED, Phase.DISABLED, Phase.DEGRADED, Phase.WAITING):
            self.budget.reset()
            self.why = ""
            self._spawn(now)
        elif self.phase is Phase.STOPPING:
            self._after = After.START
            self._tell()

    def stop(self, now: float) -> None:
        """An operator wants it not to run until it is started by hand."""
        self._end(now, After.DISABLE, "stopped by an operator")

    def restart(self, now: float) -> None:
        """An operator wants a new process."""
        if self.phase is Phase.UP:
            self._end(now, After.START, "restarted by an operator")
        else:
            self.start(now)

    def reset(self, now: float) -> None:
        """An operator forgives its crashes: a degraded actor is tried again."""
        self.budget.reset()
        if self.phase in (Phase.DEGRADED, Phase.WAITING):
            self.why = ""
            self._spawn(now)

    def idle(self, now: float) -> None:
        """Nobody needs it at the moment."""
        if self.phase is Phase.UP:
            self._end(now, After.STOP, "")

    def outgrew(self, now: float, why: str) -> None:
        """It holds more memory than it may."""
        if self.phase is Phase.UP:
            self._end(now, After.CRASH, why)

    # -- what the broker sees

    def hung(self, now: float, epoch: int, why: str) -> None:
        """The incarnation `epoch` does not answer any more: it has to be replaced, unless it is already."""
        if self.phase is Phase.UP and epoch >= self.epoch:
            if self.epoch == epoch:
                self._kill(now, why)
            else:
                self._hung_epoch, self.why = epoch, why  # `gone` will say which process that is

    def gone(self, now: float, pid: int, epoch: int) -> None:
        """The connection of an incarnation ended; its process may still be there."""
        if self.phase is Phase.UP and pid == self.pid:
            self.is_ready = False
            self.unready_since = now
            if epoch == self._hung_epoch:
                self._kill(now, self.why)

    def ready(self, now: float, pid: int, epoch: int) -> None:
        """A process serves. The kernel may have made it the successor before we know of the end of the one before."""
        if self.phase is Phase.UP and pid == self.pid:
            self.seen(now, pid, epoch, True)
        else:
            self._early = pid, epoch

    def seen(self, now: float, pid: int, epoch: int, is_ready: bool) -> None:
        """The broker's registry says so about the process that is connected now; `pid` is 0 when none is."""
        if self.phase is not Phase.UP:
            return
        if pid != self.pid:
            is_ready = False
        elif epoch == self._hung_epoch:
            self._kill(now, self.why)
            return
        else:
            self.epoch = epoch
        if is_ready and not self.is_ready:
            self.why = ""
        elif self.is_ready and not is_ready:
            self.unready_since = now
        self.is_ready = is_ready
        self.was_ready |= is_ready
        self._want_spare(now)

    # -- what supervisord does

    def spawned(self, now: float, slot: int, pid: int) -> None:
        """The process runs, asked for by us or by `supervisorctl start`."""
        if slot in self._unwanted:
            return  # a spare that has the order to end already
        self.slots.note(slot, Held.RUNNING)
        if slot == self.spare_slot:
            self.spare_pid = pid
            return
        if self.phase in (Phase.SPAWNING, Phase.UP, Phase.KILLED) and slot != self.slot:
            self.spare_slot, self.spare_pid = slot, pid  # somebody started a second one: it waits for the lock
            return
        if self.phase is Phase.STOPPING and slot == self.slot and self.pid == 0:
            self.pid, self.started_at = pid, now  # unwanted since: supervisord has the order to stop it already
            return
        if self.phase in (Phase.UP, Phase.STOPPING, Phase.KILLED):
            return
        if self.phase is not Phase.SPAWNING:
            self.why = ""
            self.budget.reset()
            self.slots.take(slot)
            self.slots.note(slot, Held.RUNNING)
        self.phase, self.slot, self.pid = Phase.UP, slot, pid
        self.epoch, self.is_ready, self.was_ready, self._hung_epoch = 0, False, False, 0
        self.started_at = self.unready_since = now
        self.retry_at = None
        self._tell()
        if self._early[0] == pid:
            self.seen(now, pid, self._early[1], True)

    def not_spawned(self, now: float, slot: int, why: str) -> None:
        """supervisord could not start it."""
        phase = self.phase
        self._unwanted.discard(slot)
        if slot == self.spare_slot:
            self._spare_ended(now, Held.STOPPED)
        elif slot == self.slot and (phase is Phase.SPAWNING or (phase is Phase.STOPPING and self.pid == 0)):
            self.slots.note(slot, Held.STOPPED)
            self.slot = None
            if phase is Phase.SPAWNING:
                self.was_ready = False
                self._crash(now, f"could not be started: {why}")
            else:
                self._ended(now)

    def stopping(self, now: float, slot: int, pid: int) -> None:
        """supervisord ends it; when it was not us who asked, an operator did."""
        self.slots.note(slot, Held.STOPPING)
        if self.phase is Phase.UP and pid == self.pid:
            self.phase, self._after, self._since = Phase.STOPPING, After.DISABLE, now
            self.why = "stopped by an operator"
            self._drop_spare()
            self._tell()
        elif pid == self.spare_pid:
            self._spare_after = now + SPARE_PAUSE_S

    def died(self, now: float, pid: int, held: Held, how: str) -> None:
        """The process is dead; `held` is what supervisord says of its slot, `how` what is known of the end."""
        if pid == self.spare_pid and pid != 0:
            self._spare_ended(now, held)
        if pid != self.pid or pid == 0:
            return
        if self.slot is not None:
            self.slots.note(self.slot, held)
        phase, self.pid, self.slot, self.is_ready = self.phase, 0, None, False
        if phase is Phase.UP and held is Held.STOPPED:
            self.phase, self.why = Phase.DISABLED, "stopped by an operator"
            self._drop_spare()
            self._tell()
        elif phase is Phase.STOPPING:
            self._ended(now)
        elif phase is Phase.KILLED:
            self._crash(now, self._killed_for)
        else:
            self._crash(now, how)

    def freed(self, slot: int, held: Held) -> None:
        """supervisord's word about a slot in which neither the actor's present process is nor its spare."""
        if slot not in (self.slot, self.spare_slot):
            self._unwanted.discard(slot)
            self.slots.note(slot, held)

    @property
    def memory(self) -> Phase:
        """What the next warden has to know of the phase."""
        if self.phase is not Phase.STOPPING:
            return self.phase
        return {After.DISABLE: Phase.DISABLED, After.STOP: Phase.STOPPED}.get(self._after, Phase.WAITING)

    def adopt(
        self,
        now: float,
        found: dict[int, tuple[Held, int]],
        remembered: Phase,
        slot: int | None,
        why: str,
        serving: int = 0,
    ) -> None:
        """A warden begins: what supervisord has in the slots, and what the one before remembered of this actor.

        `serving` is the process that holds the lock of the role: where both slots run, the other one is the spare.
        """
        running = [slot for slot, (held, pid) in found.items() if held in (Held.RUNNING, Held.STARTING) and pid]
        for place, (held, _) in found.items():
            self.slots.note(place, held)
        self.why = why
        if running:
            present = next((place for place in running if found[place][1] == serving), running[0])
            self.phase, self.slot = Phase.SPAWNING, present
            self.slots.take(present)
            self.spawned(now, present, found[present][1])
            for other in running:
                if other != present:
                    self.spawned(now, other, found[other][1])
        elif remembered in (Phase.STOPPED, Phase.DISABLED, Phase.DEGRADED):
            self.phase = remembered
            self._tell()
        elif remembered is Phase.UP and slot in found and found[slot][0] in (Held.STOPPED, Held.STOPPING):
            self.phase, self.why = Phase.DISABLED, "stopped by an operator"
            self._tell()
        elif remembered is Phase.UP:
            self.was_ready = True
            self._crash(now, "ended while there was no warden")
        else:
            self._spawn(now)

    # -- time

    def tick(self, now: float) -> None:
        """Looks at what is due."""
        if self.phase is Phase.WAITING and self.retry_at is not None and now >= self.retry_at:
            self._spawn(now)
        elif self.phase is Phase.UP and not self.is_ready and now - self.unready_since > self.start_timeout_s:
            self._kill(now, f"did not get ready in {self.start_timeout_s:g} s")
        elif self.phase in PATIENCE and now - self._since > PATIENCE[self.phase]:
            self._abandon(now)

    def due_at(self) -> float | None:
        """When `tick` has something to do next, if nothing happens before."""
        if self.phase is Phase.WAITING:
            return self.retry_at
        if self.phase is Phase.UP and not self.is_ready:
            return self.unready_since + self.start_timeout_s
        return self._since + PATIENCE[self.phase] if self.phase in PATIENCE else None

    # -- inside

    def _spawn(self, now: float) -> None:
        slot = self.slots.find_free()
        if slot is None:
            # a killed process that was not reaped yet, two that cannot die, or an end that supervisord told too late
            is_news = self.why != _NO_SLOT
            self.phase, self.retry_at, self.why = Phase.WAITING, now + SLOT_WAIT_S, _NO_SLOT
            self._deeds.append(Look())
            if is_news:
                self._tell()
            return
        self.slots.take(slot)
        self.phase, self.slot, self.retry_at = Phase.SPAWNING, slot, None
        self._deeds.append(Start(slot))
        self._tell()

    def _end(self, now: float, after: After, why: str) -> None:
        self.why = why
        if after is not After.CRASH:
            self._drop_spare()  # first, or it would take over; and a restart is to run the program as it is now
        if self.phase is Phase.UP and self.slot is not None:
            self.phase, self._after, self._since = Phase.STOPPING, after, now
            self._deeds.append(Stop(self.slot))
        elif self.phase is Phase.STOPPING:
            self._after = after
        elif self.phase is Phase.SPAWNING and self.slot is not None:
            # its process comes in a moment: `spawned` finds it unwanted, and supervisord has both orders in a row
            self.phase, self._after, self._since = Phase.STOPPING, after, now
            self._deeds.append(Stop(self.slot))
        elif self.phase is Phase.KILLED:
            self.phase, self._after = Phase.STOPPING, after
        else:
            self.phase = Phase.DISABLED if after is After.DISABLE else Phase.STOPPED
        self._tell()

    def _ended(self, now: float) -> None:
        if self._after is After.DISABLE:
            self.phase = Phase.DISABLED
            self._tell()
        elif self._after is After.STOP:
            self.phase = Phase.STOPPED
            self._tell()
        elif self._after is After.CRASH:
            self._crash(now, self.why)
        else:
            self._succeed(now)

    def _succeed(self, now: float) -> None:
        """The successor of a process that ended: its spare, where there is one."""
        slot, pid = self.spare_slot, self.spare_pid
        self.spare_slot, self.spare_pid = None, 0
        if slot is None:
            self._spawn(now)
            return
        self.slots.take(slot)
        self.slot, self.retry_at, self.phase = slot, None, Phase.SPAWNING
        if pid:
            self.spawned(now, slot, pid)

    def _want_spare(self, now: float) -> None:
        if not (self.has_spares and self.phase is Phase.UP and self.is_ready) or now < self._spare_after:
            return
        slot = self.slots.find_free() if self.spare_slot is None else None
        if slot is not None:
            self.spare_slot, self.spare_pid = slot, 0
            self.slots.note(slot, Held.STARTING)
            self._deeds.append(Start(slot))

    def _drop_spare(self) -> None:
        if self.spare_slot is not None:
            self.slots.note(self.spare_slot, Held.STOPPING)
            self._deeds.append(Stop(self.spare_slot))
            self._unwanted.add(self.spare_slot)
            self.spare_slot, self.spare_pid = None, 0

    def _spare_ended(self, now: float, held: Held) -> None:
        if self.spare_slot is not None:
            self.slots.note(self.spare_slot, held)
        self.spare_slot, self.spare_pid = None, 0
        self._spare_after = now + SPARE_PAUSE_S

    def _kill(self, now: float, why: str) -> None:
        self.phase, self._since, self._killed_for, self.why = Phase.KILLED, now, why, why
        self.is_ready = False
        self._deeds.append(Kill(self.pid))
        self._tell()

    def _abandon(self, now: float) -> None:
        """The process does not die: it keeps its slot, and the actor goes on without it."""
        phase = self.phase
        self.pid, self.slot, self.is_ready = 0, None, False
        if phase is Phase.STOPPING:
            self._ended(now)
        else:
            self._crash(now, self._killed_for)

    def _crash(self, now: float, why: str) -> None:
        self.crashes += 1
        wait_s = self.budget.crash(now, was_ready=self.was_ready)
        if wait_s is None:
            self.phase, self.retry_at = Phase.DEGRADED, None
            self.why = f"{self.budget.count} crashes, the last: {why}"
            self._drop_spare()
            self._tell()
        elif wait_s <= 0 or self.spare_slot is not None:
            self.why = why
            self._succeed(now)
        else:
            self.phase, self.retry_at, self.why = Phase.WAITING, now + wait_s, why
            self._tell()

    def _tell(self) -> None:
        self._deeds.append(Tell(self.state, self.why, self.retry_at))
