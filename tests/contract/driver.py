"""What a driver says about itself to the contract tests: a file `driver_<name>.py` here with a `DRIVER` in it.

A driver without guests gives no documents and has only the tests that every actor passes. What it does not support it
names in `unsupported`, with the procedure's name: a test that needs it is skipped by that word, and a procedure that is
named there and answered nevertheless fails.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.runtime.actor import Actor


@dataclass(frozen=True)
class ContractDriver:
    """One driver as the contract tests see it. `prepare` lays out what the driver needs to find (a fake hypervisor)."""

    actor: Callable[[], Actor[Any]]
    scope: str
    define_xml: Callable[[str, str], str] | None = None
    """A valid definition of a small guest: (name, uuid) -> document."""
    unsupported: Sequence[str] = ()
    prepare: Callable[[Path], None] = field(default=lambda root: None)
    without: Sequence[str] = ()
    """Tests that do not concern it, by name."""
    passes_calls_on: bool = False
    """Whether it has a handler for every call and the answer, also "not supported", is another's."""
    guests_are_files: bool = False
    """Whether a copy of the state folder is all that a kill leaves: no process of a guest runs on."""

    @property
    def name(self) -> str:
        """The actor's name."""
        return self.actor().name


def known_drivers() -> dict[str, ContractDriver]:
    """The drivers that have a file here, by name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("driver_*.py")):
        module = importlib.import_module(f"tests.contract.{path.stem}")
        driver: ContractDriver = module.DRIVER
        found[driver.name] = driver
    return found
