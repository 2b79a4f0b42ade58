"""The places in which real tests of the QEMU driver run: a folder, the driver in it, and a real libvirtd beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.contract.house import House, open_house
from tests.process.ending import end_processes_below
from tests.real.guest import needs_qemu

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    end_processes_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def libvirtd(root: Path) -> Iterator[Libvirtd]:
    try:
        with Libvirtd(root / "d") as daemon:
            yield daemon
    except CannotRun as exc:
        pytest.skip(str(exc))


@pytest.fixture
async def house(root: Path) -> AsyncIterator[House]:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root / "o") as house:
        yield house


async def do(house: House, procedure: str, **arguments: Any) -> Any:
    """Awaits a call, on a busy host too."""
    call = house.post(procedure, **arguments, deadline_s=None)
    async with asyncio.timeout(60):
        return await house.outcome(call)
