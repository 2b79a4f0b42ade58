"""The flags that each function knows, and which of a guest's two definitions they mean."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import DomainStateError, ErrorDomain, InvalidArguments, UnsupportedFlags

E = TypeVar("E", bound=IntEnum)
AFFECT = int(Impact.LIVE | Impact.CONFIG)


def check_flags(flags: int, known: int, function: str) -> None:
    """Raises UnsupportedFlags when `flags` holds a bit besides the known ones; `function` is how libvirt names it."""
    if unknown := flags & ~int(known):
        raise UnsupportedFlags(unknown, function)


def check_one_of(flags: int, first: int, first_name: str, second: int, second_name: str) -> None:
    """Raises InvalidArguments when both flags are set."""
    if flags & first and flags & second:
        error = InvalidArguments(domain=ErrorDomain.DOMAIN, int1=0, int2=0)
        error.message = f"Flags '{first_name}' and '{second_name}' are mutually exclusive"
        error.str1, error.str2 = "virDomainObjGetOneDefState", "flags"
        raise error


def impact(flags: int, *, active: bool, persistent: bool) -> int:
    """Whether a change concerns the running guest, its configuration, or both; neither flag means what there is.

    Raises DomainStateError when that does not exist.
    """
    wanted = flags & AFFECT or (Impact.LIVE if active else Impact.CONFIG)
    if wanted & Impact.LIVE and not active:
        raise DomainStateError("domain is not running", domain=ErrorDomain.DOMAIN)
    if wanted & Impact.CONFIG and not persistent:
        raise DomainStateError("transient domains do not have any persistent config", domain=ErrorDomain.DOMAIN)
    return int(wanted)


def one_impact(flags: int, *, active: bool, persistent: bool) -> int:
    """The same for a read, which can look at one definition only."""
    check_one_of(flags, Impact.LIVE, "VIR_DOMAIN_AFFECT_LIVE", Impact.CONFIG, "VIR_DOMAIN_AFFECT_CONFIG")
    return impact(flags, active=active, persistent=persistent)


def find_member(kind: type[E], value: int) -> E | None:
    """The member of an enum with this value, if there is one."""
    try:
        return kind(value)
    except ValueError:
        return None
