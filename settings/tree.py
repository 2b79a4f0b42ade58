"""The supervisord configuration of one agent: the template with the agent's paths and the actors that can run here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Final

import settings
from settings.drivers import Driver
from settings.paths import Paths

SUPERVISOR: Final = "supervisord"
"""The role whose lock supervisord itself holds."""

PLATFORM: Final = ("broker", "gateway", "warden")
"""The roles that supervisord starts again by itself."""

_EACH_ACTOR: Final = re.compile(r"^; -+ each actor\n", re.MULTILINE)
_UNFIT: Final = re.compile(r"[\x00-\x1f\"';%]")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


class UnfitPath(ValueError):
    """A folder's name holds what a supervisord configuration cannot say; the text names folder and character."""


def template_path() -> Path:
    """Where the template is: beside the rooms, in a checkout as in an installation."""
    return Path(settings.__file__).resolve().parent.parent / "supervisord.conf"


def render_tree(template: str, paths: Paths, drivers: Iterable[Driver], python: str, *, as_root: bool) -> str:
    """The configuration in force for an agent.

    Raises UnfitPath for a path that supervisord would read as something else.
    """
    for path in (str(paths.run), str(paths.log), python):
        if found := _UNFIT.search(path):
            raise UnfitPath(f"The path '{path}' holds {found[0]!r}, which a supervisord configuration cannot say.")
    values = {
        "run": str(paths.run),
        "log": str(paths.log),
        "python": python if " " not in python else f'"{python}"',
        "user": "user=root" if as_root else "",
    }
    whole, each = _EACH_ACTOR.split(template)
    parts = [Template(whole).substitute(values).rstrip() + "\n"]
    for driver in drivers:
        if _NAME.fullmatch(driver.name) is None:
            raise ValueError(f"'{driver.name}' is no name for an actor")
        text = Template(each).substitute(values, actor=driver.name, module=driver.module)
        parts.append(text.rstrip() + "\n")
    return "\n".join(parts)


def slot_log(paths: Paths, role: str, slot: int | None) -> Path:
    """Where supervisord files what a process of that role writes; an actor has one file for each slot."""
    return paths.log / (f"{role}.log" if slot is None else f"{role}.{slot}.log")


def log_files(paths: Paths, role: str) -> list[Path]:
    """Every log file that a role has now, rotated ones included."""
    pattern = re.compile(rf"{re.escape(role)}(\.[01])?\.log(\.\d+)?")
    try:
        names = [name for name in os.listdir(paths.log) if pattern.fullmatch(name)]  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []
    return [paths.log / name for name in sorted(names)]
