"""The speed of a block job, as callers say it: MiB per second, or bytes where they ask for it."""

from __future__ import annotations

from typing import Final

from schema.errors import InvalidArguments, NumericOverflow

MIB: Final = 1 << 20
LONG_MAX: Final = (1 << 63) - 1


def speed_of(bandwidth: int, *, in_bytes: bool) -> int:
    """Bytes per second. Raises NumericOverflow for what QEMU cannot be told."""
    if in_bytes:
        if bandwidth > LONG_MAX:
            raise InvalidArguments(f"bandwidth must be less than '{LONG_MAX}' bytes/s")
        return bandwidth
    if bandwidth > LONG_MAX >> 20:
        raise NumericOverflow(f"bandwidth must be less than {LONG_MAX >> 20}")
    return bandwidth << 20


def shown_speed(speed: int, *, in_bytes: bool) -> int:
    """A speed as the caller wants to see it."""
    return speed if in_bytes else -(-speed // MIB)
