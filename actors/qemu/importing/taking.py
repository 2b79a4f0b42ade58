"""Guests of libvirt's become guests of ours: one after the other, each wholly or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

from actors.qemu import records, states
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.importing.judging import Judged
from actors.qemu.moments import records as moment_records
from actors.qemu.records import Record
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventType as Event
from schema.errors import HostSystemError, VirtError

_FICLONE: Final = 0x40049409
"""Makes a file share another one's blocks, where the file system can."""


async def take(host: QemuHost, judged: Judged) -> None:
    """A guest that is off, with its snapshots, checkpoints and saved memory.

    What it has is written first and the guest itself last, so that there is no half of one whoever dies. The caller
    holds its lanes. Raises HostSystemError; nothing is left then.
    """
    record = record_of(judged)
    guest = Guest(record, host.scope)
    saved = judged.found.saved
    try:
        if saved is not None:
            await host.runtime.in_thread(copy_file, saved, host.managed_save_path(guest))
        await keep_moments_of(host, guest, judged)
        await host.write(guest, record, config=judged.config, completes=False)
    except VirtError:
        await forget(host, guest, saved=saved is not None)
        raise
    host.add(guest)
    host.publish(guest, [states.lifecycle(guest, Event.DEFINED, Defined.ADDED)])


def record_of(judged: Judged) -> Record:
    """The document of a guest that is off; of a transient one that runs, the same without a definition."""
    config = judged.config
    domain = config
    if domain is None:
        assert judged.status is not None
        domain = judged.status.domain
    return Record(
        uuid=str(domain.uuid),
        name=domain.name,
        facts=records.facts_of(domain),
        xml=None if config is None else write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE),
        autostart=judged.found.is_autostarted and config is not None,
        managed_save=judged.found.saved is not None,
    )


async def keep_moments_of(host: QemuHost, guest: Guest, judged: Judged) -> None:
    """Writes its snapshots and checkpoints down. Raises HostSystemError."""
    if not judged.moments.are_none:
        path = moment_records.path_of(guest.record.uuid)
        await host.store.write(path, moment_records.encode(judged.moments), completes=False)
    guest.moments = judged.moments


async def forget(host: QemuHost, guest: Guest, *, saved: bool) -> None:
    """Takes back what was written before the guest itself."""
    if saved:
        host.managed_save_path(guest).unlink(missing_ok=True)
    with contextlib.suppress(VirtError):
        await host.store.remove(records.path_of(guest.record.uuid), completes=False)
        await host.store.remove(moment_records.path_of(guest.record.uuid), completes=False)


def copy_file(source: Path, target: Path) -> None:
    """A copy that is whole or not there; on file systems that can, it takes no room. Raises HostSystemError."""
    temporary = target.with_name(target.name + ".new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with source.open("rb") as old:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as new:
                    try:
                        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
                    except OSError:
                        shutil.copyfileobj(old, new, 1 << 20)
                    new.flush()
                    os.fsync(new.fileno())
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot copy '{source}' to '{target}'") from exc
