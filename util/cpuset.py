"""Sets of processor numbers: as text (`0-3,^2,8`), as bits (number 0 is the lowest bit of the first byte), as sets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

HIGHEST: Final = 16384
_PART: Final = re.compile(r"\s*(\^?)(\d{1,7})(?:-(\d{1,7}))?\s*\Z").match


def parse_cpuset(text: str) -> frozenset[int]:
    """The numbers that a text names; later parts with `^` take numbers away.

    Raises ValueError for anything else, and for numbers above `HIGHEST`.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _PART(part)
        if match is None:
            raise ValueError(text)
        first = int(match[2])
        last = first if match[3] is None else int(match[3])
        if last < first or last > HIGHEST or (match[1] and match[3] is not None):
            raise ValueError(text)
        if match[1]:
            found.discard(first)
        else:
            found.update(range(first, last + 1))
    return frozenset(found)


def write_cpuset(numbers: Iterable[int]) -> str:
    """The shortest text that names these numbers; empty for none."""
    parts: list[str] = []
    first = last = -2
    for number in sorted(numbers):
        if number == last + 1:
            last = number
            continue
        _add_range(parts, first, last)
        first = last = number
    _add_range(parts, first, last)
    return ",".join(parts)


def cpuset_from_bits(bits: bytes) -> frozenset[int]:
    """The numbers whose bits are set."""
    return frozenset(8 * place + bit for place, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1)


def bits_from_cpuset(numbers: Iterable[int], length: int) -> bytes:
    """So many bytes with the bits of these numbers set; numbers beyond them are left out."""
    bits = bytearray(length)
    for number in numbers:
        if number < 8 * length:
            bits[number // 8] |= 1 << number % 8
    return bytes(bits)


def _add_range(parts: list[str], first: int, last: int) -> None:
    if first >= 0:
        parts.append(str(first) if first == last else f"{first}-{last}")
