"""What stands before the subcommand: which agent, which driver, and for whom the output is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from settings.paths import Paths


@dataclass(slots=True)
class Options:
    """The options of the whole command."""

    root: Path | None = None
    uri: str | None = None
    json: bool = False
    read_only: bool = False

    @property
    def paths(self) -> Paths:
        """Where the agent's sockets and folders are."""
        from settings.paths import resolve_paths

        return resolve_paths(self.root)


def options(ctx: typer.Context) -> Options:
    """The options in force for a subcommand."""
    found = ctx.find_object(Options)
    if found is None:
        found = ctx.obj = Options()
    return found
