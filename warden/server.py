"""The warden at work: supervisord's notices, the broker's calls, deaths and time, joined to the charges' decisions."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

from broker.peer import IncomingCall, Peer
from schema.body import pack_args, unpack_result
from schema.errors import VirtError
from schema.table import need_procedure
from settings.config import Config
from settings.paths import Paths
from settings.process import lock_holder
from settings.tree import PLATFORM
from util.structured_log import StructuredLog
from warden.broker_watch import BrokerWatch, kill
from warden.budget import Budget
from warden.charge import Charge
from warden.deaths import Deaths
from warden.deeds import Kill, Look, Phase, Start, Stop, Tell
from warden.idleness import Idleness, has_guests
from warden.listener import DONE, READY, Listener, Notice
from warden.memo import Remembered, present_tree, read_memo, write_memo
from warden.procedures import PROCEDURES, Procedures, wall_time
from warden.slots import Held
from warden.supervisor import Place, Supervisor, SupervisorRefused
from warden.usage import excess, open_files_limit, rss_kib

ROUND_S: Final = 1.0
ROUND_UNREADY_S: Final = 0.2
ASK_S: Final = 2.0
RETRY_S: Final = 0.2
DEAD_REMEMBERED: Final = 64


class Warden:
    """Starts, watches and ends the actors of one agent."""

    def __init__(self, paths: Paths, config: Config, log: StructuredLog, listener_in: int, listener_out: int) -> None:
        self.paths = paths
        self.config = config
        self.log = log
        self.charges: dict[str, Charge] = {}
        self._in, self._out = listener_in, listener_out
        self._listener = Listener()
        self._supervisor = Supervisor(paths.supervisor_socket)
        self._deaths = Deaths(self._died)
        self._procedures = Procedures(self.charges, self._row, time.monotonic)
        self._memo = paths.role_run("warden") / "memo.json"
        self._tree = present_tree()
        self._peer: Peer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: deque[int] = deque(maxlen=DEAD_REMEMBERED)
        self._broker = BrokerWatch(config.broker.hang_after_s)
        self._idleness: dict[str, Idleness] = {}
        self._looking: set[str] = set()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_closing = False
        self._fault: BaseException | None = None

    async def run(self) -> None:
        """Serves until supervisord ends, or `close` is called. Raises what made it impossible to go on."""
        asyncio.get_running_loop().add_reader(self._in, self._notices_arrive)
        is_new_tree = await self._reconcile()
        os.write(self._out, READY)
        if is_new_tree:
            self._autostart()
        self._spawn(self._connect())
        self._spawn(self._keep_time())
        await self._stop.wait()
        await self._close()
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Ends `run`; actors are left as they are."""
        self._is_closing = True
        self._stop.set()

    # -- the beginning and the end

    async def _reconcile(self) -> bool:
        """Finds what supervisord runs, and what the warden before knew of it; whether the tree is a new one."""
        remembered = read_memo(self._memo, self._tree)
        places = await self._places()
        now = time.monotonic()
        for name in sorted({place.group for place in places} - set(PLATFORM)):
            before = (remembered or {}).get(name, Remembered())
            warden = self.config.warden
            budget = Budget(
                warden.crashes_per_period,
                warden.crash_period_s,
                warden.backoff_first_s,
                warden.backoff_max_s,
                random.random,
                before.times,
            )
            charge = self.charges[name] = Charge(
                name, budget, warden.start_timeout_s, self.config.actor(name).spare, crashes=before.crashes
            )
            found = {int(place.process): (place.held, place.pid) for place in places if place.group == name}
            serving = lock_holder(self.paths.lock(name))
            charge.adopt(now, found, before.phase, before.slot, before.why, serving)
            for pid in charge.pids:
                self._deaths.watch(pid)
            self._act(charge)
        self.log.info("warden serves", actors=",".join(self.charges), new_tree=remembered is None)
        return remembered is None

    async def _places(self) -> list[Place]:
        while True:
            try:
                return await self._supervisor.places()
            except SupervisorRefused as exc:
                self.log.warning("supervisord cannot be asked yet", why=str(exc))
                await asyncio.sleep(RETRY_S)

    def _autostart(self) -> None:
        """Starts what is configured so, and what has guests to look after or to start."""
        for charge in self.charges.values():
            if self.config.actor(charge.name).autostart or has_state(self.paths, charge.name):
                charge.ensure(time.monotonic())
                self._act(charge)

    async def _connect(self) -> None:
        while True:
            try:
                peer = await Peer.connect_role(self.paths, "warden", self)
                break
            except VirtError as exc:
                self.log.warning("no broker", why=exc.message)
                await asyncio.sleep(RETRY_S)
        self._peer = peer
        peer.ready(PROCEDURES, "1")

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._deaths.close()
        self._supervisor.close()
        asyncio.get_running_loop().remove_reader(self._in)
        if self._peer is not None:
            self._peer.bye()
            await self._peer.aclose()

    # -- supervisord's notices

    def _notices_arrive(self) -> None:
        data = os.read(self._in, 65536)
        if not data:
            self.log.error("supervisord is gone")
            self.close()
            return
        for notice in self._listener.receive(data):
            self._note(notice)
            os.write(self._out, DONE + READY)

    def _note(self, notice: Notice) -> None:
        if notice.kind == "SUPERVISOR_STATE_CHANGE_STOPPING":
            self._is_closing = True
            return
        group, process = notice.process
        charge = self.charges.get(group)
        if charge is None or not notice.kind.startswith("PROCESS_STATE_") or self._is_closing:
            return
        now, slot, pid = time.monotonic(), int(process), notice.pid
        held = Held(notice.kind.removeprefix("PROCESS_STATE_"))
        if held is Held.RUNNING:
            if pid not in self._dead and pid not in charge.pids:
                self._runs(charge, slot, pid)
        elif held is Held.STOPPING:
            charge.stopping(now, slot, pid)
        elif held is not Held.STARTING:
            charge.freed(slot, held)
        self._act(charge)

    def _runs(self, charge: Charge, slot: int, pid: int) -> None:
        charge.spawned(time.monotonic(), slot, pid)
        if pid in charge.pids:
            self._deaths.watch(pid)

    def _died(self, pid: int) -> None:
        self._dead.append(pid)
        charge = next((charge for charge in self.charges.values() if pid in charge.pids), None)
        if charge is None or self._is_closing:
            return
        slot = charge.slot if pid == charge.pid else charge.spare_slot
        if slot is not None:
            self._spawn(self._bury(charge, slot, pid))

    async def _bury(self, charge: Charge, slot: int, pid: int) -> None:
        try:
            place = await self._supervisor.reaped(charge.name, slot, pid)
            held, how = place.held, ending(place)
        except SupervisorRefused as exc:
            held, how = Held.UNKNOWN, str(exc)
        if self._is_closing:
            return
        charge.died(time.monotonic(), pid, held, how)
        self._act(charge)

    # -- deeds

    def _act(self, charge: Charge) -> None:
        """Carries out what a charge decided."""
        deeds = charge.deeds()
        for deed in deeds:
            if isinstance(deed, Start):
                self._spawn(self._start(charge, deed.slot))
            elif isinstance(deed, Stop):
                self._spawn(self._end(charge, deed.slot))
            elif isinstance(deed, Look):
                self._spawn(self._look(charge))
            elif isinstance(deed, Kill):
                self.log.warning("actor is killed", actor=charge.name, pid=deed.pid, epoch=charge.epoch, why=charge.why)
                self._deaths.kill(deed.pid)
            else:
                self.log.info("actor", name=charge.name, state=deed.state, why=deed.why or None, pid=charge.pid or None)
                self._tell(charge.name, deed)
        if deeds:
            self._changed.set()
            self._leave_memo()

    async def _start(self, charge: Charge, slot: int) -> None:
        try:
            pid = await self._supervisor.start(charge.name, slot)
        except SupervisorRefused as exc:
            charge.not_spawned(time.monotonic(), slot, str(exc))
        else:
            if pid not in self._dead:
                self._runs(charge, slot, pid)
        self._act(charge)

    async def _look(self, charge: Charge) -> None:
        if charge.name in self._looking:
            return
        self._looking.add(charge.name)
        try:
            places = await self._supervisor.places()
        except SupervisorRefused as exc:
            self.log.warning("supervisord cannot be asked", actor=charge.name, why=str(exc))
        else:
            for place in places:
                if place.group == charge.name:
                    charge.freed(int(place.process), place.held)
        finally:
            self._looking.discard(charge.name)

    async def _end(self, charge: Charge, slot: int) -> None:
        try:
            await self._supervisor.stop(charge.name, slot)
        except SupervisorRefused as exc:
            self.log.warning("supervisord did not stop the actor", actor=charge.name, why=str(exc))

    def _tell(self, name: str, tell: Tell) -> None:
        peer = self._peer
        if peer is None or self._is_closing:
            return
        retry_at = wall_time(tell.retry_at, time.monotonic())
        arguments = {"name": name, "state": tell.state, "why": tell.why, "retry_at": retry_at}
        procedure = need_procedure("broker_actor_state")
        self._spawn(self._say(peer, procedure.name, pack_args(procedure, arguments)))

    async def _say(self, peer: Peer, procedure: str, body: bytes) -> None:
        try:
            await peer.call("broker", procedure, body, deadline_s=ASK_S, urgent=True)
        except VirtError as exc:
            # after a reconnect everything is told anew
            self.log.warning("the broker was not told", procedure=procedure, why=exc.message)

    def _leave_memo(self) -> None:
        try:
            write_memo(self._memo, self._tree, self.charges.values())
        except OSError as exc:
            self.log.error("what the next warden has to know cannot be written", path=self._memo, why=str(exc))

    # -- the broker

    def on_call(self, call: IncomingCall) -> None:
        peer = self._peer
        if peer is None:
            return  # not registered yet: the broker sends no calls before
        try:
            body, charge = self._procedures.answer(call.prologue.procedure, call.body)
        except VirtError as exc:
            peer.fail(call, exc, seq=0)
            return
        peer.reply(call, body, seq=0)
        if charge is not None:
            self._act(charge)

    def on_cancel(self, source: bytes, correlation: int) -> None:
        """Every call is answered at once."""

    def on_registered(self, last: tuple[int, int]) -> None:
        """A broker that begins knows nothing of the actors."""
        for charge in self.charges.values():
            self._tell(charge.name, Tell(charge.state, charge.why, charge.retry_at))

    def on_event_ack(self, seq: int, resend: bool) -> None:
        """The warden has no events."""

    def on_broker_lost(self) -> None:
        """The peer comes back by itself."""

    def on_fenced(self, why: str) -> None:
        self.log.error("fenced", why=why)
        self.close()

    # -- time

    async def _keep_time(self) -> None:
        next_round = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_round:
                await self._look_around()
                now = time.monotonic()
                next_round = now + (ROUND_UNREADY_S if self._is_anything_unready() else ROUND_S)
            for charge in self.charges.values():
                charge.tick(now)
                self._act(charge)
            due = [at for charge in self.charges.values() if (at := charge.due_at()) is not None]
            wait_s = min([next_round, *due]) - time.monotonic()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.001, wait_s))
            except TimeoutError:
                pass

    def _is_anything_unready(self) -> bool:
        return any(charge.phase is Phase.UP and not charge.is_ready for charge in self.charges.values())

    async def _look_around(self) -> None:
        for charge in self.charges.values():
            if charge.has_process:
                limit = self.config.actor(charge.name).memory_mib
                why = excess(rss_kib(charge.pid), limit)
                if why is not None:
                    charge.outgrew(time.monotonic(), why)
                    self._act(charge)
        status = await self._ask("broker", "broker_status", "status")
        self._watch_broker(status is not None)
        if status is None:
            return
        now = time.monotonic()
        for charge in self.charges.values():
            entry = status["actors"].get(charge.name)
            if entry is not None:
                charge.seen(now, entry["pid"] or 0, entry["epoch"], entry["state"] == "ready")
                self._act(charge)
                self._look_whether_idle(charge, entry, now)

    def _watch_broker(self, answered: bool) -> None:
        pid, now = lock_holder(self.paths.lock("broker")), time.monotonic()
        if answered:
            self._broker.answered(pid, now)
        elif self._broker.silent(pid, now) and not self._is_closing:
            self.log.error("broker hangs and is killed", pid=pid)
            kill(pid)

    def _look_whether_idle(self, charge: Charge, entry: dict[str, Any], now: float) -> None:
        settings = self.config.actor(charge.name)
        limit_s = settings.idle_stop_s if settings.idle_stop_s >= 0 else self.config.warden.idle_stop_s
        if limit_s <= 0 or settings.autostart or not charge.is_ready:
            return
        idleness = self._idleness.setdefault(charge.name, Idleness())
        if idleness.look(now, entry) > limit_s:
            idleness.excuse(now)
            self._spawn(self._stop_if_idle(charge))

    async def _stop_if_idle(self, charge: Charge) -> None:
        objects = await self._ask(charge.name, "actor_snapshot", "objects")
        if objects is not None and not has_guests(objects):
            self.log.info("actor is idle", actor=charge.name)
            charge.idle(time.monotonic())
            self._act(charge)

    async def _ask(self, destination: str, name: str, field: str) -> Any:
        """One field of an answer; None when there is none now."""
        peer = self._peer
        if peer is None:
            return None
        procedure = need_procedure(name)
        try:
            reply = await peer.call(destination, name, pack_args(procedure, {}), deadline_s=ASK_S)
        except VirtError as exc:
            self.log.debug("no answer", destination=destination, procedure=name, why=exc.message)
            return None
        return getattr(unpack_result(procedure, reply.body), field)

    # -- what is told

    def _row(self, charge: Charge) -> dict[str, Any]:
        now, limits = time.monotonic(), self.config.actor(charge.name)
        return {
            "name": charge.name,
            "state": charge.state,
            "why": charge.why,
            "pid": charge.pid or None,
            "slot": charge.slot,
            "spare_pid": charge.spare_pid or None,
            "epoch": charge.epoch or None,
            "up_s": now - charge.started_at if charge.has_process else None,
            "crashes": charge.crashes,
            "crashes_now": charge.budget.count,
            "retry_at": wall_time(charge.retry_at, now),
            "rss_kib": rss_kib(charge.pid) if charge.has_process else 0,
            "memory_mib": limits.memory_mib,
            "open_files": open_files_limit(charge.pid, limits.open_files),
            "autostart": limits.autostart,
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and self._fault is None:
            self._fault = fault
            self._stop.set()


def ending(place: Place) -> str:
    """How a process ended, in words."""
    if place.exit_status < 0:
        return "killed by a signal"
    return f"ended with exit status {place.exit_status}"


def has_state(paths: Paths, name: str) -> bool:
    """Whether an actor left anything on disk that it may have to look after: guests that run, guests to be started."""
    try:
        with os.scandir(paths.role_state(name)) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
