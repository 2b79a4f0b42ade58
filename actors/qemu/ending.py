"""How a guest ends: by itself, by a call, or because it crashed; and what its definition wants then."""

from __future__ import annotations

import signal
from typing import Final

from actors.qemu import states
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from conf.domain.clock import LifecycleAction
from schema.enums.domain_event import DomainEventCrashedDetailType, DomainEventType
from schema.enums.domain_state import (
    DomainCrashedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
)
from schema.errors import OperationFailed, VirtError

PATIENCE_S: Final = 0.5
"""How long a process may take to end by itself before it is killed."""
KILL_PATIENCE_S: Final = 30.0


async def after_shutdown(host: QemuHost, guest: Guest) -> None:
    """A guest powered off and its process waits: it is started again, or ended."""
    run = guest.run
    if run is None:
        return
    try:
        wants_restart = run.reboots or guest.live.on_poweroff is LifecycleAction.RESTART
        if wants_restart and await _start_again(host, guest):
            return
        if guest.live.on_poweroff is LifecycleAction.PRESERVE and not run.reboots:
            return
        await end_process(guest, force=True)
    except VirtError as exc:
        host.log.warning("a guest that powered off did not end", guest=guest.name, error=exc.message)


async def _start_again(host: QemuHost, guest: Guest) -> bool:
    guest.expected |= {"RESUME"}
    try:
        await guest.ask_all([("system_reset", None), ("cont", None)])
    except VirtError as exc:
        host.log.warning("a guest could not be started again", guest=guest.name, error=exc.message)
        return False
    finally:
        guest.expected.discard("RESUME")
    guest.got_shutdown = False
    if guest.run is not None:
        was = guest.state
        guest.adopt(guest.running(reboots=False))
        if was is DomainState.RUNNING:
            host.keep_soon(guest)
        else:
            told = [states.resumed(guest)]
            reason = DomainRunningReason.CRASHED if was is DomainState.CRASHED else DomainRunningReason.BOOTED
            host.change_state(guest, DomainState.RUNNING, reason, told, origin="guest")
    return True


async def panicked(host: QemuHost, guest: Guest) -> None:
    """A guest's kernel gave up: what its definition wants then is done."""
    if guest.run is None:
        return
    action = guest.live.on_crash
    told = [states.lifecycle(guest, DomainEventType.CRASHED, DomainEventCrashedDetailType.PANICKED)]
    host.change_state(guest, DomainState.CRASHED, DomainCrashedReason.PANICKED, told, origin="guest")
    if action in (LifecycleAction.COREDUMP_DESTROY, LifecycleAction.COREDUMP_RESTART):
        from actors.qemu.tuning.dumps import dump_crash

        await dump_crash(host, guest)
        if guest.run is None:
            return
    try:
        if action in (LifecycleAction.RESTART, LifecycleAction.COREDUMP_RESTART, LifecycleAction.RENAME_RESTART):
            await _start_again(host, guest)
        elif action is not LifecycleAction.PRESERVE:
            guest.destroys = True
            await end_process(guest, force=True)
            await host.end(guest, DomainShutoffReason.CRASHED, origin="guest")
    except VirtError as exc:
        host.log.warning("a guest that crashed did not end", guest=guest.name, error=exc.message)


async def end_process(guest: Guest, *, force: bool, patience_s: float = PATIENCE_S) -> None:
    """Ends a guest's process: it is asked to, then killed if `force`.

    A process that is frozen by a signal is killed at once: it would not even notice that it is asked.
    Raises OperationFailed when it does not end.
    """
    process = guest.process
    if process is None or not process.is_alive:
        return
    stat = process.stat()
    if force and stat is not None and stat.is_stopped:
        process.send(signal.SIGKILL)
    else:
        process.send(signal.SIGTERM)
        if await process.wait(patience_s):
            return
        if not force:
            raise OperationFailed(f"Failed to terminate process {process.pid} with SIGTERM: Device or resource busy")
        process.send(signal.SIGKILL)
    if not await process.wait(KILL_PATIENCE_S):
        raise OperationFailed(f"Failed to terminate process {process.pid} with SIGKILL: Device or resource busy")
