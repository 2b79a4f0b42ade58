"""Who is under the policy, and the log of what was decided."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import Any

from schema.access_policy import NOBODY, Judge, Person, Policy, PolicyError, Thing, parse_policy
from schema.model import Permission, Procedure
from util.structured_log import StructuredLog


class Access:
    """The policy of one file. Root and the agent's own user stand above it: they could rewrite it."""

    def __init__(self, policy: Policy, log: StructuredLog, *, log_allowed: bool = False) -> None:
        self._policy = policy
        self._log = log
        self.log_allowed = log_allowed

    def judge_for(self, caller: dict[str, Any]) -> Judge | None:
        """What the policy says of a caller; nothing when the caller stands above it."""
        if caller["uid"] in (0, os.geteuid()):
            return None
        groups = _groups(caller["user"], caller["gid"]) if caller["uid"] >= 0 else frozenset()
        via = caller["via"].partition("+")[2] or "unix"
        return self._policy.judge(Person(caller["user"], groups, caller.get("x509", ""), via, caller.get("sasl", "")))

    def refused(
        self, caller: dict[str, Any], procedure: Procedure, permission: Permission, thing: Thing | None
    ) -> None:
        """Logs what was refused."""
        self._log.warning("access refused", **_words(caller, procedure, permission, thing))

    def allowed(self, caller: dict[str, Any], procedure: Procedure, permission: Permission, thing: Thing) -> None:
        """Logs what was allowed, where that is wanted."""
        if self.log_allowed:
            self._log.info("access allowed", **_words(caller, procedure, permission, thing))


def load_access(path: Path, log: StructuredLog, *, log_allowed: bool) -> Access:
    """The policy of a file; when it cannot be used nobody may do anything, and the log says why."""
    try:
        policy = parse_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, PolicyError) as exc:
        log.error("the access policy cannot be used, so nobody is let in by it", file=str(path), error=str(exc))
        policy = NOBODY
    return Access(policy, log, log_allowed=log_allowed)


def _words(caller: dict[str, Any], procedure: Procedure, permission: Permission, thing: Thing | None) -> dict[str, Any]:
    return {
        "who": caller.get("sasl") or caller.get("x509") or caller["user"] or caller.get("address", ""),
        "uid": caller["uid"],
        "permission": f"{permission.object}:{permission.name}",
        "call": procedure.name,
        "name": thing.name or None if thing is not None else None,
        "uuid": thing.uuid or None if thing is not None else None,
        "tags": ",".join(thing.tags) or None if thing is not None else None,
    }


def _groups(user: str, gid: int) -> frozenset[str]:
    found = []
    for number in os.getgrouplist(user, gid):
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            found.append(str(number))
    return frozenset(found)
