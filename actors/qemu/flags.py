"""The flags that each function knows, and which of a guest's two definitions they mean."""

from __future__ import annotations

from typing import Final

from actors.qemu.guest import Guest
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import DomainStateError, InvalidArguments, UnsupportedFlags

AFFECT: Final = int(Impact.LIVE | Impact.CONFIG)


def check_flags(flags: int, known: int, function: str) -> None:
    """Raises UnsupportedFlags when `flags` holds a bit besides the known ones; `function` is how libvirt names it."""
    if unknown := flags & ~known:
        raise UnsupportedFlags(unknown, function)


def check_apart(flags: int, first: int, first_name: str, second: int, second_name: str) -> None:
    """Raises InvalidArguments when both flags are set."""
    if flags & first and flags & second:
        error = InvalidArguments()
        error.message = f"Flags '{first_name}' and '{second_name}' are mutually exclusive"
        raise error


def impact(guest: Guest, flags: int) -> int:
    """Whether a change concerns the running guest, its configuration, or both; neither flag means what there is.

    Raises DomainStateError when that does not exist.
    """
    wanted = flags & AFFECT or (Impact.LIVE if guest.is_active else Impact.CONFIG)
    if wanted & Impact.LIVE and not guest.is_active:
        raise DomainStateError("domain is not running")
    if wanted & Impact.CONFIG and not guest.is_persistent:
        raise DomainStateError("transient domains do not have any persistent config")
    return int(wanted)


def one_impact(guest: Guest, flags: int) -> int:
    """The same for a read, which can look at one definition only."""
    check_apart(flags, Impact.LIVE, "VIR_DOMAIN_AFFECT_LIVE", Impact.CONFIG, "VIR_DOMAIN_AFFECT_CONFIG")
    return impact(guest, flags)
