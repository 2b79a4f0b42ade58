"""Refusing flags that a call does not know."""

from __future__ import annotations

from actors.runtime.context import current_call
from schema.errors import UnsupportedFlags


def check_flags(flags: int, known: int) -> None:
    """Raises UnsupportedFlags for bits that mean nothing to the call that is being answered."""
    unknown = flags & ~known
    if unknown:
        raise UnsupportedFlags(unknown, current_call().procedure.function)
