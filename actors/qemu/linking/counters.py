"""What an interface has carried, seen from its guest."""

from __future__ import annotations

from typing import Final

from actors.qemu.taps import link_counters
from conf.domain.interface import Interface, InterfaceType

_NAMES: Final = {"bytes": "bytes", "packets": "packets", "errs": "errors", "drop": "dropped"}


def guest_counters(interface: Interface, name: str) -> dict[str, int]:
    """The counters of an interface whose host end has this name. Raises HostSystemError when there is no such link."""
    counters = link_counters(name)
    # what the host's end of a tap receives, the guest has sent; but what comes to a macvtap device is for the guest
    is_direct = interface.type is InterfaceType.DIRECT
    other = {"rx": "rx", "tx": "tx"} if is_direct else {"rx": "tx", "tx": "rx"}
    return {
        f"{way}_{name}": counters[f"{other[way]}_{theirs}"] for way in ("rx", "tx") for name, theirs in _NAMES.items()
    }
