"""What subscribers hear of the long work that goes on with a guest."""

from __future__ import annotations

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import job_parameters
from schema.errors import VirtError


def tell_completed(host: QemuHost, guest: Guest) -> None:
    """The guest's last work has ended well; nothing is told of a guest that is not known any more."""
    job = guest.completed_job
    if job is None:
        return
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    host.emit("domain_event_job_completed", {"dom": guest.ref, "params": job_parameters(job)}, object=entry)


def tell_iteration(host: QemuHost, guest: Guest, number: int) -> None:
    """QEMU begins to send once more what the guest has changed."""
    if guest.job is None or not guest.job.is_outgoing:
        return
    entry = host.need_domain(guest.key)
    host.emit("domain_event_migration_iteration", {"dom": guest.ref, "iteration": number}, object=entry, origin="guest")
