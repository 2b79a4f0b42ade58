"""What lists and states answer of a guest: the summary that events carry, and its selection by list flags.

The same map travels in events, snapshots and the gateway's read model, so that a list from a replica and a list from
the driver are the same. Source of the flags: libvirt's virConnectListAllDomainsFlags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NotRequired, TypedDict

from schema.enums.connect import ConnectListAllDomainsFlags as Listed
from schema.enums.domain_state import DomainState


class DomainSummary(TypedDict):
    """What is told of a guest without asking its hypervisor. Memory in KiB, `since` in seconds of wall time."""

    id: int
    state: int
    reason: int
    persistent: bool
    autostart: bool
    managed_save: bool
    os_type: str
    max_mem: int
    mem: int
    vcpus: int
    title: str | None
    scope: str
    snapshots: int
    checkpoints: int
    since: float
    tags: NotRequired[list[str]]  # left out where there are none


_Test = Callable[[DomainSummary], bool]

# Flags of one group select what fits any of them; a group without a flag selects everything.
_GROUPS: Final[tuple[tuple[tuple[int, _Test], ...], ...]] = (
    ((Listed.ACTIVE, lambda s: s["id"] != -1), (Listed.INACTIVE, lambda s: s["id"] == -1)),
    ((Listed.PERSISTENT, lambda s: s["persistent"]), (Listed.TRANSIENT, lambda s: not s["persistent"])),
    (
        (Listed.RUNNING, lambda s: s["state"] == DomainState.RUNNING),
        (Listed.PAUSED, lambda s: s["state"] == DomainState.PAUSED),
        (Listed.SHUTOFF, lambda s: s["state"] == DomainState.SHUTOFF),
        (
            Listed.OTHER,
            lambda s: s["state"] not in (DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF),
        ),
    ),
    ((Listed.MANAGEDSAVE, lambda s: s["managed_save"]), (Listed.NO_MANAGEDSAVE, lambda s: not s["managed_save"])),
    ((Listed.AUTOSTART, lambda s: s["autostart"]), (Listed.NO_AUTOSTART, lambda s: not s["autostart"])),
    ((Listed.HAS_SNAPSHOT, lambda s: s["snapshots"] > 0), (Listed.NO_SNAPSHOT, lambda s: s["snapshots"] == 0)),
    ((Listed.HAS_CHECKPOINT, lambda s: s["checkpoints"] > 0), (Listed.NO_CHECKPOINT, lambda s: s["checkpoints"] == 0)),
)
LIST_DOMAINS_FLAGS: Final = sum(int(flag) for group in _GROUPS for flag, _ in group)
"""Every flag that `connect_list_all_domains` knows."""


def domain_selection(flags: int) -> Callable[[DomainSummary], bool]:
    """Whether a guest is in the list that these flags ask for."""
    wanted = [
        [test for flag, test in group if flags & flag] for group in _GROUPS if any(flags & flag for flag, _ in group)
    ]
    if not wanted:
        return lambda summary: True
    return lambda summary: all(any(test(summary) for test in group) for group in wanted)
