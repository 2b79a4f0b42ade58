"""What a guest's monitor tells by itself, and what libvirt's subscribers hear of it.

A change that a call has asked for is told by that call (`guest.expected`), so that it carries who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from actors.qemu import states
from actors.qemu.agent.channel import agent_channel, is_connected
from actors.qemu.ending import after_shutdown, panicked
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.monitor.protocol import Data, Notice
from conf.domain.clock import LifecycleAction
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from schema.enums.domain_event import (
    DomainEventGraphicsAddressType,
    DomainEventGraphicsPhase,
    DomainEventIOErrorAction,
    DomainEventPMSuspendedDetailType,
    DomainEventStartedDetailType,
    DomainEventSuspendedDetailType,
    DomainEventTrayChangeReason,
    DomainEventType,
    DomainEventWatchdogAction,
)
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainPMSuspendedReason,
    DomainRunningReason,
    DomainShutdownReason,
    DomainState,
)
from schema.errors import VirtError
from schema.objects import GraphicsAddress, GraphicsIdentity

Handler = Callable[[QemuHost, Guest, Data], None]


def on_notice(host: QemuHost, guest: Guest, notice: Notice) -> None:
    """Takes one event of a monitor."""
    if guest.held is not None and notice.name != "JOB_STATUS_CHANGE":  # the start itself may wait for a job
        guest.held.append(notice)
        return
    if guest.run is None:
        return
    _tell_as_it_is(host, guest, notice)
    handler = _HANDLERS.get(notice.name)
    if handler is not None:
        handler(host, guest, notice.data)


def announce(host: QemuHost, guest: Guest, told: Sequence[states.Told]) -> None:
    """The guest has started: this is told first, then what its monitor said meanwhile."""
    host.publish(guest, [*_told_of_agent(guest), *told])
    held, guest.held = guest.held or [], None
    for notice in held:
        on_notice(host, guest, notice)
    host.look_after(guest)


def _told_of_agent(guest: Guest) -> list[states.Told]:
    channel = agent_channel(guest.live)
    if channel is None:
        return []
    state = 1 if is_connected(channel) else 2
    return [("domain_event_agent_lifecycle", {"dom": guest.ref, "state": state, "reason": 1})]


def _reservations(host: QemuHost, guest: Guest, data: Data) -> None:
    if guest.crew is not None and data.get("connected") is False and data.get("id") == "pr-helper0":
        host.runtime.spawn(guest.crew.restart_reservations(), f"reservations of {guest.name}")


def on_gone(host: QemuHost, guest: Guest) -> None:
    """A monitor's connection ended: the guest ends too, which its process tells; else it is tried again."""
    if guest.run is None or guest.process is None or not guest.process.is_alive:
        return
    from actors.qemu.attach import reconnect_soon

    reconnect_soon(host, guest)


def _stop(host: QemuHost, guest: Guest, data: Data) -> None:
    if guest.job is not None and guest.job.is_outgoing and guest.state is DomainState.RUNNING:
        if guest.job.is_post_copy:
            why, how = DomainPausedReason.POSTCOPY, DomainEventSuspendedDetailType.POSTCOPY
        else:
            why, how = DomainPausedReason.MIGRATION, DomainEventSuspendedDetailType.MIGRATED
        host.change_state(guest, DomainState.PAUSED, why, [states.suspended(guest, how)])
        return
    if "STOP" in guest.expected or guest.got_shutdown or guest.state is not DomainState.RUNNING:
        return
    reason, detail = DomainPausedReason.UNKNOWN, DomainEventSuspendedDetailType.PAUSED
    if "IOERROR" in guest.expected:
        guest.expected.discard("IOERROR")
        reason, detail = DomainPausedReason.IOERROR, DomainEventSuspendedDetailType.IOERROR
    elif "WATCHDOG" in guest.expected:
        guest.expected.discard("WATCHDOG")
        reason, detail = DomainPausedReason.WATCHDOG, DomainEventSuspendedDetailType.WATCHDOG
    host.change_state(guest, DomainState.PAUSED, reason, [states.suspended(guest, detail)], origin="guest")


def _resume(host: QemuHost, guest: Guest, data: Data) -> None:
    if "RESUME" in guest.expected or guest.state is not DomainState.PAUSED:
        return
    host.change_state(guest, DomainState.RUNNING, DomainRunningReason.UNPAUSED, [states.resumed(guest)], origin="guest")


def _shutdown(host: QemuHost, guest: Guest, data: Data) -> None:
    if guest.got_shutdown or guest.destroys:
        if "SHUTDOWN" in guest.expected and not guest.got_shutdown:
            # it heard that it is to end, and is about to
            guest.expected.discard("SHUTDOWN")
            host.publish(guest, [states.shut_down(guest, False)], origin="call")
        return
    if data.get("reason") == "host-signal" and guest.state is DomainState.SHUTDOWN:
        return
    guest.got_shutdown = True
    run, by_guest = guest.run, data.get("guest")
    if run is not None and run.reboots:
        # on the way through a reboot nobody is told that it was off
        host.runtime.spawn(after_shutdown(host, guest), f"reboot of {guest.name}")
        return
    told = [states.shut_down(guest, by_guest if isinstance(by_guest, bool) else None)]
    host.change_state(guest, DomainState.SHUTDOWN, DomainShutdownReason.UNKNOWN, told, origin="guest")
    host.runtime.spawn(after_shutdown(host, guest), f"shutdown of {guest.name}")


def _reset(host: QemuHost, guest: Guest, data: Data) -> None:
    guest.resets += 1
    if data.get("guest") and guest.live.on_reboot is LifecycleAction.DESTROY:
        guest.got_shutdown = True
        host.runtime.spawn(after_shutdown(host, guest), f"reboot of {guest.name}")
    _tell(host, guest, "domain_event_reboot", {})


def _rtc_change(host: QemuHost, guest: Guest, data: Data) -> None:
    _tell(host, guest, "domain_event_rtc_change", {"offset": int(data.get("offset", 0))})


_WATCHDOG: Final = {
    "none": DomainEventWatchdogAction.NONE,
    "pause": DomainEventWatchdogAction.PAUSE,
    "reset": DomainEventWatchdogAction.RESET,
    "poweroff": DomainEventWatchdogAction.POWEROFF,
    "shutdown": DomainEventWatchdogAction.SHUTDOWN,
    "debug": DomainEventWatchdogAction.DEBUG,
    "inject-nmi": DomainEventWatchdogAction.INJECTNMI,
}


def _watchdog(host: QemuHost, guest: Guest, data: Data) -> None:
    action = _WATCHDOG.get(str(data.get("action")), DomainEventWatchdogAction.NONE)
    if action is DomainEventWatchdogAction.PAUSE:
        guest.expected.add("WATCHDOG")
    _tell(host, guest, "domain_event_watchdog", {"action": int(action)})


_IO_ACTIONS: Final = {
    "stop": DomainEventIOErrorAction.PAUSE,
    "report": DomainEventIOErrorAction.REPORT,
    "ignore": DomainEventIOErrorAction.NONE,
}


def _block_io_error(host: QemuHost, guest: Guest, data: Data) -> None:
    action = _IO_ACTIONS.get(str(data.get("action")), DomainEventIOErrorAction.NONE)
    disk = find_disk(guest.live, str(data.get("qom-path") or data.get("device") or ""), str(data.get("node-name", "")))
    path = source_path(disk) if disk is not None else ""
    alias = (disk.alias if disk is not None else None) or ""
    reason = "enospc" if data.get("nospace") else ""
    if action is DomainEventIOErrorAction.PAUSE:
        guest.expected.add("IOERROR")
    facts = {"srcPath": path, "devAlias": alias, "action": int(action)}
    _tell(host, guest, "domain_event_io_error", facts)
    _tell(host, guest, "domain_event_io_error_reason", {**facts, "reason": reason})


def _balloon_change(host: QemuHost, guest: Guest, data: Data) -> None:
    actual = int(data.get("actual", 0)) // 1024
    guest.balloon_kib = actual
    live = guest.live
    if live.current_memory_kib != actual:
        live.current_memory_kib = actual
        facts = msgspec.structs.replace(guest.facts, mem=actual)
        guest.adopt(guest.running(facts=facts), live=live)
        host.keep_soon(guest)
        host.publish(guest, [("domain_event_balloon_change", {"dom": guest.ref, "actual": actual})], origin="guest")


def _device_deleted(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.hotplug.removal import on_deleted

    on_deleted(host, guest, data)


def _device_kept(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.hotplug.removal import on_refused

    on_refused(host, guest, data)


def _acpi_status(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.hotplug.removal import on_acpi

    on_acpi(host, guest, data)


def _memory_resized(host: QemuHost, guest: Guest, data: Data) -> None:
    """A guest has given back a part of a virtio module, or taken it."""
    alias, size_kib = data.get("id"), int(data.get("size", 0)) // 1024
    for module in guest.live.devices.memories:
        if module.alias == alias and alias:
            module.target.current_kib = size_kib
            _tell(host, guest, "domain_event_memory_device_size_change", {"alias": alias, "size": size_kib})
            host.keep_soon(guest)


def _tray_moved(host: QemuHost, guest: Guest, data: Data) -> None:
    disk = find_disk(guest.live, str(data.get("id") or data.get("device") or ""), "")
    if disk is None:
        return
    reason = DomainEventTrayChangeReason.OPEN if data.get("tray-open") else DomainEventTrayChangeReason.CLOSE
    _tell(host, guest, "domain_event_tray_change", {"devAlias": disk.alias or "", "reason": int(reason)})


def _guest_panicked(host: QemuHost, guest: Guest, data: Data) -> None:
    # QEMU stops it, which is told first, whatever is done about it then
    _stop(host, guest, data)
    host.runtime.spawn(panicked(host, guest), f"panic of {guest.name}")


def _suspend(host: QemuHost, guest: Guest, data: Data) -> None:
    detail = DomainEventPMSuspendedDetailType.MEMORY
    told = [
        states.lifecycle(guest, DomainEventType.PMSUSPENDED, detail),
        ("domain_event_pmsuspend", {"dom": guest.ref, "reason": 0}),
    ]
    host.change_state(guest, DomainState.PMSUSPENDED, DomainPMSuspendedReason.UNKNOWN, told, origin="guest")


def _suspend_disk(host: QemuHost, guest: Guest, data: Data) -> None:
    _tell(host, guest, "domain_event_pmsuspend_disk", {"reason": 0})


def _wakeup(host: QemuHost, guest: Guest, data: Data) -> None:
    told: list[states.Told] = [("domain_event_pmwakeup", {"dom": guest.ref, "reason": 0})]
    if guest.state is DomainState.PMSUSPENDED:
        told.insert(0, states.started(guest, DomainEventStartedDetailType.WAKEUP))
        host.change_state(guest, DomainState.RUNNING, DomainRunningReason.WAKEUP, told, origin="guest")
    else:
        _tell(host, guest, *told[0])


def _graphics(phase: DomainEventGraphicsPhase) -> Handler:
    def handle(host: QemuHost, guest: Guest, data: Data) -> None:
        server, client = data.get("server") or {}, data.get("client") or {}
        names = [
            GraphicsIdentity(kind, str(client[key]))
            for key, kind in (("x509_dname", "x509dname"), ("sasl_username", "saslUsername"))
            if client.get(key)
        ]
        facts = {
            "phase": int(phase),
            "local": _address(server),
            "remote": _address(client),
            "authScheme": str(server.get("auth", "")),
            "subject": names,
        }
        _tell(host, guest, "domain_event_graphics", facts)

    return handle


_FAMILIES: Final = {
    "ipv4": DomainEventGraphicsAddressType.IPV4,
    "ipv6": DomainEventGraphicsAddressType.IPV6,
    "unix": DomainEventGraphicsAddressType.UNIX,
}


def _address(end: Data) -> GraphicsAddress:
    family = _FAMILIES.get(str(end.get("family", "unix")), DomainEventGraphicsAddressType.UNIX)
    node = str(end.get("host", ""))
    service = str(end.get("service") or end.get("port") or "")
    return GraphicsAddress(int(family), node, service)


def _port_state(host: QemuHost, guest: Guest, data: Data) -> None:
    """A program in the guest opened or closed its end of a channel."""
    alias, is_open = data.get("id"), bool(data.get("open"))
    for channel in guest.live.devices.channels:
        if channel.alias == alias and channel.target is not None:
            channel.target.state = "connected" if is_open else "disconnected"
            if channel.target.name == "org.qemu.guest_agent.0":
                state = 1 if is_open else 2
                if not is_open and guest.agent is not None:
                    guest.agent.close()
                _tell(host, guest, "domain_event_agent_lifecycle", {"state": state, "reason": 2})


def _job_status(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.block.jobs import on_job_status

    on_job_status(host, guest, dict(data))


def _job_end(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.block.jobs import on_job_end

    on_job_end(host, guest, dict(data))


def _migration(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.migration.arrival import note_status

    note_status(host, guest, str(data.get("status")))


def _migration_pass(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.job_events import tell_iteration

    tell_iteration(host, guest, int(str(data.get("pass", 0))))


def _dump_completed(host: QemuHost, guest: Guest, data: Data) -> None:
    if guest.job is not None:
        guest.job.error = str(data.get("error") or "")


def _write_threshold(host: QemuHost, guest: Guest, data: Data) -> None:
    from actors.qemu.block.threshold import on_threshold

    on_threshold(host, guest, dict(data))


_HANDLERS: Final[dict[str, Handler]] = {
    "STOP": _stop,
    "RESUME": _resume,
    "SHUTDOWN": _shutdown,
    "RESET": _reset,
    "RTC_CHANGE": _rtc_change,
    "PR_MANAGER_STATUS_CHANGED": _reservations,
    "WATCHDOG": _watchdog,
    "BLOCK_IO_ERROR": _block_io_error,
    "BALLOON_CHANGE": _balloon_change,
    "DEVICE_DELETED": _device_deleted,
    "DEVICE_UNPLUG_GUEST_ERROR": _device_kept,
    "MEM_UNPLUG_ERROR": _device_kept,
    "ACPI_DEVICE_OST": _acpi_status,
    "MEMORY_DEVICE_SIZE_CHANGE": _memory_resized,
    "DEVICE_TRAY_MOVED": _tray_moved,
    "GUEST_PANICKED": _guest_panicked,
    "SUSPEND": _suspend,
    "SUSPEND_DISK": _suspend_disk,
    "WAKEUP": _wakeup,
    "VNC_CONNECTED": _graphics(DomainEventGraphicsPhase.CONNECT),
    "VNC_INITIALIZED": _graphics(DomainEventGraphicsPhase.INITIALIZE),
    "VNC_DISCONNECTED": _graphics(DomainEventGraphicsPhase.DISCONNECT),
    "SPICE_CONNECTED": _graphics(DomainEventGraphicsPhase.CONNECT),
    "SPICE_INITIALIZED": _graphics(DomainEventGraphicsPhase.INITIALIZE),
    "SPICE_DISCONNECTED": _graphics(DomainEventGraphicsPhase.DISCONNECT),
    "VSERPORT_CHANGE": _port_state,
    "JOB_STATUS_CHANGE": _job_status,
    "BLOCK_JOB_COMPLETED": _job_end,
    "BLOCK_JOB_CANCELLED": _job_end,
    "BLOCK_WRITE_THRESHOLD": _write_threshold,
    "DUMP_COMPLETED": _dump_completed,
    "MIGRATION": _migration,
    "MIGRATION_PASS": _migration_pass,
}


def _tell_as_it_is(host: QemuHost, guest: Guest, notice: Notice) -> None:
    """For those who know QEMU's own events."""
    seconds = int(notice.time_s)
    told = {
        "event": notice.name,
        "seconds": seconds,
        "micros": int((notice.time_s - seconds) * 1_000_000),
        "details": msgspec.json.encode(notice.data).decode() if notice.data else None,
    }
    _tell(host, guest, "qemu_domain_monitor_event", told)


def _tell(host: QemuHost, guest: Guest, kind: str, data: Data) -> None:
    """Publishes what changes nothing about the guest."""
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    host.emit(kind, {"dom": guest.ref, **data}, object=entry, origin="guest")


def find_disk(domain: Domain, device: str, node: str) -> Disk | None:
    """The disk that a path in QEMU's tree, an alias or a node's name means."""
    alias = device.removeprefix("/machine/peripheral/").partition("/")[0]
    for disk in domain.devices.disks:
        if disk.alias and disk.alias == alias:
            return disk
        index = disk.source.index if disk.source is not None else None
        if index is not None and node in (f"libvirt-{index}-format", f"libvirt-{index}-storage"):
            return disk
    return None


def source_path(disk: Disk) -> str:
    """Where a disk's image is."""
    for name in ("file", "dev", "dir"):
        path = getattr(disk.source, name, None)
        if path:
            return str(path)
    return ""
