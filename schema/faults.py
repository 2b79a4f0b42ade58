"""Saying in our words what msgspec found wrong with a body: which procedure, which field, what was expected."""

from __future__ import annotations

import re
from typing import Final

from schema.model import Field

_PATH: Final = re.compile(r"(?s)(.*) - at `\$(.*)`$")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_FIRST_NAME: Final = re.compile(r"\.(\w+)(.*)$")


def fault_of(exc: Exception, owner: str, word: str, fields: tuple[Field, ...], name: str | None = None) -> str:
    """`owner: word 'field': what is wrong`; `name` is the field where the exception itself cannot tell."""
    text = "not valid UTF-8" if isinstance(exc, UnicodeError) else str(exc)
    if name is not None:
        return f"{owner}: {word} '{name}': {_in_a_sentence(text)}"
    where = ""
    match = _PATH.match(text)
    if match is not None:
        text, where = match.groups()
    missing = _MISSING.match(text)
    if missing is not None and not where:
        return f"{owner}: missing {word} '{missing[1]}'"
    unknown = _UNKNOWN.match(text)
    if unknown is not None and not where:
        names = ", ".join(f"'{field.name}'" for field in fields) or "none"
        return f"{owner}: unknown {word} '{unknown[1]}', there are {names}"
    reason = _in_a_sentence(text)
    inner = _FIRST_NAME.match(where)
    if inner is None:
        return f"{owner}: {reason}"
    name, rest = inner.groups()
    return f"{owner}: {word} '{name}': {reason}" + (f" at '{name}{rest}'" if rest else "")


def _in_a_sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
