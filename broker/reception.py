"""Receives who comes through the doors: checks them, grants epochs and routing ids, and sees them off.

An epoch is on disk before it is granted. That and names of users are found beside the loop; a peer that is gone
before its answer is ready has cost an epoch and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from broker.access import Access, group_names
from broker.admission import PROTOCOL, AllowList, ClientIds, Credentials, Hello, Tokens, read_hello
from broker.calls import Caller
from broker.door import Lifeline
from broker.epochs import save_epochs
from broker.policy import CallerKind
from broker.registry import PLATFORM, Actor, Incarnation, Registry
from broker.routing import Routing
from broker.wire import WireError
from broker.worker import Worker
from schema.access_policy import Judge
from schema.errors import Busy, Fenced, HostSystemError, InvalidMessage, NoConnection, VirtError, to_wire
from settings.config import BrokerSettings
from settings.paths import Paths
from util.structured_log import StructuredLog

CLIENTS_MAX: Final = 20000
CLIENTS_PER_USER: Final = 2000  # root's and the agent's own user apart
BUSY_RETRY_S: Final = 1.0
GATEWAY_CALLS_FACTOR: Final = 8


class House(Protocol):
    """What the server does with those who are let in."""

    def journal_last(self, source: str) -> tuple[int, int]: ...

    def generation(self) -> int: ...

    def moved_in(self, caller: Caller, door: str) -> None: ...

    def moved_out(self, caller: Caller, door: str) -> None: ...

    def actor_gone(self, actor: Actor, epoch: int, pid: int, orderly: bool) -> None: ...

    def actor_changed(self, actor: Actor) -> None: ...


class Reception:
    """The registry's and routing's side of the doors."""

    def __init__(
        self,
        paths: Paths,
        settings: BrokerSettings,
        registry: Registry,
        routing: Routing,
        house: House,
        worker: Worker,
        log: StructuredLog,
        *,
        key: bytes,
        users: Mapping[str, frozenset[int]],
        access: Access | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`users` are the uids as which each actor may run, `access` is the policy that native clients are under."""
        self._access = access
        self._paths = paths
        self._settings = settings
        self._registry = registry
        self._routing = routing
        self._house = house
        self._worker = worker
        self._log = log
        self._clock = clock
        self._users = users
        self._tokens = Tokens(paths.token)
        self._ids = ClientIds(key)
        self._allowed = AllowList.of(os.geteuid(), settings.allow)
        self._names: dict[int, str] = {}
        self._judges: dict[int, Judge | None] = {}
        self._clients: dict[bytes, Lifeline] = {}
        self._departed: dict[bytes, Caller] = {}  # clients that are gone while calls of theirs are under way
        self._lifelines: dict[str, Lifeline] = {}  # of actors
        self._of_user: dict[int, int] = {}  # connections of each user
        self._reserved: dict[str, Incarnation] = {}  # the newest that were ever sent to the disk, granted or not yet
        self._cut: Callable[[Lifeline], None] = Lifeline.close
        self.refused: dict[str, int] = {}

    def use(self, cut: Callable[[Lifeline], None]) -> None:
        """How a lifeline is cut."""
        self._cut = cut

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def present(self) -> set[bytes]:
        """The public ids of all who are connected."""
        lines = (*self._clients.values(), *self._lifelines.values())
        return {line.owner.public for line in lines if line.owner is not None}

    # -- coming

    def hello(self, lifeline: Lifeline, message: dict[str, Any]) -> None:
        """Somebody says who he is."""
        try:
            hello = read_hello(message)
            if (hello.role == "client") != (lifeline.door.name != "actors"):
                raise InvalidMessage(f"this door does not serve the role '{hello.role[:64]}'")
            if hello.role == "client":
                if lifeline.door.name == "clients":
                    self._allowed.check(lifeline.credentials)
                self._client(lifeline, hello)
            else:
                self._role(lifeline, hello)
        except VirtError as exc:
            self._refuse(lifeline, exc)

    def _client(self, lifeline: Lifeline, hello: Hello) -> None:
        uid = lifeline.credentials.uid
        read_only = lifeline.door.name == "clients-ro"
        routing_id, secret = self._ids.admit(hello, uid, read_only)
        if len(self._clients) >= CLIENTS_MAX:
            raise Busy(BUSY_RETRY_S, f"the broker has {CLIENTS_MAX} clients already")
        if uid != 0 and uid != os.geteuid() and self._of_user.get(uid, 0) >= CLIENTS_PER_USER:
            raise Busy(BUSY_RETRY_S, f"user {uid} has {CLIENTS_PER_USER} connections already")
        self._with_user_name(uid, lambda: self._admit_client(lifeline, hello, routing_id, secret, read_only))

    def _admit_client(
        self, lifeline: Lifeline, hello: Hello, routing_id: bytes, secret: bytes, read_only: bool
    ) -> None:
        if not lifeline.is_open:
            return
        former = self._clients.pop(routing_id, None)
        if former is not None:
            caller = former.owner
            former.owner = None
            self._leave_user(former)
            self._cut(former)
        elif routing_id in self._departed:
            caller = self._departed.pop(routing_id)
            caller.gone = False
        else:
            identity = self._identity(lifeline.credentials, read_only, "native", hello.program)
            caller = Caller(
                routing_id,
                CallerKind.CLIENT,
                identity,
                limit=self._settings.calls_per_client,
                read_only=read_only,
                program=hello.program,
                judge=self._judges.get(lifeline.credentials.uid),
            )
        lifeline.owner = caller
        self._clients[routing_id] = lifeline
        uid = lifeline.credentials.uid
        self._of_user[uid] = self._of_user.get(uid, 0) + 1
        self._house.moved_in(caller, lifeline.door.name)
        route = self._paths.clients_route_read_only if read_only else self._paths.clients_route
        self._answer(lifeline, routing_id, secret, 0, route, read_only)

    def _role(self, lifeline: Lifeline, hello: Hello) -> None:
        actor = self._registry.find(hello.role)
        if actor is None:
            raise NoConnection(f"driver '{hello.role[:64]}'")
        who = lifeline.credentials
        self._tokens.check(actor.name, hello.token, who, self._users.get(actor.name, frozenset({0, os.geteuid()})))
        if hello.resume is not None:
            routing_id, epoch = hello.resume
            if not isinstance(epoch, int):
                raise InvalidMessage("an actor resumes with [id, epoch]")
            self._registry.check_resume(actor, routing_id, epoch, who.pid)
            self._with_user_name(who.uid, lambda: self._resume(lifeline, actor, routing_id, epoch))
        else:
            # while one epoch is being written, the next one at this door must not be granted the same number
            granted = Incarnation(self._newest(actor).epoch + 1, who.pid)
            self._reserved[actor.name] = granted
            epochs, save, spare = self._epochs(), self._paths.broker_state, self._paths.spare_epochs
            self._worker.submit(
                lambda: save_epochs(save, spare, epochs), lambda r: self._grant(lifeline, actor, granted, r)
            )

    def _grant(self, lifeline: Lifeline, actor: Actor, granted: Incarnation, result: object) -> None:
        if isinstance(result, OSError):
            self._log.error("epoch not saved", actor=actor.name, error=str(result))
            self._refuse(lifeline, HostSystemError(result.errno or 5, f"cannot save the epoch of '{actor.name}'"))
            return
        newest = self._reserved[actor.name].epoch
        if granted.epoch != newest:
            self._refuse(lifeline, Fenced(f"epoch {granted.epoch} of '{actor.name}' is over, the newest is {newest}"))
            return
        if not lifeline.is_open:
            return
        if actor.routing_id is not None:
            self.fence(actor, "a newer incarnation registered")
        routing_id = self._registry.grant(actor, granted, secrets.token_hex(16), self._clock())
        self._log.info("actor connected", actor=actor.name, epoch=actor.epoch, pid=actor.pid)
        self._with_user_name(lifeline.credentials.uid, lambda: self._move_in(lifeline, actor, routing_id))

    def _resume(self, lifeline: Lifeline, actor: Actor, routing_id: bytes, epoch: int) -> None:
        try:
            self._registry.check_resume(actor, routing_id, epoch, lifeline.credentials.pid)
        except VirtError as exc:
            self._refuse(lifeline, exc)
            return
        former = self._lifelines.pop(actor.name, None)
        if former is not None:
            former.owner = None
            self._cut(former)
        self._registry.resume(actor, routing_id, self._clock())
        self._log.info("actor resumed", actor=actor.name, epoch=epoch, pid=actor.pid)
        self._move_in(lifeline, actor, routing_id)

    def _move_in(self, lifeline: Lifeline, actor: Actor, routing_id: bytes) -> None:
        if not lifeline.is_open or actor.routing_id != routing_id:
            if actor.routing_id == routing_id:
                self._registry.gone(actor, "its process ended while it registered")
                self._house.actor_changed(actor)
            return
        if actor.name == "gateway":
            kind, limit = CallerKind.GATEWAY, GATEWAY_CALLS_FACTOR * self._settings.calls_per_actor
        else:
            kind = CallerKind.WARDEN if actor.name == "warden" else CallerKind.ACTOR
            limit = self._settings.calls_per_actor
        identity = self._identity(lifeline.credentials, False, "actor", actor.name)
        desk = self._routing.find_desk(actor.name)
        caller = Caller(routing_id, kind, identity, limit=limit, desk=desk, program=actor.name)
        lifeline.owner = caller
        self._lifelines[actor.name] = lifeline
        self._house.moved_in(caller, "actors")
        last = self._house.journal_last(actor.name)
        self._answer(lifeline, routing_id, b"", actor.epoch, self._paths.actors_route, False, last=list(last))
        self._house.actor_changed(actor)

    # -- being there

    def message(self, lifeline: Lifeline, message: dict[str, Any]) -> None:
        """Something comes through a lifeline: an actor's heartbeat, or that it ends in order."""
        caller = lifeline.owner
        if caller is None or caller.desk is None:
            return
        actor: Actor = caller.desk.actor
        if message.get("bye") is True:
            actor.said_bye = True
            return
        try:
            progress_s, seq = float(message["progress_s"]), int(message["seq"])
            depth, rss_kib = int(message["depth"]), int(message["rss_kib"])
        except (KeyError, TypeError, ValueError, OverflowError):
            self._count("bad heartbeat")
            return
        if progress_s >= 0.0:  # which a NaN is not
            self._registry.beat(actor, self._clock(), progress_s, seq, depth, rss_kib)

    # -- leaving

    def gone(self, lifeline: Lifeline, why: str) -> None:
        """A lifeline ended."""
        caller = lifeline.owner
        if caller is None:
            return
        lifeline.owner = None
        if caller.desk is None:
            self._clients.pop(caller.routing_id, None)
            self._leave_user(lifeline)
            self._house.moved_out(caller, lifeline.door.name)
            self._routing.leave(caller)
            self._departed = {key: other for key, other in self._departed.items() if other.calls}
            if caller.calls:
                self._departed[caller.routing_id] = caller
        else:
            self._actor_gone(caller, why)

    def fence(self, actor: Actor, why: str) -> None:
        """Takes the word from the incarnation that is connected: nothing it still sends counts."""
        lifeline = self._lifelines.get(actor.name)
        if lifeline is None:
            return
        self._log.warning("actor fenced", actor=actor.name, epoch=actor.epoch, pid=actor.pid, why=why)
        lifeline.write({"fenced": why})
        self._cut(lifeline)
        actor.said_bye = False
        self.gone(lifeline, why)

    def burn(self, actor: Actor) -> None:
        """The incarnation that was fenced must not resume, not even at the next broker: its epoch is over."""
        self._registry.burn(actor)
        self._reserved[actor.name] = self._newest(actor)
        epochs, save, spare = self._epochs(), self._paths.broker_state, self._paths.spare_epochs

        def saved(result: object) -> None:
            if isinstance(result, OSError):
                self._log.error("epoch not saved", actor=actor.name, error=str(result))

        self._worker.submit(lambda: save_epochs(save, spare, epochs), saved)

    def _newest(self, actor: Actor) -> Incarnation:
        reserved = self._reserved.get(actor.name, Incarnation(0, 0))
        return reserved if reserved.epoch > actor.epoch else Incarnation(actor.epoch, actor.pid)

    def _epochs(self) -> dict[str, Incarnation]:
        # those that are being written for another actor at this moment belong to it as well
        return {actor.name: newest for actor in self._registry if (newest := self._newest(actor)).epoch}

    def kill(self, actor: Actor) -> None:
        """Ends the process of a role that the warden does not look after; supervisord starts it again."""
        if actor.name in PLATFORM and actor.pid > 1:
            with contextlib.suppress(OSError):
                os.kill(actor.pid, signal.SIGKILL)

    def _leave_user(self, lifeline: Lifeline) -> None:
        uid = lifeline.credentials.uid
        self._of_user[uid] -= 1
        if not self._of_user[uid]:
            del self._of_user[uid]

    def _actor_gone(self, caller: Caller, why: str) -> None:
        assert caller.desk is not None
        actor = caller.desk.actor
        self._lifelines.pop(actor.name, None)
        self._house.moved_out(caller, "actors")
        self._routing.leave(caller)
        epoch, pid = actor.epoch, actor.pid
        orderly = self._registry.gone(actor, why)
        self._log.info(
            "actor gone", actor=actor.name, epoch=epoch, pid=pid, orderly=orderly, why=None if orderly else why
        )
        self._house.actor_gone(actor, epoch, pid, orderly)
        self._routing.lost(caller.desk)
        self._house.actor_changed(actor)

    # -- answers

    def _answer(
        self,
        lifeline: Lifeline,
        routing_id: bytes,
        secret: bytes,
        epoch: int,
        route: Path,
        read_only: bool,
        **more: Any,
    ) -> None:
        answer = {
            "v": PROTOCOL,
            "id": routing_id,
            "secret": secret,
            "epoch": epoch,
            "route": os.fspath(route),
            "events": os.fspath(self._paths.events),
            "generation": self._house.generation(),
            "read_only": read_only,
            "heartbeat_s": self._settings.heartbeat_s,
            "message_max": self._settings.actor_message_max if epoch else self._settings.client_message_max,
            **more,
        }
        if not lifeline.write(answer):
            self._cut(lifeline)
            self.gone(lifeline, "it did not take the door's answer")

    def _refuse(self, lifeline: Lifeline, error: VirtError) -> None:
        self._count(error.kind)
        who = lifeline.credentials
        self._log.warning("refused at the door", door=lifeline.door.name, uid=who.uid, pid=who.pid, why=error.message)
        if lifeline.is_open:
            with contextlib.suppress(WireError):
                lifeline.write({"error": to_wire(error)})
            self._cut(lifeline)

    def _count(self, what: str) -> None:
        self.refused[what] = self.refused.get(what, 0) + 1

    def _identity(self, who: Credentials, read_only: bool, via: str, name: str) -> dict[str, Any]:
        return {
            "uid": who.uid,
            "gid": who.gid,
            "pid": who.pid,
            "user": self._names.get(who.uid, str(who.uid)),
            "read_only": read_only,
            "via": via,
            "name": name,
        }

    def _with_user_name(self, uid: int, then: Callable[[], None]) -> None:
        """Goes on once the user's name is known; a name service may be slow, so it is asked beside the loop."""
        if uid in self._names:
            then()
            return

        def found(result: object) -> None:
            name, groups = result if isinstance(result, tuple) else (str(uid), frozenset())
            self._names[uid] = name
            if self._access is not None:
                self._judges[uid] = self._access(uid, name, groups)
            then()

        self._worker.submit(lambda: _names_of(uid), found)


def _names_of(uid: int) -> tuple[str, frozenset[str]]:
    """A user's name and those of its groups; a name service may be slow. Raises KeyError."""
    entry = pwd.getpwuid(uid)
    return entry.pw_name, group_names(entry.pw_name, entry.pw_gid)
