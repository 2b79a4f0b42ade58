"""A guest that runs under libvirtd goes on running, and is ours.

QEMU's monitor talks to one at a time, so libvirtd must have let go of it: it is stopped, its guests run on. A libvirtd
that is started again looks for every guest of which it has a status document, and kills one whose monitor it cannot
have; so that document is the one thing of libvirt's that is put aside, under another name in the same folder.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu import records, states
from actors.qemu.attach import connect_monitor
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.importing.judging import Judged
from actors.qemu.importing.places import Places
from actors.qemu.importing.taking import forget, keep_moments_of, record_of
from actors.qemu.lending.guests import know_devices
from actors.qemu.monitor.link import MonitorGone, connect_socket, open_monitor
from actors.qemu.notices import announce
from actors.qemu.process import find_process
from actors.qemu.records import Run
from actors.qemu.scopes.groups import group_that_runs
from actors.qemu.status_document import QemuStatus
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainState
from schema.errors import HypervisorGone, OperationFailed, VirtError

GREETING_S: Final = 2.0
"""How long a monitor may take to greet: one that somebody else holds never does."""
ANSWER_S: Final = 10.0
ASIDE: Final = ".virtroupe"
"""Ends the name of a status document that was put aside."""

_AGENT_UNSET: Final = -2


async def monitor_refusal(places: Places, status: QemuStatus) -> str | None:
    """Why a guest's monitor cannot be had, None when it can."""
    path = _monitor_of(places, status)
    if path is None:
        return "libvirt does not say where its monitor is"
    if path.name != "monitor.sock":
        return f"its monitor is at '{path}', where libvirt's own guests have none"
    try:
        connected = connect_socket(path)
    except OSError as exc:
        return f"its monitor at '{path}' cannot be reached: {exc.strerror}"
    monitor = await open_monitor(connected, lambda notice: None, lambda: None)
    try:
        async with asyncio.timeout(GREETING_S):
            await asyncio.shield(monitor.greeting)
    except TimeoutError:
        return "libvirtd holds its monitor: stop libvirtd (its guests run on), then try again"
    except MonitorGone as exc:
        return f"its monitor is gone: {exc}"
    finally:
        monitor.close()
    return None


async def adopt(host: QemuHost, judged: Judged, places: Places) -> None:
    """Takes a running guest over. The caller holds its lanes.

    Raises OperationFailed when its monitor does not answer, HypervisorGone when it ends, HostSystemError; it runs on
    as it did then, and nothing is left of it here.
    """
    status = judged.status
    assert status is not None
    process = find_process(status.pid)
    path = _monitor_of(places, status)
    if process is None or path is None:
        raise HypervisorGone(f"the guest '{judged.name}' ended")
    number = await host.new_id()
    live = status.domain
    since = time.time()
    state, reason = _state_of(status)
    run = Run(
        id=number,
        pid=process.pid,
        start_ticks=process.identity.start_ticks,
        boot=process.identity.boot,
        folder=str(path.parent),
        emulator=live.devices.emulator or "",
        xml=write_domain(live, XmlFlags.SECURE, id=number),
        facts=records.facts_of(live),
        state=int(state),
        reason=reason,
        since=since,
        started=since,
        reboots=status.fake_reboot,
        threads=_threads_of(status),
        agent_timeout=None if status.agent_timeout_s == _AGENT_UNSET else status.agent_timeout_s,
        partition=(live.resource.partition if live.resource is not None else None) or "",
        group=group_that_runs(process.pid),
        images=status.node_index,
    )
    guest = Guest(msgspec.structs.replace(record_of(judged), run=run), host.scope)
    guest.held = []
    try:
        host.watch(guest, process)
        async with asyncio.timeout(ANSWER_S):
            await connect_monitor(host, guest, starting=True)
        await keep_moments_of(host, guest, judged)
        await host.write(guest, guest.record, live=guest.live, config=judged.config, completes=False)
    except (TimeoutError, OSError, MonitorGone, VirtError) as exc:
        process.release()
        if guest.monitor is not None:
            guest.monitor.close()
        await forget(host, guest, saved=False)
        if isinstance(exc, VirtError):
            raise
        raise OperationFailed(f"the monitor of guest '{judged.name}' does not answer: {exc}") from exc
    host.ports.update(port for one in live.devices.graphics for port in (one.port, one.tls_port, one.websocket) if port)
    host.add(guest)
    know_devices(host, guest)
    put_aside(host, judged)
    told = [states.lifecycle(guest, Event.DEFINED, Defined.ADDED)] if guest.is_persistent else []
    announce(host, guest, [*told, states.started(guest)])


def put_aside(host: QemuHost, judged: Judged) -> None:
    """libvirtd finds nothing that runs any more when it is started again."""
    path = judged.found.status_path
    if path is None:
        return
    try:
        path.rename(path.with_name(path.name + ASIDE))
    except FileNotFoundError:
        return
    except OSError as exc:
        judged.notes.append(f"'{path}' could not be put aside: remove it before libvirtd is started again")
        host.log.warning("a status document of libvirt's could not be put aside", path=str(path), error=str(exc))


def is_same(guest: Guest, status: QemuStatus) -> bool:
    """Whether a guest of ours is the process that libvirt knows."""
    return guest.run is not None and guest.run.pid == status.pid


def _monitor_of(places: Places, status: QemuStatus) -> Path | None:
    return None if status.monitor is None else places.moved(status.monitor.path)


def _threads_of(status: QemuStatus) -> tuple[int, ...]:
    """By number; 0 for a processor that is off."""
    threads = {one.id: one.pid for one in status.vcpus}
    return tuple(threads.get(number, 0) for number in range(max(threads, default=-1) + 1))


def _state_of(status: QemuStatus) -> tuple[DomainState, int]:
    if status.state == "running":
        return DomainState.RUNNING, int(DomainRunningReason.UNKNOWN)
    return DomainState.PAUSED, int(DomainPausedReason.USER if status.reason == "user" else DomainPausedReason.UNKNOWN)
