"""How a change of a running guest's images becomes real on disk: it has happened already, and is written down."""

from __future__ import annotations

import msgspec

from actors.qemu import records
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.records import BackupRun, BlockJob
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags


async def keep_now(host: QemuHost, guest: Guest, *, config: Domain | None = None) -> None:
    """Writes the document with the running definition as it is now, and a new configuration if there is one.

    Raises HostSystemError; what is in memory stays then, and is written at the next change.
    """
    record = guest.refreshed()
    if config is not None:
        record = msgspec.structs.replace(record, xml=write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE))
    guest.adopt(record, live=guest.live if guest.is_active else None, config=config)
    await host.store.write(records.path_of(record.uuid), records.encode(record), completes=False)


async def keep_end(host: QemuHost, guest: Guest, name: str) -> None:
    """The job is over: on disk first, then in memory, so that nobody sees it gone before it is.

    Raises HostSystemError; it is gone in memory all the same.
    """
    record = guest.refreshed()
    try:
        if record.run is not None:
            jobs = tuple(one for one in record.run.jobs if one.name != name)
            left = msgspec.structs.replace(record, run=msgspec.structs.replace(record.run, jobs=jobs))
            await host.store.write(records.path_of(record.uuid), records.encode(left), completes=False)
    finally:
        if guest.run is not None:
            drop_job(guest, name)


def set_jobs(guest: Guest, jobs: tuple[BlockJob, ...]) -> None:
    """These are the guest's block jobs now; on disk with the next writing."""
    guest.adopt(guest.running(jobs=jobs), live=guest.live)


def put_job(guest: Guest, job: BlockJob) -> None:
    """Adds a job, or replaces it."""
    others = tuple(one for one in guest.need_run().jobs if one.name != job.name)
    set_jobs(guest, (*others, job))


def drop_job(guest: Guest, name: str) -> None:
    """The job is over."""
    set_jobs(guest, tuple(one for one in guest.need_run().jobs if one.name != name))


def find_job(guest: Guest, name: str) -> BlockJob | None:
    """The job of that name."""
    run = guest.run
    return None if run is None else next((one for one in run.jobs if one.name == name), None)


def set_backup(guest: Guest, backup: BackupRun | None) -> None:
    """This is the backup that is going on."""
    guest.adopt(guest.running(backup=backup), live=guest.live)
