"""One call: which actor answers it, what is packed, how long it may take, and what comes back.

A call's object stands in the prologue as well as in its arguments, because the broker and the policy read no arguments.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from client.errors import DeadlinePassed, NoConnection
from client.link import Answer, Link
from schema.body import pack_args, unpack_result
from schema.model import Procedure
from schema.objects import DomainRef
from schema.table import need_procedure
from settings.drivers import NoDriverForUri, actor_for

KEY_MAX: Final = 1024
"""Longer names stay out of the prologue, which is bounded; they are too long for an object anyway."""

STANDBY: Final = "gateway"
"""Who answers reads from its replica while a driver is down for good."""

_DEFAULTS: Final[dict[str, object]] = {"flags": 0, "need_results": 1}
_OWN: Final = frozenset({"broker", "warden"})


class CallOptions(TypedDict, total=False):
    """What every call takes besides its arguments.

    `timeout` is the deadline in seconds, None for none; without it the schema's default holds. `idempotency_key` makes
    a repeated change the same change: it runs once, and each repetition gets the recorded outcome. `trace` stands in
    the logs of every process that the call passes, and in its events.
    """

    timeout: float | None
    idempotency_key: str
    trace: str


@dataclass(frozen=True, slots=True)
class Called:
    """How a call ended well.

    `result` has the fields that the schema declares. `source`, `epoch` and `seq` say which event of the driver was its
    last when it answered. `ticket` opens the stream of a call that has one.
    """

    result: Any
    source: str
    epoch: int
    seq: int
    ticket: dict[str, Any] | None

    @property
    def is_standby(self) -> bool:
        """Whether a replica answered because the driver is down for good: this was true once, and is unknown now."""
        return self.source == STANDBY

    @property
    def age_s(self) -> float | None:
        """How old the knowledge of a standby answer is."""
        return None if self.ticket is None else self.ticket.get("age_s")


class Caller:
    """Makes calls in one scope."""

    def __init__(self, link: Link, scope: str) -> None:
        self.link = link
        self.scope = scope
        self._run = secrets.token_hex(4)
        self._traces = 0

    def _new_trace(self) -> str:
        self._traces += 1
        return f"{self._run}-{self._traces:x}"

    def destination(self, procedure: Procedure) -> str:
        """The actor that answers a procedure here.

        Raises NoConnection when no driver serves the connection's URI.
        """
        if procedure.served_by in _OWN:
            return procedure.served_by
        try:
            return actor_for(procedure.served_by, self.scope)
        except NoDriverForUri as exc:
            raise NoConnection(self.scope) from exc

    async def call(
        self, name: str, args: Mapping[str, object], options: CallOptions, *, destination: str | None = None
    ) -> Called:
        """Calls a procedure by its name in the schema.

        Raises the VirtError that it ends in, UnknownProcedure, and InvalidArguments before anything is sent.
        """
        procedure = need_procedure(name)
        values = complete_args(procedure, args)
        body = pack_args(procedure, values)
        deadline_s = options.get("timeout", procedure.deadline_s)
        if deadline_s is not None and deadline_s <= 0:
            raise DeadlinePassed(f"{name}: the deadline had passed before the call")
        answer: Answer = await self.link.call(
            destination or self.destination(procedure),
            name,
            body,
            scope=self.scope,
            key=key_of(procedure, values),
            deadline_s=deadline_s,
            idempotency_key=options.get("idempotency_key"),
            trace=options.get("trace") or self._new_trace(),
        )
        result = unpack_result(procedure, answer.body)
        return Called(result, answer.source, answer.epoch, answer.seq, answer.ticket)


def complete_args(procedure: Procedure, args: Mapping[str, object]) -> dict[str, object]:
    """The arguments with references in place of objects, and with the defaults of `flags` and `need_results`."""
    values = {name: _reference(value) for name, value in args.items()}
    for field in procedure.args:
        if field.name in _DEFAULTS and field.name not in values:
            values[field.name] = _DEFAULTS[field.name]
    return values


def _reference(value: object) -> object:
    value = getattr(value, "ref", value)
    # The id says nothing about which guest is meant, and a repeated call with an idempotency key must be the same call
    # although the guest runs by now.
    return DomainRef(value.name, value.uuid) if isinstance(value, DomainRef) else value


def key_of(procedure: Procedure, args: Mapping[str, object]) -> bytes | str | None:
    """The object that a call is about: the first argument's uuid or name."""
    if not procedure.args:
        return None
    field = procedure.args[0]
    value = args.get(field.name)
    owner = getattr(value, "dom", None) or getattr(value, "net", None) or value
    key = getattr(owner, "uuid", None) or getattr(owner, "name", None) or owner
    if isinstance(key, bytes) and len(key) == 16:
        return key
    if isinstance(key, str) and (field.name == "name" or key is not value) and len(key.encode()) <= KEY_MAX:
        return key
    return None
