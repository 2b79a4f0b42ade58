"""Every procedure of a hypervisor is answered by a driver, or stands in its list of those that are not.

The lists in `unsupported/` may only become shorter. `python -m tests.architecture.test_procedures` writes them anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from schema.table import all_procedures

FOLDER = Path(__file__).parent / "unsupported"
DRIVERS = ("qemu", "test")
CONNECTIONS_OWN = re.compile(r"connect_.*(register|close_callback|set_identity)")
"""What a connection answers itself, whatever driver is behind it: registrations for events."""
PROGRAMS = {"qemu": ("remote", "qemu"), "test": ("remote",)}


def actor_of(driver: str) -> Any:
    """The driver's table."""
    if driver == "qemu":
        from actors.qemu.driver import QemuActor

        return QemuActor()
    from actors.test.driver import TestActor

    return TestActor()


def unsupported(driver: str) -> list[str]:
    """The hypervisor's procedures that the driver does not answer."""
    handled = set(actor_of(driver).handlers())
    asked = {p.name for p in all_procedures() if p.served_by == "hypervisor" and p.program in PROGRAMS[driver]}
    return sorted(name for name in asked - handled if not CONNECTIONS_OWN.match(name))


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_procedure_is_answered_or_listed(driver: str) -> None:
    listed = (FOLDER / f"{driver}.txt").read_text(encoding="ascii").split()
    missing = unsupported(driver)
    assert set(missing) - set(listed) == set(), "answered once, and not any more"
    assert set(listed) - set(missing) == set(), "answered now: take them off the list"


def test_the_lists_name_procedures_that_exist() -> None:
    known = {p.name for p in all_procedures()}
    for path in FOLDER.glob("*.txt"):
        assert set(path.read_text(encoding="ascii").split()) <= known


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or DRIVERS:
        (FOLDER / f"{name}.txt").write_text("\n".join(unsupported(name)) + "\n", encoding="ascii")
