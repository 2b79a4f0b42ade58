"""A control group for an actor's own process, so that the kernel keeps its memory and its number of processes.

Whatever an actor starts is born into its group. Guests and what runs beside them outlive it and are no part of it:
`let_out` moves them to a group beside it. In version 2 a group with controllers for those below may hold no processes
itself, so everything that runs where the agent was started moves one group down first, to `virtroupe-rest`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
OWN: Final = Path("/proc/self/cgroup")
PREFIX: Final = "virtroupe-"
REST: Final = "virtroupe-rest"
_LIMITS: Final = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}
_TRIES: Final = 8


class NoGroup(Exception):
    """This process may not make groups here, or the host has none; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The group of this process for some controllers: its folder, and whether it is one of version 2."""

    folder: Path
    is_unified: bool


def places(mounts: Path = MOUNTS, own: Path = OWN) -> dict[str, Place]:
    """Where this process is, for each controller that limits it. Raises NoGroup where that cannot be read."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        groups = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as exc:
        raise NoGroup(str(exc)) from exc
    paths: dict[str, str] = {}
    for line in groups:
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(",") if names else [""], path))
    found: dict[str, Place] = {}
    for line in lines:
        left, _, right = line.partition(" - ")
        words, (kind, *options) = left.split(), right.split() or [""]
        if len(words) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        root, mount = words[3], Path(words[4])
        if kind == "cgroup":
            for name in set(_LIMITS) & set(options[-1].split(",")) & paths.keys():
                found[name] = Place(_below(mount, root, paths[name]), is_unified=False)
        elif "" in paths:
            folder = _below(mount, root, paths[""])
            for name in set(_LIMITS) - found.keys():
                if name in _words(folder / "cgroup.controllers"):
                    found[name] = Place(folder, is_unified=True)
    if not found:
        raise NoGroup("this host has no control groups for memory and processes")
    return found


def enter(role: str, house: Path, limits: dict[str, int], found: dict[str, Place]) -> None:
    """Moves this process into a group of its own with these limits (`memory` in bytes, `pids`).

    `house` tells the agents of one host apart. Raises NoGroup; then the process is where it was.
    """
    mark = hashlib.sha256(str(house).encode()).hexdigest()[:8]
    name = f"{PREFIX}{mark}-{role}"
    made = []
    try:
        for controller, limit in limits.items():
            place = found.get(controller)
            if place is None:
                raise NoGroup(f"this host has no control groups for {controller}")
            base = outside(place.folder)
            if place.is_unified:
                _offer(base, controller)
            group = base / name
            group.mkdir(mode=0o755, exist_ok=True)
            (group / _LIMITS[controller][place.is_unified]).write_text(str(limit), encoding="ascii")
            made.append(group)
        for group in dict.fromkeys(made):
            (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    except OSError as exc:
        raise NoGroup(f"'{exc.filename}': {exc.strerror}") from exc


def let_out(pid: int, found: dict[str, Place]) -> None:
    """Moves a process that this one started out of its groups, where it has any. Raises OSError."""
    for place in dict.fromkeys(found.values()):
        if place.folder.name.startswith(PREFIX) and place.folder.name != REST:
            base = outside(place.folder)
            target = base / REST if place.is_unified else base
            if place.is_unified:
                target.mkdir(mode=0o755, exist_ok=True)
            (target / "cgroup.procs").write_text(str(pid), encoding="ascii")


def release(pid: int) -> None:
    """The same, where this process is in such a group at all. Raises OSError."""
    try:
        if PREFIX in OWN.read_text(encoding="utf-8", errors="replace"):
            let_out(pid, places())
    except NoGroup as exc:
        raise OSError(errno.ENOENT, str(exc)) from exc


def leave() -> None:
    """This process ends: it goes out of its groups, and they with it. What cannot be removed stays."""
    with contextlib.suppress(OSError, NoGroup):
        found = places()
        release(os.getpid())
        for place in dict.fromkeys(found.values()):
            if place.folder.name.startswith(PREFIX) and place.folder.name != REST:
                place.folder.rmdir()


def outside(folder: Path) -> Path:
    """The group in which those of the agent are made."""
    return folder.parent if folder.name.startswith(PREFIX) else folder


def _below(mount: Path, root: str, path: str) -> Path:
    inside = path[len(root) :] if root != "/" and path.startswith(root) else path
    return mount / inside.lstrip("/")


def _offer(base: Path, controller: str) -> None:
    """Lets groups below a group of version 2 use a controller; whoever is in the group moves down first."""
    control = base / "cgroup.subtree_control"
    for _ in range(_TRIES):
        if controller in _words(control):
            return
        try:
            control.write_text(f"+{controller}", encoding="ascii")
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            rest = base / REST
            rest.mkdir(mode=0o755, exist_ok=True)
            for pid in _words(base / "cgroup.procs"):
                try:
                    (rest / "cgroup.procs").write_text(pid, encoding="ascii")
                except ProcessLookupError:
                    continue
    if controller not in _words(control):
        raise NoGroup(f"'{base}' is never without processes")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
