"""Memory in files that are packed, or written past the host's cache; libvirt's packed files are read."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.saved.header import PARTIAL
from actors.qemu.saved.image import read_header
from actors.qemu.saved.streams import FORMATS
from schema.enums.domain import DomainSaveRestoreFlags as SaveFlags
from schema.enums.domain_state import DomainState
from schema.errors import InvalidArguments, OperationFailed
from schema.objects import TypedParam
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.contract.house import House, open_house
from tests.real.guest import RealGuest, needs_qemu

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


@pytest.fixture
def root() -> Iterator[Path]:
    # not in memory: not every such file system can be written past the cache
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    needs_qemu()
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    async with open_house(QemuActor(), SCOPE, folder) as house:
        yield house
    shutil.rmtree(folder, ignore_errors=True)


async def do(house: House, procedure: str, **arguments: object) -> Any:
    """Awaits a call, on a busy host too."""
    call = house.post(procedure, **arguments, deadline_s=None)
    async with asyncio.timeout(60):
        return await house.outcome(call)


def use(house: House, **settings: str) -> None:
    """Changes the driver's settings."""
    config = house.host.config
    house.host.runtime.config = replace(config, qemu=replace(config.qemu, **settings))


async def test_a_guest_is_saved_and_restored_in_every_format(house: House, root: Path) -> None:
    guest = RealGuest(f"packed-{os.getpid()}", memory_mib=32, boots=False)
    ref = (await do(house, "domain_create_xml", xml_desc=guest.xml(), flags=0)).dom
    present = [form for form in FORMATS if form == "raw" or shutil.which(form)]
    assert {"raw", "gzip", "xz"} <= set(present)
    sizes = {}
    for form in present:
        use(house, save_image_format=form)
        image = root / form
        flags = int(SaveFlags.BYPASS_CACHE) if form in ("raw", "gzip") else 0
        await do(house, "domain_save_flags", dom=ref, to=str(image), dxml=None, flags=flags)
        assert FORMATS[read_header(image).compression] == form
        sizes[form] = image.stat().st_size
        await do(house, "domain_restore_flags", **{"from": str(image)}, dxml=None, flags=flags)
        assert house.host.guest(ref).state is DomainState.RUNNING
    assert sizes["gzip"] < sizes["raw"]
    use(house, save_image_format="zip")
    with pytest.raises(OperationFailed, match="Invalid save image format specified in configuration file"):
        await do(house, "domain_save_flags", dom=ref, to=str(root / "zip"), dxml=None, flags=0)
    assert house.host.guest(ref).state is DomainState.RUNNING
    assert not (root / "zip").exists()
    use(house, dump_image_format="gzip")
    await do(house, "domain_core_dump", dom=ref, to=str(root / "dump"), flags=0)
    assert (root / "dump").read_bytes()[:2] == b"\x1f\x8b"
    await do(house, "domain_destroy_flags", dom=ref, flags=0)


async def test_a_managed_save_that_is_not_whole_is_thrown_away(house: House) -> None:
    guest = RealGuest(f"half-{os.getpid()}", memory_mib=32, boots=False)
    ref = (await do(house, "domain_define_xml_flags", xml=guest.xml(), flags=0)).dom
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    await do(house, "domain_managed_save", dom=ref, flags=0)
    kept = house.host.managed_save_path(house.host.guest(ref))
    with kept.open("r+b") as file:
        file.write(PARTIAL)
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    assert not kept.exists() and not house.host.guest(ref).record.managed_save
    assert house.host.guest(ref).state is DomainState.RUNNING
    # the same calls with parameters; without a file it is put to sleep
    await do(house, "domain_save_params", dom=ref, params=[], flags=0)
    assert kept.exists()
    with pytest.raises(InvalidArguments, match="missing path to restore from"):
        await do(house, "domain_restore_params", params=[], flags=0)
    await do(house, "domain_restore_params", params=[TypedParam.of_string("file", str(kept))], flags=0)
    assert house.host.guest(ref).state is DomainState.RUNNING
    await do(house, "domain_destroy_flags", dom=ref, flags=0)


async def test_what_libvirt_packed_is_restored(house: House, root: Path) -> None:
    guest = RealGuest(f"theirs-{os.getpid()}", memory_mib=32, boots=False)
    image = root / "image"
    pack(root, guest, image)
    assert FORMATS[read_header(image).compression] == "gzip"
    await do(house, "domain_restore_flags", **{"from": str(image)}, dxml=None, flags=0)
    found = house.host.guests[guest.uuid.bytes]
    assert found.state is DomainState.RUNNING
    await do(house, "domain_destroy_flags", dom=found.ref, flags=0)


def pack(root: Path, guest: RealGuest, image: Path) -> None:
    """A real libvirtd saves a guest and packs it."""
    (root / "guest.xml").write_text(guest.xml())
    try:
        with Libvirtd(root / "d", qemu='save_image_format = "gzip"\n') as daemon:
            for words in (("create", str(root / "guest.xml")), ("save", guest.name, str(image))):
                uri = daemon.uri("qemu:///system")
                subprocess.run(["virsh", "-q", "-c", uri, *words], check=True, timeout=60, stdout=subprocess.DEVNULL)
    except CannotRun as exc:
        pytest.skip(str(exc))
