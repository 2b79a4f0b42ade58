"""What the import of libvirt's guests answers."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.importing.adopting import adopt, is_same, monitor_refusal, put_aside
from actors.qemu.importing.judging import Judged, Verdict, judge
from actors.qemu.importing.places import Places, find_places
from actors.qemu.importing.reading import Found, others_of, read_guests
from actors.qemu.importing.taking import take
from actors.runtime.calls import Calls
from schema.errors import VirtError

calls: Calls[QemuHost] = Calls()

DRY_RUN: Final = 1
RUNNING: Final = 2


@calls.handles()
async def qemu_import_domains(
    host: QemuHost, root: str | None, names: list[str], flags: int
) -> list[dict[str, object]]:
    """Takes over guests that libvirt defined, all or those of these names; tells of each what became of it, and why.

    What is here already stays as it is, and what libvirt does not have is no reason to forget anything. With DRY_RUN
    nothing is done; with RUNNING guests that run are taken over too. Raises InvalidArguments when there is no such
    folder, HostSystemError when it cannot be read.
    """
    check_flags(flags, DRY_RUN | RUNNING, "qemuImportDomains")
    places = find_places(root)
    found = await host.runtime.in_thread(read_guests, places, names)
    told = [_tell(await _import(host, places, one, flags)) for one in found]
    known = {one.name for one in found}
    told += [
        _tell(Judged(Found(name), Verdict.REFUSED, "libvirt has no guest of that name", name=name))
        for name in names
        if name not in known
    ]
    if not names:
        others = await host.runtime.in_thread(others_of, places)
        told += [
            {"kind": kind, "name": name, "verdict": "left", "done": False, "reason": f"a {kind} is not taken over"}
            for kind, name in others
        ]
    return told


async def _import(host: QemuHost, places: Places, found: Found, flags: int) -> Judged:
    judged = await _judge(host, places, found, flags)
    if flags & DRY_RUN or not judged.key:
        return judged
    async with (
        host.runtime.mailbox(("name", judged.name)).change(),
        host.runtime.mailbox(("domain", judged.key)).change(),
    ):
        # somebody may have defined one of that name while the lane was waited for
        again = await _judge(host, places, found, flags)
        if (again.name, again.key) != (judged.name, judged.key):
            return again.refuse("its definition changed meanwhile")
        try:
            if again.verdict is Verdict.IMPORT:
                await take(host, again)
            elif again.verdict is Verdict.ADOPT:
                await adopt(host, again, places)
            elif again.verdict is Verdict.PRESENT and again.status is not None and _is_ours(host, again):
                put_aside(host, again)  # the process before this one had no time for it
        except VirtError as exc:
            return again.refuse(exc.message)
        again.is_done = again.verdict in (Verdict.IMPORT, Verdict.ADOPT)
        return again


def _is_ours(host: QemuHost, judged: Judged) -> bool:
    guest = host.guests.get(judged.key)
    return guest is not None and judged.status is not None and is_same(guest, judged.status)


async def _judge(host: QemuHost, places: Places, found: Found, flags: int) -> Judged:
    judged = await judge(host, found, running=bool(flags & RUNNING))
    if judged.verdict is Verdict.ADOPT and judged.status is not None:
        refusal = await monitor_refusal(places, judged.status)
        if refusal is not None:
            judged.refuse(refusal)
    return judged


def _tell(judged: Judged) -> dict[str, object]:
    told: dict[str, object] = {
        "kind": "domain",
        "name": judged.name,
        "uuid": str(UUID(bytes=judged.key)) if judged.key else None,
        "verdict": str(judged.verdict),
        "done": judged.is_done,
        "reason": judged.reason,
        "notes": judged.notes,
    }
    if judged.verdict in (Verdict.IMPORT, Verdict.ADOPT):
        told |= {
            "autostart": judged.found.is_autostarted,
            "managed_save": judged.found.saved is not None,
            "snapshots": len(judged.moments.snapshots),
            "checkpoints": len(judged.moments.checkpoints),
        }
    return told
