"""A running guest's control groups and threads, as handlers get them."""

from __future__ import annotations

import os
from pathlib import Path

from actors.qemu.guest import Guest
from actors.qemu.helpers.processes import pids_of_helpers
from actors.qemu.host import QemuHost
from actors.qemu.records import Run
from actors.qemu.tuning.groups import GuestGroups, Threads, group_name
from actors.qemu.tuning.hierarchy import host_hierarchy
from schema.errors import DomainStateError


def need_privileges(what: str) -> None:
    """Raises DomainStateError when the driver of an ordinary user is asked for a share of the host."""
    if os.geteuid() != 0:
        raise DomainStateError(f"{what} is not available in session mode")


def group_of(host: QemuHost, run: Run) -> str:
    """The path of a running guest's group."""
    if run.group:
        return run.group
    name = Path(run.folder).name.partition("-")[2].partition("-")[2]
    return group_name(run.partition, host.run_folder, run.id, name)


async def threads_of(guest: Guest) -> Threads:
    """The threads of a running guest. Raises as `Guest.ask` does."""
    run = guest.need_run()
    found: dict[int, int] = {}
    if guest.live.iothreads or guest.live.iothreadids is not None:
        for one in await guest.ask("query-iothreads"):
            number = str(one["id"]).removeprefix("iothread")
            if number.isdigit():
                found[int(number)] = int(one["thread-id"])
    return Threads(run.pid, run.vcpu_threads, found, pids_of_helpers(Path(run.folder)))


async def groups_of(host: QemuHost, guest: Guest) -> GuestGroups:
    """The control groups of a running guest. Raises as `Guest.ask` does."""
    threads = await threads_of(guest)
    return GuestGroups(host_hierarchy(), group_of(host, guest.need_run()), threads)
