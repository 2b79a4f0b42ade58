"""A guest gets a scope of systemd's: a unit of its own, which lives on when the agent's unit stops.

Below the scope everything is ours (systemd calls that delegated). With control groups of version 2 a group whose
children have limits may hold no processes itself, so the guest's are one group further down, in `libvirt`, which is
where libvirt has them. Where systemd runs this host, but nobody makes scopes, guests are in groups of our own making.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from actors.qemu.scopes import bus
from actors.qemu.scopes.bus import Machine, NameTaken, NobodyThere
from actors.qemu.scopes.groups import group_of_process
from actors.qemu.scopes.names import machine_name, scope_name, slice_name
from actors.qemu.tuning.hierarchy import host_hierarchy
from conf.domain.domain import Domain
from schema.errors import HostSystemError

INSIDE: Final = "libvirt"
_MOVED_S: Final = 20.0
_LOOK_S: Final = 0.01


def are_wanted() -> bool:
    """Whether guests get scopes on this host."""
    return os.geteuid() == 0 and bus.is_there()


def place_guest(live: Domain, house: Path, number: int, pid: int, helpers: Sequence[int]) -> str:
    """Gives a guest a scope, and moves it and its helpers there; the path of its groups.

    Raises HostSystemError, and NobodyThere on a host without anybody who makes scopes; it is where it was then.
    """
    links = [index for index in map(_index, _links(live)) if index]
    partition = (live.resource.partition if live.resource is not None else None) or ""
    for own in (None, house):
        name = machine_name(number, live.name, own)
        title = f"Virtual Machine {name}"
        machine = Machine(name, scope_name(name), slice_name(partition), live.uuid.bytes, pid, links, title)
        try:
            _make(machine)
            break
        except NameTaken as exc:
            if own is not None:
                raise HostSystemError(0, f"there is a scope '{machine.scope}' already") from exc
    hierarchy = host_hierarchy()
    scope = _wait_for(pid, machine.scope)
    if hierarchy.version1 or hierarchy.version2 is None:
        group, roots = scope, [hierarchy.named]
    else:
        group, roots = f"{scope}/{INSIDE}", [hierarchy.version2]
    for root in roots:
        if root is not None:
            _move(root / scope, root / group, [pid, *helpers])
    return group


def _make(machine: Machine) -> None:
    try:
        bus.register(machine)
    except NobodyThere:
        bus.make_scope(machine)


def _wait_for(pid: int, scope: str) -> str:
    """The path of a scope once the process is in it. Raises HostSystemError."""
    end = time.monotonic() + _MOVED_S
    while time.monotonic() < end:
        place = group_of_process(pid)
        if place.rpartition("/")[2] == scope:
            return place
        time.sleep(_LOOK_S)
    raise HostSystemError(0, f"process {pid} did not come into '{scope}'")


def _move(scope: Path, group: Path, pids: Sequence[int]) -> None:
    """Everything in a scope, and these processes, go into one group of it."""
    try:
        group.mkdir(mode=0o755, exist_ok=True)
        inside = (scope / "cgroup.procs").read_text(encoding="ascii").split() if group != scope else []
        for pid in dict.fromkeys([*inside, *map(str, pids)]):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                (group / "cgroup.procs").write_text(pid, encoding="ascii")
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Unable to move processes into '{group}'") from exc


def _links(live: Domain) -> list[str]:
    return [one.target.dev for one in live.devices.interfaces if one.target is not None and one.target.dev]


def _index(name: str) -> int:
    try:
        return int((Path("/sys/class/net") / name / "ifindex").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
