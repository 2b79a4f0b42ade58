"""A guest that is about to leave this host: from the first call of a migration to its last nobody else changes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from schema.errors import DomainStateError, VirtError

PATIENCE_S: Final = 60.0
"""How long a guest is kept between two calls of its migration."""


@dataclass(slots=True)
class Leaving:
    """Who holds the guest's lane of changes, and what works for it now."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    has_lane: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[object] | None = None
    refused: VirtError | None = None

    def release(self) -> None:
        """The migration is over: others may change the guest."""
        self.done.set()


async def keep(host: QemuHost, guest: Guest) -> Leaving:
    """Keeps the guest for a migration; the one that keeps it already goes on.

    Raises DomainStateError when another migration works on it.
    """
    leaving = guest.leaving
    if leaving is not None and not leaving.done.is_set():
        if leaving.work is not None:
            raise DomainStateError(f"another migration job is already running for domain '{guest.name}'")
        return leaving
    leaving = guest.leaving = Leaving()
    holder = host.runtime.spawn(_hold(host, guest, leaving), f"migration of {guest.name}")
    try:
        await leaving.has_lane.wait()
    except BaseException:
        holder.cancel()
        raise
    if leaving.refused is not None:
        raise leaving.refused
    return leaving


async def _hold(host: QemuHost, guest: Guest, leaving: Leaving) -> None:
    try:
        async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
            leaving.has_lane.set()
            while not leaving.done.is_set():
                try:
                    await asyncio.wait_for(leaving.done.wait(), PATIENCE_S)
                except TimeoutError:
                    if leaving.work is None:
                        host.log.warning("a migration was not carried on", guest=guest.name)
                        return
    except VirtError as exc:
        leaving.refused = exc
    except asyncio.CancelledError:
        # somebody goes ahead of us, such as a destroy
        work = leaving.work
        if work is not None:
            work.cancel()
            await asyncio.wait({work}, timeout=1.0)
    finally:
        leaving.done.set()
        leaving.has_lane.set()
        if guest.leaving is leaving:
            guest.leaving = None
