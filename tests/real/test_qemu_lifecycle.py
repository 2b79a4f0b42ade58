"""What becomes of a guest that crashes, reboots or powers off by itself, as its definition says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_state import DomainCrashedReason, DomainShutoffReason, DomainState
from schema.objects import DomainRef
from tests.contract.house import House
from tests.real.guest import RealGuest
from tests.real.houses import do, house, root

__all__ = ["house", "root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

PANIC, RESET = "ba0505b001ee", "ba6400b0feee"
"""Sectors that the firmware runs: what the panic device, and the keyboard's controller, take as such a wish."""
HALT = "f4ebfd"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


async def start(house: House, root: Path, does: str, wish: str) -> DomainRef:
    """A guest that does one thing as soon as it runs."""
    disk = root / f"{wish.strip('<>').replace('/', '').replace('>', '-').replace('<', '-')}.img"
    disk.write_bytes(bytes.fromhex(does + HALT).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 16))
    device = (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>"
        "<target dev='hda' bus='ide'/></disk><panic model='isa'/></devices>"
    )
    guest = RealGuest(f"acts-{os.getpid()}-{len(house.host.guests)}", memory_mib=32, boots=False)
    xml = guest.xml().replace("<on_reboot>restart</on_reboot>", wish).replace("</devices>", device)
    ref: DomainRef = (await do(house, "domain_define_xml_flags", xml=xml, flags=0)).dom
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    return ref


def told(house: House, guest: DomainRef) -> list[tuple[int, int]]:
    """Lifecycle events of a guest, without its definition."""
    return [
        (record["data"]["event"], record["data"]["detail"])
        for record in house.broker.records
        if record["kind"] == "domain_event_lifecycle"
        and record["object"][1] == guest.uuid
        and record["data"]["event"] != Event.DEFINED
    ]


async def test_what_a_guest_does_by_itself_ends_as_its_definition_says(house: House, root: Path) -> None:
    guests = [
        await start(house, root, PANIC, "<on_crash>destroy</on_crash>"),
        await start(house, root, PANIC, "<on_crash>preserve</on_crash>"),
        await start(house, root, PANIC, "<on_crash>coredump-restart</on_crash>"),
        await start(house, root, RESET, "<on_reboot>destroy</on_reboot>"),
    ]
    ended, kept, again, off = (house.host.guest(one) for one in guests)
    await until(lambda: not ended.is_active)
    begun = [(4, 0), (2, 0)]  # it runs before it is told to have started
    assert ended.record.off_reason == DomainShutoffReason.CRASHED
    # QEMU stops it, it has crashed, and is stopped as one that crashed
    assert told(house, guests[0]) == [*begun, (3, 0), (8, 0), (5, 2)]

    await until(lambda: kept.state is DomainState.CRASHED)
    assert kept.need_run().reason == DomainCrashedReason.PANICKED
    assert told(house, guests[1]) == [*begun, (3, 0), (8, 0)]

    dumps = house.host.state_folder / "dump"
    await until(lambda: len(list(dumps.glob(f"{again.name}*"))) > 0 and (4, 0) in told(house, guests[2])[2:])
    assert told(house, guests[2])[:5] == [*begun, (3, 0), (8, 0), (4, 0)]
    assert again.is_active

    await until(lambda: not off.is_active)
    assert off.record.off_reason == DomainShutoffReason.SHUTDOWN
    assert told(house, guests[3]) == [*begun, (6, 1), (5, 0)]
    for guest in (kept, again):
        await do(house, "domain_destroy_flags", dom=guest.ref, flags=0)
