"""Saved guests go from a real libvirtd to this driver and back; definitions in their files are shown and changed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.saved.cookie import parse_cookie
from actors.qemu.saved.image import read_header
from schema.enums.domain_state import DomainState
from schema.errors import ConfigUnsupported, DomainStateError, OperationFailed
from schema.objects import DomainRef
from tests.bench.libvirtd import Libvirtd
from tests.contract.house import House
from tests.real.guest import RealGuest
from tests.real.houses import house, libvirtd, root

__all__ = ["house", "libvirtd", "root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

CPU = "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>"


def virsh(daemon: Libvirtd, *words: str) -> str:
    """What virsh says, asked of the libvirtd."""
    done = subprocess.run(
        ["virsh", "-q", "-c", daemon.uri("qemu:///system"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def small_guest(root: Path) -> tuple[RealGuest, Path]:
    """A guest whose firmware finds nothing to boot, and its document."""
    guest = RealGuest(f"saved-{os.getpid()}", memory_mib=32, boots=False)
    document = root / "guest.xml"
    document.write_text(guest.xml().replace("<devices>", f"{CPU}<devices>", 1), encoding="utf-8")
    return guest, document


async def do(house: House, procedure: str, **arguments: Any) -> Any:
    """Awaits a call, on a busy host too."""
    call = house.post(procedure, **arguments, deadline_s=None)
    async with asyncio.timeout(60):
        while call.id not in house.broker.outcomes:
            await asyncio.sleep(0.05)
    return await house.outcome(call)


async def state(house: House, ref: DomainRef) -> int:
    """What the guest is at."""
    return int((await do(house, "domain_get_state", dom=ref, flags=0)).state)


async def test_a_guest_goes_from_libvirt_to_here_and_back(root: Path, libvirtd: Libvirtd, house: House) -> None:
    guest, document = small_guest(root)
    ref = DomainRef(guest.name, guest.uuid.bytes, -1)
    image, ours = root / "theirs.save", root / "ours.save"
    virsh(libvirtd, "create", str(document))
    virsh(libvirtd, "save", guest.name, str(image))
    header = read_header(image)
    assert header.was_running
    assert f"<uuid>{guest.uuid}</uuid>" in header.xml
    assert header.cookie is not None
    cookie = parse_cookie(header.cookie)
    assert cookie.cpu is not None and cookie.cpu.model is not None and cookie.cpu.model.name == "qemu64"
    assert cookie.to_xml() == header.cookie

    where: dict[str, Any] = {"from": str(image)}
    await do(house, "domain_restore_flags", **where, dxml=None, flags=0)
    assert await state(house, ref) == DomainState.RUNNING
    await do(house, "domain_save_flags", dom=ref, to=str(ours), dxml=None, flags=0)
    virsh(libvirtd, "restore", str(ours))
    assert "running" in virsh(libvirtd, "domstate", guest.name)
    virsh(libvirtd, "destroy", guest.name)


async def test_definitions_in_files_are_shown_and_changed(root: Path, house: House) -> None:
    guest, document = small_guest(root)
    ref = DomainRef(guest.name, guest.uuid.bytes, -1)
    image = root / "image"
    await do(house, "domain_define_xml_flags", xml=document.read_text(encoding="utf-8"), flags=0)
    with pytest.raises(DomainStateError, match="does not have managed save image"):
        await do(house, "domain_managed_save_get_xml_desc", dom=ref, flags=0)
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    await do(house, "domain_save_flags", dom=ref, to=str(image), dxml=None, flags=0)
    xml = (await do(house, "domain_save_image_get_xml_desc", file=str(image), flags=0)).xml
    assert f"<name>{guest.name}</name>" in xml
    before = image.stat().st_size
    changed = xml.replace("<on_crash>destroy</on_crash>", "<on_crash>restart</on_crash>")
    assert changed != xml
    await do(house, "domain_save_image_define_xml", file=str(image), dxml=changed, flags=4)
    assert image.stat().st_size == before
    shown = (await do(house, "domain_save_image_get_xml_desc", file=str(image), flags=0)).xml
    assert "<on_crash>restart</on_crash>" in shown
    with pytest.raises(ConfigUnsupported):
        more = xml.replace("<vcpu placement='static'>1</vcpu>", "<vcpu placement='static'>2</vcpu>")
        await do(house, "domain_save_image_define_xml", file=str(image), dxml=more, flags=0)
    with pytest.raises(OperationFailed, match="image magic is incorrect"):
        noise = root / "noise"
        noise.write_bytes(bytes(200))
        await do(house, "domain_save_image_get_xml_desc", file=str(noise), flags=0)
    where: dict[str, Any] = {"from": str(image)}
    await do(house, "domain_restore_flags", **where, dxml=None, flags=0)
    assert await state(house, ref) == DomainState.PAUSED
    await do(house, "domain_managed_save", dom=ref, flags=0)
    assert guest.name in (await do(house, "domain_managed_save_get_xml_desc", dom=ref, flags=0)).xml
    await do(house, "domain_managed_save_define_xml", dom=ref, dxml=xml, flags=2)
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    assert await state(house, ref) == DomainState.RUNNING
    await do(house, "domain_destroy_flags", dom=ref, flags=0)
