"""Refusing flags that a call does not know."""

from __future__ import annotations

from typing import Final

from actors.runtime.context import current_call
from actors.runtime.host import Host
from schema.errors import UnsupportedFlags

_PREFIXES: Final = {"node_device": "node", "interface": "udev"}


def check_flags(host: Host, flags: int, known: int) -> None:
    """Raises UnsupportedFlags for bits that mean nothing to the call; with the function named as libvirt does."""
    unknown = flags & ~known
    if unknown:
        function = current_call().procedure.function
        driver = host.runtime.name
        raise UnsupportedFlags(unknown, _PREFIXES.get(driver, driver) + function.removeprefix("vir"))
