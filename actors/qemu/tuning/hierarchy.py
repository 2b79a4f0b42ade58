"""Control groups of this host: which controllers there are, where, and how a value is written (cgroups version 1 or 2).

A group is a path below every controller's root (version 1) or the one root (version 2). Nothing here knows a guest.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from schema.errors import DomainStateError, HostSystemError

CONTROLLERS: Final = ("cpu", "cpuacct", "cpuset", "memory", "blkio", "devices")
DEVICES: Final = "devices"
_V2_NAMES: Final = {"cpu": "cpu", "cpuset": "cpuset", "memory": "memory", "blkio": "io"}
_WORDS: Final = {"cpu": "CPU", "cpuacct": "CPUACCT"}
MOUNTS: Final = Path("/proc/self/mountinfo")


@cache
def host_hierarchy() -> Hierarchy:
    """The controllers of this host, which are mounted once."""
    return Hierarchy.of_host()


class Hierarchy:
    """The mounted controllers: by name in version 1, one root for all in version 2."""

    def __init__(self, version1: dict[str, Path], version2: Path | None, named: Path | None = None) -> None:
        self.version1 = version1
        self.version2 = version2
        self.named = named
        """Where systemd keeps its own groups on a host with version 1."""

    @classmethod
    def of_host(cls, mounts: Path = MOUNTS) -> Hierarchy:
        """What is mounted on this host; nothing where that cannot be read."""
        found: dict[str, Path] = {}
        unified: Path | None = None
        named: Path | None = None
        try:
            lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            left, _, right = line.partition(" - ")
            kind, _, options = right.partition(" ")
            place = Path(left.split()[4]) if len(left.split()) > 4 else None
            if place is None:
                continue
            if kind == "cgroup":
                words = options.rpartition(" ")[2].split(",")
                found.update({name: place for name in CONTROLLERS if name in words})
                named = place if "name=systemd" in words else named
            elif kind == "cgroup2":
                unified = place
        return cls(found, unified, named)

    def is_version2(self, controller: str) -> bool:
        """Whether the controller is one of version 2."""
        return controller not in self.version1

    def has(self, controller: str) -> bool:
        """Whether the controller can be used."""
        if controller in self.version1:
            return True
        if controller == DEVICES:
            return self.version2 is not None  # programs say there what may be opened
        name = _V2_NAMES.get(controller)
        if self.version2 is None or name is None:
            return False
        try:
            return name in (self.version2 / "cgroup.controllers").read_text(encoding="ascii").split()
        except OSError:
            return False

    def need(self, controller: str) -> None:
        """Raises DomainStateError when the controller cannot be used."""
        if not self.has(controller):
            raise _not_mounted(controller)

    def folder(self, controller: str, group: str) -> Path:
        """A group's folder of one controller."""
        root = self.version1.get(controller) or self.version2
        if root is None:
            raise _not_mounted(controller)
        return root / group

    def make(self, controller: str, group: str) -> Path:
        """The same; made, with all groups above it, when it is not there. Raises HostSystemError."""
        folder = self.folder(controller, group)
        if self._is_ready(controller, folder):
            return folder
        root = self.version1.get(controller) or self.version2
        assert root is not None
        above = root
        for word in Path(group).parts:
            if self.is_version2(controller) and controller in _V2_NAMES:
                _enable(above, _V2_NAMES[controller])
            above /= word
            try:
                above.mkdir(mode=0o755, exist_ok=True)
            except OSError as exc:
                raise HostSystemError(exc.errno or 0, f"Failed to create controller {controller} for group") from exc
            if controller == "cpuset" and not self.is_version2(controller):
                _inherit_cpuset(above)
        return folder

    def _is_ready(self, controller: str, folder: Path) -> bool:
        if not folder.is_dir():
            return False
        # in version 2 a group is there for all controllers, but has those alone that the one above offers
        name = _V2_NAMES.get(controller)
        if not self.is_version2(controller) or name is None:
            return True
        return name in (read(folder / "cgroup.controllers") or "").split()

    def join(self, controller: str, group: str, pid: int) -> None:
        """Moves a process with all its threads into a group. Raises HostSystemError."""
        write(self.folder(controller, group) / "cgroup.procs", str(pid))

    def join_thread(self, controller: str, group: str, thread: int) -> None:
        """Moves one thread into a group. Raises HostSystemError; nothing when the thread is gone."""
        name = "cgroup.threads" if self.is_version2(controller) else "tasks"
        try:
            write(self.folder(controller, group) / name, str(thread))
        except HostSystemError as exc:
            if exc.int1 != 3:  # ESRCH
                raise

    def make_threaded(self, controller: str, group: str, child: str) -> Path:
        """A group of single threads below a group of processes. Raises HostSystemError."""
        if not self.is_version2(controller):
            return self.make(controller, f"{group}/{child}")
        folder = self.folder(controller, group) / child
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"Failed to create controller {controller} for group") from exc
        if read(folder / "cgroup.type") != "threaded":
            write(folder / "cgroup.type", "threaded")
        _enable(folder.parent, _V2_NAMES[controller])
        return folder

    def remove(self, group: str) -> None:
        """Removes an empty group and those below it everywhere; what is not there or not empty stays."""
        roots = set(self.version1.values()) | ({self.version2} if self.version2 is not None else set())
        for root in roots:
            folder = root / group
            try:
                below = [one for one in folder.iterdir() if one.is_dir()]
            except OSError:
                continue
            for one in (*below, folder):
                try:
                    one.rmdir()
                except OSError:
                    break

    def groups(self, parent: str) -> set[str]:
        """The names of the groups below a group, in all controllers."""
        roots = set(self.version1.values()) | ({self.version2} if self.version2 is not None else set())
        found = set()
        for root in roots:
            try:
                found |= {one.name for one in (root / parent).iterdir() if one.is_dir()}
            except OSError:
                continue
        return found


def _not_mounted(controller: str) -> DomainStateError:
    return DomainStateError(f"cgroup {_WORDS.get(controller, controller)} controller is not mounted")


def _enable(folder: Path, controller: str) -> None:
    """Offers a controller of version 2 to the groups below. Raises HostSystemError."""
    path = folder / "cgroup.subtree_control"
    if controller not in (read(path) or "").split():
        write(path, f"+{controller}")


def _inherit_cpuset(folder: Path) -> None:
    """A new group of version 1 has no processors and no memory: it gets what the one above has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(folder / name):
            write(folder / name, read(folder.parent / name) or "")


def read(path: Path) -> str | None:
    """What a file says; None when there is no such file."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def write(path: Path, value: str) -> None:
    """Raises HostSystemError when the kernel refuses."""
    try:
        path.write_text(value, encoding="ascii")
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Unable to write to '{path}'") from exc
