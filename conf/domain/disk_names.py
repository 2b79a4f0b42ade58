"""Names of disks in the guest, and the places that they stand for."""

from __future__ import annotations

import re

_NAME = re.compile(r"(fd|hd|vd|sd|xvd|ubd)([a-z]+)([0-9]*)\Z").match
_LETTERS = 26


def disk_index(name: str) -> int | None:
    """Which disk of its bus a name means: 0 for `sda`, 26 for `sdaa`; None for other names."""
    match = _NAME(name)
    if match is None or len(match[2]) > 4:
        return None
    index = 0
    for letter in match[2]:
        index = index * _LETTERS + (ord(letter) - ord("a") + 1)
    return index - 1


def is_disk_name(name: str) -> bool:
    """Is the name one that disks have?"""
    return _NAME(name) is not None


def disk_name(prefix: str, index: int) -> str:
    """The name of a bus's disk: `sdaa` for the 26th."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, _LETTERS)
        letters = chr(ord("a") + rest) + letters
    return prefix + letters
