"""A guest's run has ended: those who ran beside it go, and what only this run needed."""

from __future__ import annotations

import contextlib

from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import drop_tpm, drop_tpm_of_moved
from actors.qemu.host import QemuHost
from actors.qemu.records import Run
from schema.errors import VirtError


async def part(host: QemuHost, guest: Guest, run: Run) -> None:
    """Ends the helpers of a guest whose QEMU has ended; of one that was transient nothing is kept. Never fails."""
    crew, guest.crew = guest.crew, None
    if crew is not None:
        await crew.leave()
    if not guest.is_persistent and "<tpm" in run.xml:
        drop = drop_tpm_of_moved if run.move is not None and run.move.phase == "gone" else drop_tpm
        with contextlib.suppress(VirtError):
            drop(host, guest.record.uuid, guest.live)
