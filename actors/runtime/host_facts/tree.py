"""The kernel's folders that tell about the host, below a place that a test may choose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from util.cpuset import parse_cpuset

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE: Final = re.compile(r"(\d+)([KMG]?)\Z").match


@dataclass(frozen=True, slots=True)
class HostTree:
    """Where the kernel's files are. What is not there, or cannot be read, counts as not told."""

    system: Path = field(default=Path("/sys/devices/system"))
    resctrl: Path = field(default=Path("/sys/fs/resctrl"))

    def text(self, path: Path) -> str | None:
        """The text of a file; None where it is not told."""
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def number(self, path: Path) -> int | None:
        """The number in a file; None where it is not told."""
        found = self.text(path)
        try:
            return None if found is None else int(found)
        except ValueError:
            return None

    def size(self, path: Path) -> int:
        """The bytes that a file tells as `32K`; 0 where it is not told."""
        match = _SIZE(self.text(path) or "")
        return int(match[1]) * _UNITS[match[2]] if match else 0

    def cpuset(self, path: Path) -> frozenset[int] | None:
        """The processors that a file names; None where it is not told."""
        found = self.text(path)
        if not found:
            return None if found is None else frozenset()
        try:
            return parse_cpuset(found)
        except ValueError:
            return None

    def numbered(self, folder: Path, name: str) -> Iterator[tuple[int, Path]]:
        """The entries of a folder that are called `name` and a number, by number."""
        found = []
        try:
            for path in folder.iterdir():
                number = path.name.removeprefix(name)
                if path.name.startswith(name) and number.isascii() and number.isdecimal():
                    found.append((int(number), path))
        except OSError:
            return
        yield from sorted(found)

    def online(self) -> list[int]:
        """The processors that run."""
        told = self.cpuset(self.system / "cpu" / "online")
        if told is not None:
            return sorted(told)
        cpus = self.numbered(self.system / "cpu", "cpu")
        return [number for number, path in cpus if self.number(path / "online") != 0]
