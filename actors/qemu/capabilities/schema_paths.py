"""Looking things up in the schema of QMP that an emulator gives of itself.

A place is written as a path: a command, then `arg-type` or `ret-type`, then members by name; `+kind` is a variant,
`^value` a value of an enumeration, `$name` a feature, `*name` a member that may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class QmpSchema:
    """The answer to `query-qmp-schema`."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = {str(one["name"]): one for one in entries}

    def has(self, path: str) -> bool:
        """The place is there."""
        head, *steps = path.split("/")
        entry = self._entries.get(head)
        return entry is not None and self._holds(entry, steps)

    def _holds(self, entry: Mapping[str, Any], steps: Sequence[str]) -> bool:
        while entry.get("meta-type") == "array":
            inner = self._entries.get(str(entry.get("element-type")))
            if inner is None:
                return False
            entry = inner
        if not steps:
            return True
        step, rest = steps[0], steps[1:]
        if step.startswith("$"):
            return not rest and step[1:] in entry.get("features", ())
        if step.startswith("^"):
            return not rest and step[1:] in entry.get("values", ())
        if step in ("arg-type", "ret-type"):
            return self._follows(entry.get(step), rest)
        if step.startswith("+"):
            return any(
                one.get("case") == step[1:] and self._follows(one.get("type"), rest)
                for one in entry.get("variants", ())
            )
        name = step.removeprefix("*")
        for member in entry.get("members", ()):
            if member.get("name") == name and (not step.startswith("*") or "default" in member):
                if rest and rest[0].startswith("$"):
                    return len(rest) == 1 and rest[0][1:] in member.get("features", ())
                return self._follows(member.get("type"), rest)
        return False

    def _follows(self, name: Any, steps: Sequence[str]) -> bool:
        entry = self._entries.get(str(name))
        return entry is not None and self._holds(entry, steps)
