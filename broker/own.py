"""The procedures that the broker itself answers, and its own calls to the warden."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from broker.calls import Call, Caller
from broker.policy import CallerKind
from broker.registry import Actor, State
from broker.routing import Routing
from broker.wire import CallPrologue, Flag, Kind, join_body, pack_call_prologue, pack_header
from schema.body import pack_args, pack_result, unpack_args
from schema.errors import InvalidArguments, UnknownProcedure, VirtError
from schema.table import need_procedure
from util.structured_log import StructuredLog

ASK_AGAIN_S: Final = 5.0  # a warden that did nothing about an actor that is needed is asked once more
ASK_DEADLINE_MS: Final = 60000
OWN_CALLS_MAX: Final = 4096


class Own:
    """Answers `broker_*`."""

    def __init__(
        self,
        *,
        status: Callable[[], dict[str, Any]],
        head: Callable[[], tuple[int, int]],
        tell: Callable[[Actor, State, str, float | None], None],
        find: Callable[[str], Actor | None],
        present: Callable[[], tuple[set[bytes], float]],
    ) -> None:
        self._status = status
        self._head = head
        self._tell = tell
        self._find = find
        self._present = present

    def answer(self, call: Call, prologue: CallPrologue) -> bytes:
        """The packed result of a call. Raises VirtError."""
        length = int.from_bytes(call.body[:2], "big")
        procedure = need_procedure(prologue.procedure)
        arguments = unpack_args(procedure, call.body[2 + length :])
        if procedure.name == "broker_head":
            generation, offset = self._head()
            return pack_result(procedure, {"generation": generation, "offset": offset})
        if procedure.name == "broker_status":
            return pack_result(procedure, {"status": self._status()})
        if procedure.name == "broker_present":
            here, uptime_s = self._present()
            known = [caller for caller in arguments.callers if caller in here]
            return pack_result(procedure, {"callers": known, "uptime_s": uptime_s})
        if procedure.name == "broker_actor_state":
            actor = self._find(arguments.name)
            if actor is None:
                raise InvalidArguments(f"{procedure.name}: there is no driver '{arguments.name}'")
            try:
                state = State(arguments.state)
            except ValueError as exc:
                raise InvalidArguments(f"{procedure.name}: '{arguments.state}' is no state of an actor") from exc
            self._tell(actor, state, arguments.why, arguments.retry_at)
            return pack_result(procedure, None)
        raise UnknownProcedure(procedure.name)


class WardenCalls:
    """Asks the warden for actors and tells it about their ends; what it cannot be told now waits until it is there."""

    def __init__(self, routing: Routing, log: StructuredLog) -> None:
        self._routing = routing
        self._log = log
        # an own id for each broker: a warden that outlives one must not take the next one's calls for repetitions
        identity = {"uid": os.geteuid(), "gid": os.getegid(), "pid": os.getpid(), "user": "", "read_only": False}
        self.caller = Caller(
            b"broker." + os.urandom(16),
            CallerKind.BROKER,
            {**identity, "via": "broker", "name": "broker"},
            limit=OWN_CALLS_MAX,
            program="broker",
        )
        self._correlation = 0
        self._asked: dict[str, float] = {}

    def ensure(self, actor: Actor, why: str, now: float, *, hung_epoch: int | None = None) -> None:
        """Asks for an actor, at most every ASK_AGAIN_S unless one hangs."""
        asked = self._asked.get(actor.name)
        if hung_epoch is None and asked is not None and now - asked < ASK_AGAIN_S:
            return
        self._asked[actor.name] = now
        self._call("warden_actor_ensure", {"name": actor.name, "why": why, "epoch": hung_epoch}, now)

    def gone(self, actor: Actor, epoch: int, pid: int, orderly: bool, now: float) -> None:
        """Tells of an end."""
        self._call("warden_actor_gone", {"name": actor.name, "pid": pid, "epoch": epoch, "orderly": orderly}, now)

    def ready(self, actor: Actor, now: float) -> None:
        """Tells that an incarnation serves."""
        self._call("warden_actor_ready", {"name": actor.name, "pid": actor.pid, "epoch": actor.epoch}, now)

    def connected(self, actor: Actor) -> None:
        """An actor is there: the next time it is missed, it is asked for at once."""
        self._asked.pop(actor.name, None)

    def outcome(self, header: bytes, body: bytes) -> None:
        """The warden answered; only a refusal is worth a word."""
        if header[1] == Kind.ERROR:
            self._log.warning("the warden refused", error=_error_text(body))

    def _call(self, procedure: str, arguments: dict[str, Any], now: float) -> None:
        self._correlation += 1
        body = join_body(pack_call_prologue(CallPrologue(procedure)), pack_args(need_procedure(procedure), arguments))
        header = pack_header(Kind.CALL, self._correlation, ASK_DEADLINE_MS, Flag.URGENT)
        self._routing.call(
            self.caller, b"warden", header, int(Flag.URGENT), ASK_DEADLINE_MS, self._correlation, body, now
        )


def _error_text(body: bytes) -> str:
    from broker.wire import split_body, unpack_value
    from schema.errors import from_wire

    try:
        return from_wire(unpack_value(split_body(body)[1])).message
    except (ValueError, VirtError) as exc:
        return f"unreadable: {exc}"


def boot_id() -> str:
    """Of this run of the kernel."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()


def wall() -> float:
    """Seconds since 1970."""
    return time.time()
