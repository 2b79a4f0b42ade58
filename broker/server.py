"""The broker's loop: it waits for sockets, moves messages, and never for anything else.

A pass takes what each connection has, then hands events to the journal, then writes what is to be sent: what came
together leaves together, and no reply is ahead of the events of its call.

libzmq's descriptors tell edges, not levels: whatever was sent on the event socket may have eaten the edge of something
that came in. So it is looked at again before the loop sleeps (`is_dirty`).
"""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import zmq

from broker.access import load_access
from broker.calls import GONE, SENT, Call, Caller
from broker.door import Door, Lifeline, Lifelines
from broker.epochs import load_epochs, load_or_make_key
from broker.intake import Intake
from broker.journal import Journal, remove_segments
from broker.metrics import MetricsServer
from broker.own import Own, WardenCalls, boot_id
from broker.policy import CallerKind, Policy
from broker.reception import Reception
from broker.registry import BEATLESS_AFTER_STALL_S, PLATFORM, Actor, Registry, State
from broker.replays import Replays
from broker.router import Router
from broker.routing import TICK_S, Routing
from broker.sockets import Publisher, make_folder
from broker.status import status_of
from broker.subscriptions import Subscriptions
from broker.wire import HEADER, VERSION, CallPrologue, Flag, Kind, WireError, pack_header, pack_value, unpack_value
from broker.worker import Worker
from schema.errors import VirtError
from schema.table import find_procedure, procedure_names
from settings.config import Config
from settings.paths import Paths
from util.structured_log import StructuredLog

BUDGET: Final = 256  # subscriptions that are taken before calls get their turn
RETIRE_S: Final = 10.0
METRICS_AFTER_S: Final = 0.5  # the first thing is that peers come back
SLACK: Final = 1024  # more places in a pipe than calls it may hold: acknowledgements and the like

_CALL, _REPLY, _ERROR, _CANCEL = int(Kind.CALL), int(Kind.REPLY), int(Kind.ERROR), int(Kind.CANCEL)
_EVENT, _REPLAY = int(Kind.EVENT), int(Kind.REPLAY)


class Server:
    """One broker. `run` serves until `stop`."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        names: tuple[str, ...],
        users: Mapping[str, frozenset[int]],
        log: StructuredLog,
    ) -> None:
        """Opens the journal and binds every socket, the doors last: who comes in finds the rest. Raises OSError."""
        self.paths = paths
        self.config = config
        self.log = log
        self.started = time.monotonic()
        settings = config.broker
        make_folder(paths.broker_state, 0o700)
        self.registry = Registry(names, load_epochs(paths.broker_state, paths.spare_epochs))
        self.journal = Journal(paths.journal, config.journal, boot_id=boot_id(), wall=time.time)
        if self.journal.lost_tail:
            log.warning(
                "journal begins a new generation", generation=self.journal.generation, why=self.journal.lost_tail
            )
        if self.journal.unwritable is not None:
            log.error("the journal cannot be written: events wait, reads go on", error=str(self.journal.unwritable))
        self._disk = Worker("disk")
        self._reading = Worker("reading")
        self.intake = Intake(
            self.journal,
            self,
            log,
            always_sync=config.journal.sync == "always",
            sync_interval_s=config.journal.sync_interval_s,
            submit=self._disk.submit,
            connected=lambda: [actor for actor in self.registry if actor.routing_id is not None],
        )
        self.routing = Routing(
            self, Policy(procedure_names(), find_procedure), own=self._own_call, want=self._want, note=log.info
        )
        for actor in self.registry:
            self.routing.add_desk(actor, settings.calls_per_actor, settings.waiting_per_actor)
        self.warden = WardenCalls(self.routing, log)
        self._own = Own(
            status=lambda: status_of(self),
            head=self._head,
            tell=self._told,
            find=self.registry.find,
            present=lambda: (self.reception.present(), time.monotonic() - self.started),
        )
        self.replays = Replays(
            self.journal,
            self._reading,
            lambda: self.intake.published,
            lambda caller, header, body: self.to_caller(caller, b"broker", header, body),
            records_max=settings.replay_records_max,
        )
        self.subscriptions = Subscriptions()
        self.faults = 0  # exceptions of our own making
        self.misuse = 0  # messages of granted peers that were not theirs to send
        self.is_alone = False  # whether all that came in this pass is one message
        self._stopping = False
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        # actors with users of their own must get through; the door asks them for a token, and ids cannot be guessed
        is_shared = os.geteuid() == 0 and any(actor.user for actor in config.actors.values())
        actors_mode = 0o666 if is_shared else 0o600
        make_folder(paths.run, 0o755)
        make_folder(paths.actors_route.parent, 0o711 if is_shared else 0o700)
        make_folder(paths.clients_route.parent, 0o755)
        actor_hwm = 2 * settings.calls_per_actor + SLACK
        client_hwm = 2 * settings.calls_per_client + SLACK
        limits = settings.client_message_max
        ways = (
            ("actors", paths.actors_route, actors_mode, settings.actor_message_max, actor_hwm),
            ("clients", paths.clients_route, 0o666, limits, client_hwm),
            ("clients-ro", paths.clients_route_read_only, 0o666, limits, client_hwm),
        )
        self.routers = {
            name: Router(path, mode, name, self, self._dispatch, message_max=message_max, hwm=hwm)
            for name, path, mode, message_max, hwm in ways
        }
        self._routers = tuple(self.routers.values())
        self._actors = self.routers["actors"]
        self.publisher = Publisher(self._context, paths.events, 0o666)
        self._router_of: dict[Caller, Router] = {}
        self.reception = Reception(
            paths,
            settings,
            self.registry,
            self.routing,
            self,
            self._disk,
            log,
            key=load_or_make_key(paths.broker_state),
            users=users,
            access=load_access(Path(policy), log) if (policy := config.gateway.access_policy) else None,
        )
        self.lifelines = Lifelines(
            watch=self._watch_lifeline,
            on_hello=self.reception.hello,
            on_message=self.reception.message,
            on_gone=self._lifeline_gone,
        )
        self.reception.use(self.lifelines.cut)
        self.metrics = MetricsServer(paths.metrics, config.metrics.listen, lambda: self, log)
        self._doors = (
            Door(paths.actors_door, actors_mode, "actors"),
            Door(paths.clients_door, 0o666, "clients"),
            Door(paths.clients_door_read_only, 0o666, "clients-ro"),
        )
        self.watch(self.publisher.fd, lambda: setattr(self.publisher, "is_dirty", True))
        for door in self._doors:
            self.watch(door.fileno(), lambda door=door: self.lifelines.knock(door, time.monotonic()))  # type: ignore[misc]
        for worker in (self._disk, self._reading):
            self.watch(worker.fd, worker.deliver)
        self.watch(self._wake, lambda: None)
        now = time.monotonic()
        self._next_tick = now
        self._next_alive = now
        self._next_retire = now + RETIRE_S
        self._metrics_at: float | None = now + METRICS_AFTER_S
        self._last_turn = now

    # -- the loop

    def run(self) -> None:
        """Serves until `stop`, then lets go of everything in order."""
        self.log.info(
            "broker ready", pid=os.getpid(), generation=self.journal.generation, head=self.journal.head.offset
        )
        poll, handlers, clock = self._epoll.poll, self._handlers, time.monotonic
        while not self._stopping:
            now = clock()
            due = min(self._next_tick, self.intake.due_at)
            if now >= due:
                self._timers(now)
                self._move()
                continue
            came = poll(due - now)
            self.is_alone = len(came) == 1
            for fd, _ in came:
                handler = handlers.get(fd)
                if handler is not None:
                    handler()
                else:
                    self._read_lifeline(fd)
            self.is_alone = False
            self._move()
        self._close()

    def stop(self) -> None:
        """May be called by a signal handler or another thread."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def serve_signals(self) -> None:
        """SIGTERM and SIGINT stop the broker in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def _move(self) -> None:
        if not self.intake.is_idle:
            self.intake.flush(time.monotonic())
        if self.publisher.is_dirty:
            self.publisher.is_dirty = False
            self._drain_subscriptions()
        for router in self._routers:
            if router.planned:
                router.flush()

    def _read_lifeline(self, fd: int) -> None:
        try:
            self.lifelines.read(fd)
        except Exception as exc:  # noqa: BLE001 - one peer must not end the calls of everybody
            self.fault(exc)

    def fault(self, exc: Exception) -> None:
        """Tells of an exception of our own making."""
        self.faults += 1
        where = "".join(traceback.format_exception(exc)[-3:])
        self.log.error("internal error", error=repr(exc), where=where)

    def _drain_subscriptions(self) -> None:
        try:
            for _ in range(BUDGET):
                self.subscriptions.receive(self.publisher.receive())
        except zmq.Again:
            return
        self.publisher.is_dirty = True

    def _dispatch(self, caller: Caller, destination: bytes, header: bytes, body: bytes) -> None:
        version, kind, flags, ttl_ms, correlation = HEADER.unpack(header)
        if version != VERSION:
            self.misuse += 1
        elif kind == _CALL:
            self.routing.call(caller, destination, header, flags, ttl_ms, correlation, body, time.monotonic())
        elif kind == _CANCEL:
            self.routing.cancel(caller, header, correlation)
        elif kind == _REPLAY:
            self.replays.request(caller, correlation, body)
        elif caller.desk is None:
            self.misuse += 1  # everything else is an actor's to send
        elif kind in (_REPLY, _ERROR):
            self.routing.outcome(caller.desk, destination, header, correlation, kind == _ERROR, body, time.monotonic())
        elif kind == _EVENT:
            self.intake.event(caller.desk.actor, correlation, body)
        elif kind == Kind.REGISTER:
            self._register(caller, body)
        elif kind == Kind.BYE:
            caller.desk.actor.said_bye = True
        else:
            self.misuse += 1

    # -- Outbox

    def _head(self) -> tuple[int, int]:
        # whoever has got a reply and asks then finds the events of that call, though both came in one pass of the loop
        self.intake.flush()
        return self.intake.published

    def to_actor(self, routing_id: bytes, source: bytes, header: bytes, body: bytes) -> int:
        """A message for the incarnation of that id."""
        return self._actors.send(routing_id, source, header, body)

    def to_caller(self, caller: Caller, source: bytes, header: bytes, body: bytes) -> int:
        """A message for whoever called."""
        router = self._router_of.get(caller)
        if router is not None:
            return router.send(caller.routing_id, source, header, body)
        if caller.kind is CallerKind.BROKER:
            self.warden.outcome(header, body)
            return SENT
        return GONE

    # -- Watching

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Calls `handler` whenever the descriptor can be read."""
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = handler

    def want_room(self, fd: int, wanted: bool) -> None:
        """Whether the handler is also called when it can be written."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Not any more."""
        self._epoll.unregister(fd)
        del self._handlers[fd]

    # -- Announcer

    def acknowledge(self, actor: Actor, seq: int, resend: bool) -> None:
        """Tells an actor up to where its events are in the journal."""
        if actor.routing_id is not None:
            header = pack_header(Kind.EVENT_ACK, seq, 0, Flag.GAP if resend else 0)
            self._actors.send(actor.routing_id, b"broker", header, b"")

    def publish(self, source: bytes, position: bytes, body: bytes) -> None:
        """Tells subscribers."""
        self.publisher.publish(source, position, body)

    # -- House

    def journal_last(self, source: str) -> tuple[int, int]:
        """What the journal holds of a source, with all that has come."""
        self.intake.flush(time.monotonic())
        return self.journal.last(source)

    def generation(self) -> int:
        """The journal's."""
        return self.journal.generation

    def moved_in(self, caller: Caller, door: str) -> None:
        """From now on this peer's messages count."""
        router = self.routers[door]
        router.grant(caller)
        self._router_of[caller] = router

    def moved_out(self, caller: Caller, door: str) -> None:
        """From now on they do not."""
        self.routers[door].revoke(caller)
        self._router_of.pop(caller, None)

    def actor_gone(self, actor: Actor, epoch: int, pid: int, orderly: bool) -> None:
        """The warden has to know at once."""
        if actor.name not in PLATFORM:
            self.warden.gone(actor, epoch, pid, orderly, time.monotonic())

    def actor_changed(self, actor: Actor) -> None:
        """Subscribers see its state."""
        self.intake.state(actor, pack_value({"state": str(actor.state), "why": actor.why}))

    # -- what happens

    def _register(self, caller: Caller, body: bytes) -> None:
        assert caller.desk is not None
        actor = caller.desk.actor
        try:
            said = unpack_value(body)
            ready, procedures, version = said["ready"], said["procedures"], said["version"]
            if not (
                isinstance(ready, bool) and isinstance(version, str) and all(isinstance(p, str) for p in procedures)
            ):
                raise WireError("a field has the wrong type")
        except (WireError, KeyError, TypeError, IndexError) as exc:
            self.misuse += 1
            self.log.warning("registration not understood", actor=actor.name, why=str(exc))
            return
        self.registry.register(actor, procedures, version, ready)
        self.warden.connected(actor)
        if ready and actor.name not in PLATFORM:
            self.warden.ready(actor, time.monotonic())
        self.log.info("actor registered", actor=actor.name, epoch=actor.epoch, ready=ready)
        body = pack_value({"last": list(self.journal_last(actor.name))})
        self._actors.send(caller.routing_id, b"broker", pack_header(Kind.REGISTERED, 0), body)
        self.routing.serve(caller.desk, time.monotonic())
        self.actor_changed(actor)
        if actor.name == "warden":
            for desk in self.routing.desks:
                if desk.depth and desk.routing_id is None and desk.actor.name not in PLATFORM:
                    self._want(desk.actor)

    def _told(self, actor: Actor, state: State, why: str, retry_at: float | None) -> None:
        before = actor.state
        self.registry.tell(actor, state, why, retry_at)
        self.log.info("actor state", actor=actor.name, state=str(state), why=why or None)
        desk = self.routing.find_desk(actor.name)
        assert desk is not None
        if state in (State.DEGRADED, State.DISABLED):
            self.routing.give_up(desk)
        else:
            self.routing.serve(desk, time.monotonic())
            if desk.depth and desk.routing_id is None and state is State.STOPPED:
                self._want(actor)
        if actor.state is not before:
            self.actor_changed(actor)

    def _want(self, actor: Actor) -> None:
        warden = self.registry.find("warden")
        if actor.name not in PLATFORM and actor.routing_id is None and warden is not None and warden.is_ready:
            self.warden.ensure(actor, "a call needs it", time.monotonic())

    def _own_call(self, caller: Caller, call: Call, prologue: CallPrologue) -> None:
        try:
            self.routing.finish(call, self._own.answer(call, prologue))
        except VirtError as exc:
            self.routing.end(call, exc)

    def _lifeline_gone(self, lifeline: Lifeline, why: str) -> None:
        if lifeline.door.name == "actors" and lifeline.owner is not None:
            # what the process still said before it ended is worth more than a verdict
            self._actors.read_rest(lifeline.owner.routing_id)
            self.intake.flush(time.monotonic())
        self.reception.gone(lifeline, why)

    # -- time

    def _timers(self, now: float) -> None:
        stalled = now - self._last_turn
        self._last_turn = now
        if stalled > BEATLESS_AFTER_STALL_S:
            self.log.warning("broker stood still", seconds=stalled)
            self.registry.forgive(now)
        self.intake.tick(now)
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_S
        if self._metrics_at is not None and now >= self._metrics_at:
            self._metrics_at = None
            self.metrics.start()
        self.routing.tick(now)
        self.lifelines.drop_silent(now)
        for router in self._routers:
            router.drop_silent(now)
        self._check_hangs(now)
        if now >= self._next_alive:
            self._next_alive = now + 0.5
            for actor in self.registry:
                if actor.is_ready and actor.name not in PLATFORM:
                    self.intake.alive(actor)
            for desk in self.routing.desks:
                if desk.depth and desk.routing_id is None:
                    self._want(desk.actor)
        if now >= self._next_retire:
            self._next_retire = now + RETIRE_S
            gone = self.journal.retire()
            if gone:
                self._disk.submit(lambda: remove_segments(gone), lambda _: None)

    def _check_hangs(self, now: float) -> None:
        limits = self.config.broker.hang_after_s, self.config.warden.start_timeout_s
        for actor, why in self.registry.hanging(now, *limits):
            actor.hangs += 1
            if actor.name in PLATFORM:
                self.reception.kill(actor)
            else:
                self.warden.ensure(actor, f"it hangs: {why}", now, hung_epoch=actor.epoch)
            self.reception.fence(actor, why)
            self.reception.burn(actor)

    # -- the end

    def _close(self) -> None:
        for door in self._doors:
            door.close()
        self._move()
        self.intake.flush(time.monotonic())
        self._disk.close()
        self._reading.close()
        self.journal.close()
        self.metrics.close()
        self.lifelines.close()
        for router in self.routers.values():
            router.close()
        self.publisher.close()
        self._context.term()
        self._epoll.close()
        os.close(self._wake)
        self.log.info("broker stopped")

    def _watch_lifeline(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
