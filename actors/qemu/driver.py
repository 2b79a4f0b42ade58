"""The QEMU driver: guests that are processes of this host, which outlive every process of ours."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.qemu import (
    attach,
    binding,
    comparing,
    connect,
    console,
    definitions,
    disk_stats,
    graphics,
    keyboard,
    lifecycle,
    memory,
    metadata,
    passing,
    records,
    reports,
    saving,
    statistics,
)
from actors.qemu.agent import addresses, clock, commands, facts, filesystems, power, processors, users
from actors.qemu.binding import watch_connections
from actors.qemu.block import backup, commit, control, copy, disks, pull, threshold, tuning
from actors.qemu.block.settling import settle_guests
from actors.qemu.host import QemuHost
from actors.qemu.hotplug import devices, iothreads, vcpus
from actors.qemu.hotplug.settle import look_after_all
from actors.qemu.importing import procedures as importing
from actors.qemu.migration import procedures, recovery, settings
from actors.qemu.moments import checkpoints, create, delete, recording, revert, snapshots
from actors.qemu.saved import editing
from actors.qemu.saved import parameters as saving_parameters
from actors.qemu.tuning import (
    actions,
    applying,
    bandwidth,
    blockshares,
    channels,
    dumps,
    hostmemory,
    jobs,
    limits,
    measures,
    perf,
    pinning,
    scheduling,
    security,
)
from actors.runtime import moments, node
from actors.runtime.actor import Actor
from actors.runtime.calls import Calls
from actors.runtime.mailbox import MailboxKey
from actors.runtime.runtime import Runtime
from schema.enums.error import ErrorDomain


class QemuActor(Actor[QemuHost]):
    """Serves `qemu:///system` as root, `qemu:///session` for an ordinary user."""

    name = "qemu"
    schemes = ("qemu",)
    calls: ClassVar[tuple[Calls[Any], ...]] = (
        connect.calls,
        comparing.calls,
        definitions.calls,
        disk_stats.calls,
        lifecycle.calls,
        memory.calls,
        console.calls,
        statistics.calls,
        saving.calls,
        editing.calls,
        saving_parameters.calls,
        metadata.calls,
        keyboard.calls,
        graphics.calls,
        passing.calls,
        vcpus.calls,
        devices.calls,
        iothreads.calls,
        reports.calls,
        scheduling.calls,
        pinning.calls,
        limits.calls,
        blockshares.calls,
        perf.calls,
        bandwidth.calls,
        dumps.calls,
        jobs.calls,
        measures.calls,
        hostmemory.calls,
        actions.calls,
        security.calls,
        channels.calls,
        procedures.calls,
        settings.calls,
        commands.calls,
        filesystems.calls,
        clock.calls,
        processors.calls,
        users.calls,
        power.calls,
        addresses.calls,
        facts.calls,
        pull.calls,
        commit.calls,
        copy.calls,
        control.calls,
        disks.calls,
        threshold.calls,
        tuning.calls,
        moments.calls,
        snapshots.calls,
        create.calls,
        revert.calls,
        delete.calls,
        checkpoints.calls,
        recording.calls,
        backup.calls,
        importing.calls,
        binding.calls,
        node.calls,
    )
    error_domain = ErrorDomain.QEMU

    async def start(self, runtime: Runtime) -> QemuHost:
        """Reads what is on disk, then finds the guests that outlived the last process."""
        host = QemuHost(runtime)
        await attach.restore_guests(host)
        runtime.spawn(host.tpm_programs.refresh(), "what TPMs guests can have")
        runtime.spawn(host.index.keep(host.store.path(records.FOLDER), runtime.in_thread), "index of guests")
        applying.take_up(host)
        watch_connections(host)
        recovery.recover(host)
        runtime.spawn(attach.start_flagged(host), "autostart")
        runtime.spawn(look_after_all(host), "devices that guests let go meanwhile")
        runtime.spawn(settle_guests(host), "work that outlived the last process")
        return host

    async def stop(self, host: QemuHost) -> None:
        """Lets go of monitors; guests keep running."""
        await host.keep_ids()
        host.index.refresh(host.store.path(records.FOLDER))
        for guest in host.guests.values():
            if guest.monitor is not None:
                guest.monitor.close()
            if guest.process is not None:
                guest.process.release()
            if guest.crew is not None:
                guest.crew.release()

    async def refresh(self, host: QemuHost, key: MailboxKey) -> None:
        """Asks a guest anew how it is, after a handler failed in an unexpected way."""
        guest = host.guests.get(key[1]) if isinstance(key[1], bytes) else None
        if guest is not None and guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            await attach.ask_status(host, guest)
