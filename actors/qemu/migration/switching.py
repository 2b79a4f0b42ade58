"""The moment at which a guest goes over while its memory still follows (post-copy), on the side that it leaves.

QEMU goes over by itself some time after it was told that it may. From then on nobody can say that it will not run over
there, so this is on disk before QEMU is told, and from then on a migration is not called off any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job
from actors.qemu.migration.postcopy import STATUSES, SWITCHING, keep_job, note_sent, note_switch
from actors.qemu.records import Move
from schema.errors import DomainStateError, VirtError

_POLL_S = 0.05
_NOT_NOW = "post-copy can only be started while outgoing migration is in progress"


class Switch:
    """Who wants a guest to go over; the one that follows its migration sees to it, and so nobody writes beside it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._wanted: list[asyncio.Future[None]] = []

    async def want(self) -> None:
        """Returns when QEMU has been told. Raises DomainStateError when it ended before, and what QEMU says."""
        if self._job.is_post_copy:
            return
        told = asyncio.get_running_loop().create_future()
        self._wanted.append(told)
        await told

    async def begin_if_wanted(self, host: QemuHost, guest: Guest) -> None:
        """Tells QEMU, if somebody wants it."""
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return
        try:
            if not self._job.is_post_copy:
                self._job.is_post_copy = True
                await start(host, guest)
        except VirtError as exc:
            self._job.is_post_copy = False
            _answer(wanted, exc)
        else:
            _answer(wanted, None)

    async def call_off(self, host: QemuHost, guest: Guest) -> None:
        """It never came to it. Raises HostSystemError."""
        self._job.is_post_copy = False
        await _note(host, guest, "sending")

    def close(self) -> None:
        """The migration is over."""
        _answer(self._wanted, DomainStateError(_NOT_NOW))


def _answer(wanted: list[asyncio.Future[None]], error: VirtError | None) -> None:
    for told in wanted:
        if told.done():
            continue
        if error is None:
            told.set_result(None)
        else:
            told.set_exception(error)


@contextlib.contextmanager
def switching(job: Job) -> Iterator[Switch]:
    """While the block runs the guest can go over."""
    switch = job.switch = Switch(job)
    try:
        yield switch
    finally:
        job.switch = None
        switch.close()


async def want_switch(guest: Guest) -> None:
    """A client wants a guest to go over. Raises DomainStateError when it is not on its way, or not by post-copy."""
    job = guest.job
    if job is None or not job.is_outgoing:
        raise DomainStateError(_NOT_NOW)
    if not job.may_post_copy:
        raise DomainStateError("switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag")
    if job.switch is None:
        await guest.ask("migrate-start-postcopy")  # too early or too late, as QEMU says best
    else:
        await job.switch.want()


async def start(host: QemuHost, guest: Guest) -> None:
    """Tells QEMU that it may go over, also again. Raises HostSystemError, and as `Guest.ask` does."""
    await _note(host, guest, SWITCHING)
    try:
        await guest.ask("migrate-start-postcopy")
    except VirtError:
        await _note(host, guest, "sending")
        raise


async def _note(host: QemuHost, guest: Guest, phase: str) -> None:
    move = guest.run.move if guest.run is not None else None
    if move is not None:
        await host.write(guest, guest.running(move=msgspec.structs.replace(move, phase=phase)), completes=False)


async def see_switch(host: QemuHost, guest: Guest, move: Move) -> bool:
    """Sees to a guest that was going over when nobody followed it any more; whether it does not run here again.

    Raises HostSystemError, and as `Guest.ask` does.
    """
    keep_job(guest)
    is_told = False
    while guest.run is not None:
        status = await guest.ask("query-migrate")
        state = status.get("status")
        if guest.job is not None:
            guest.job.status = status
        if state in STATUSES:
            await note_switch(host, guest, move)
            return True
        if state == "completed":
            guest.job = None
            await note_sent(host, guest, move)
            return True
        if state not in ("setup", "active", "device"):
            break  # before the switch it waits for disks that nobody copies any more, or it has failed
        if state == "active" and not is_told:
            await guest.ask("migrate-start-postcopy")
            is_told = True
        await asyncio.sleep(_POLL_S)
    guest.job = None
    return False
