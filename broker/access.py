"""The access policy, as far as native clients are under it."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path

from schema.access_policy import NATIVE, NOBODY, Judge, Person, PolicyError, parse_policy
from util.structured_log import StructuredLog

Access = Callable[[int, str, frozenset[str]], Judge | None]
"""What the policy says of a user, by uid, name and groups; nothing of who stands above it."""


def load_access(path: Path, log: StructuredLog) -> Access:
    """The policy of a file; when it cannot be used nobody may change anything, and the log says why."""
    try:
        policy = parse_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, PolicyError) as exc:
        log.error("the access policy cannot be used, so nobody is let in by it", file=str(path), error=str(exc))
        policy = NOBODY

    def judge(uid: int, name: str, groups: frozenset[str]) -> Judge | None:
        return None if uid in (0, os.geteuid()) else policy.judge(Person(name, groups, "", NATIVE))

    return judge


def group_names(user: str, gid: int) -> frozenset[str]:
    """The names of a user's groups; one that has none goes by its number."""
    found = []
    for number in os.getgrouplist(user, gid):
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            found.append(str(number))
    return frozenset(found)
