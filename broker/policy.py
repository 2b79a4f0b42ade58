"""Who may call what, decided from the prologue alone, before any argument is read.

Pure. A read-only connection is refused whatever could change something; a procedure whose refusal depends on its
arguments is let through with the caller marked read-only, and the driver, which reads the arguments, refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schema.access_policy import Judge
from schema.errors import AccessDenied, OperationDenied, UnknownProcedure, VirtError
from schema.model import Permission, Procedure, ReadOnly


class CallerKind(StrEnum):
    """Where a caller comes from; the door knows it, not the caller."""

    CLIENT = "client"
    GATEWAY = "gateway"
    ACTOR = "actor"
    WARDEN = "warden"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the broker has to know of a procedure."""

    name: str
    is_read: bool
    refused_read_only: bool
    served_by: str
    function: str
    permissions: tuple[Permission, ...] = ()
    is_free: bool = False  # anybody may ask it at the read-only door, with any arguments


ONLY_FROM: Final = {
    "broker_actor_state": CallerKind.WARDEN,
    "warden_actor_ensure": CallerKind.BROKER,
    "warden_actor_gone": CallerKind.BROKER,
    "warden_actor_ready": CallerKind.BROKER,
}
ADDRESSED: Final = frozenset({"broker", "warden"})  # what these serve, they alone serve, and nothing else


class Policy:
    """The rules, each read from the schema at its first use."""

    def __init__(self, names: frozenset[str], find: Callable[[str], Procedure | None]) -> None:
        self._names = names
        self._find = find
        self._rules: dict[str, Rule] = {}

    def need_rule(self, name: str) -> Rule:
        """The rule of a procedure. Raises UnknownProcedure."""
        rule = self._rules.get(name)
        if rule is None:
            procedure = self._find(name) if name in self._names else None
            if procedure is None:
                raise UnknownProcedure(name)
            rule = self._rules[name] = Rule(
                name,
                procedure.is_read,
                procedure.ro is ReadOnly.REFUSED,
                procedure.served_by,
                procedure.function,
                procedure.acl,
                procedure.is_read and procedure.ro is ReadOnly.ALLOWED,
            )
        return rule

    def find_refusal(self, rule: Rule, kind: CallerKind, read_only: bool, destination: str) -> VirtError | None:
        """Why this caller may not make this call there, or None when it may."""
        if read_only and rule.refused_read_only:
            return OperationDenied(f"read only access prevents {rule.function}")
        if rule.served_by in ADDRESSED or destination in ADDRESSED:
            return self._find_platform_refusal(rule, kind, destination)
        return None

    @staticmethod
    def find_judgement(rule: Rule, judge: Judge) -> VirtError | None:
        """Why the access policy does not let a native client make this call, or None when it does.

        Which object is meant stands in the arguments, which the broker does not read: every permission that the call
        may need has to be the caller's on all objects. What anybody may ask at the read-only door is free.
        """
        if rule.is_free:
            return None
        if rule.served_by in ADDRESSED:
            return AccessDenied(f"'{rule.name}' is for root and the agent's own user")
        needed = rule.permissions
        if needed and all(judge.may(permission.object, permission.name) for permission in needed):
            return None
        return AccessDenied()

    @staticmethod
    def _find_platform_refusal(rule: Rule, kind: CallerKind, destination: str) -> VirtError | None:
        if rule.served_by != destination:
            return UnknownProcedure(rule.name)
        only = ONLY_FROM.get(rule.name)
        if only is not None and kind is not only:
            return AccessDenied(f"'{rule.name}' is a call of the {only} alone")
        if kind is CallerKind.ACTOR and not rule.is_read:
            return AccessDenied(f"an actor may not call '{rule.name}'")
        return None
