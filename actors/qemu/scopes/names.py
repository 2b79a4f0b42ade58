"""What systemd and its register of machines call a guest: the names that libvirt gives."""

from __future__ import annotations

import hashlib
import string
from pathlib import Path
from typing import Final

_HOST_NAME: Final = frozenset(string.ascii_letters + string.digits + "-.")
_UNIT_NAME: Final = frozenset(string.ascii_letters + string.digits + ":_.")
_LENGTH_MAX: Final = 64
"""Of a host's name, which a machine's name has to be."""
DEFAULT_SLICE: Final = "machine.slice"


def machine_name(number: int, name: str, house: Path | None = None) -> str:
    """A guest's name in the register of machines; with `house` one that no other agent gives."""
    mark = "" if house is None else f"{hashlib.sha256(str(house).encode()).hexdigest()[:8]}-"
    found = f"qemu-{mark}{number}-"
    starts = True
    for letter in name:
        if letter not in _HOST_NAME or (starts and letter in "-."):
            continue  # what a host's name cannot have there
        if len(found) >= _LENGTH_MAX:
            break
        found += letter
        starts = letter in "-."
    return found.rstrip("-.")


def scope_name(machine: str) -> str:
    """The unit in which a machine's processes are."""
    return f"machine-{escape(machine)}.scope"


def slice_name(partition: str) -> str:
    """The unit below which the scopes of a partition are: `/machine/web` is `machine-web.slice`."""
    words = [escape(word) for word in partition.split("/") if word]
    return f"{'-'.join(words)}.slice" if words else DEFAULT_SLICE


def escape(text: str) -> str:
    """As systemd writes a text in a unit's name."""
    found = ""
    for letter in text:
        if letter in _UNIT_NAME and (found or letter != "."):
            found += letter
        else:
            found += "".join(f"\\x{byte:02x}" for byte in letter.encode())
    return found
