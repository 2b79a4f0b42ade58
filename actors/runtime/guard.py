"""Keeps an actor's process from importing another actor: installed before anything else in each `__main__`.

import-linter sees what is written, this sees what is run: a name put together at run time, or a third party's driver.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

ROOM: Final = "actors"
SHARED: Final = "actors.runtime"


class SiblingImport(ImportError):
    """A driver tried to import another driver."""


class ImportGuard:
    """A finder that finds nothing, and refuses the siblings of one driver."""

    def __init__(self, own: str) -> None:
        self.own = own

    def is_sibling(self, name: str) -> bool:
        """Whether a module belongs to another driver."""
        if not name.startswith(f"{ROOM}."):
            return False
        return not any(_is_inside(name, room) for room in (SHARED, self.own)) and not _is_inside(self.own, name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raises SiblingImport for a module of another driver; leaves every other one to the finders behind."""
        if self.is_sibling(fullname):
            raise SiblingImport(f"'{self.own}' may not import '{fullname}': drivers meet through the broker only")
        return None


def seal_imports(own: str) -> None:
    """From here on this process imports no driver but `own` (`actors.qemu`).

    Raises SiblingImport when another one is loaded already.
    """
    guard = ImportGuard(own)
    for name in sorted(sys.modules):
        if guard.is_sibling(name):
            raise SiblingImport(f"'{own}' runs in a process that has loaded '{name}'")
    sys.meta_path.insert(0, guard)


def _is_inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")
