"""Starting, pausing, and ending guests."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.qemu import states
from actors.qemu.agent.power import has_agent, power_by_agent
from actors.qemu.binding import this_connection, watch_connections
from actors.qemu.claims import ensure_leases
from actors.qemu.definitions import find_or_make, read_definition
from actors.qemu.ending import end_process
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import drop_tpm
from actors.qemu.host import QemuHost
from actors.qemu.logs import log_of
from actors.qemu.notices import announce
from actors.qemu.saving import restore_managed
from actors.qemu.start import Wish, start_guest
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from conf.domain.clock import LifecycleAction
from schema.enums.domain import DomainCreateFlags as CreateFlags
from schema.enums.domain import DomainDestroyFlags as DestroyFlags
from schema.enums.domain import DomainRebootFlags as RebootFlags
from schema.enums.domain import DomainShutdownFlags as ShutdownFlags
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
)
from schema.errors import DomainStateError, VirtError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_CREATE_FLAGS: Final = int(
    CreateFlags.START_PAUSED
    | CreateFlags.START_AUTODESTROY
    | CreateFlags.START_BYPASS_CACHE
    | CreateFlags.START_FORCE_BOOT
    | CreateFlags.START_VALIDATE
    | CreateFlags.START_RESET_NVRAM
)


def told_of_start(guest: Guest, *, paused: bool, detail: Started = Started.BOOTED) -> list[states.Told]:
    """What subscribers hear of a start, in libvirt's order: it runs before it is said to be started."""
    if paused:
        return [states.started(guest, detail), states.suspended(guest)]
    return [states.resumed(guest), states.started(guest, detail)]


def wish_of(flags: int) -> Wish:
    """How a guest is to be started, as the flags of a start say."""
    return Wish(
        paused=bool(flags & CreateFlags.START_PAUSED),
        bound_to=this_connection() if flags & CreateFlags.START_AUTODESTROY else "",
        resets_nvram=bool(flags & CreateFlags.START_RESET_NVRAM),
    )


async def boot(host: QemuHost, guest: Guest, flags: int) -> None:
    """Starts a guest that is off with its configuration. Raises as `start_guest` does."""
    wish = wish_of(flags)
    await start_guest(host, guest, guest.config, wish)
    announce(host, guest, told_of_start(guest, paused=wish.paused))
    watch_connections(host)


@calls.handles(key="dom")
async def domain_create_with_flags(host: QemuHost, dom: DomainRef, flags: int) -> DomainRef:
    """Starts a guest with its configuration; one that was put to sleep goes on from its saved memory.

    Raises NoSuchDomain, DomainStateError when it is active, ConfigUnsupported, HostSystemError and InternalError when
    it cannot start; nothing is left of it then.
    """
    check_flags(flags, _CREATE_FLAGS, "qemuDomainCreateWithFlags")
    guest = host.guest(dom)
    if guest.is_active:
        raise DomainStateError("domain is already running")
    if guest.record.managed_save:
        if not flags & CreateFlags.START_FORCE_BOOT:
            past_cache = bool(flags & CreateFlags.START_BYPASS_CACHE)
            if await restore_managed(host, guest, wish_of(flags), past_cache=past_cache):
                watch_connections(host)
                return guest.ref
        else:
            host.managed_save_path(guest).unlink(missing_ok=True)
            guest.adopt(msgspec.structs.replace(guest.record, managed_save=False))
    await boot(host, guest, flags)
    return guest.ref


@calls.handles()
async def domain_create_xml(host: QemuHost, xml_desc: str, flags: int) -> DomainRef:
    """Starts a guest with this definition; one that was persistent stays so, with its own configuration.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, DomainExists when name and uuid belong to
    different guests, DomainStateError when it is active already, and what a start raises.
    """
    check_flags(flags, _CREATE_FLAGS, "qemuDomainCreateXML")
    definition = await read_definition(host, xml_desc, validate=bool(flags & CreateFlags.START_VALIDATE))
    async with (
        host.runtime.mailbox(("name", definition.name)).change(),
        host.runtime.mailbox(("domain", definition.uuid.bytes)).change(),
    ):
        guest = find_or_make(host, definition)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active")
        is_new = guest.key not in host.guests
        wish = wish_of(flags)
        host.add(guest)
        try:
            await start_guest(host, guest, definition, wish)
        except BaseException:
            if is_new:
                drop_tpm(host, guest.record.uuid, definition)
                host.forget(guest)
            raise
        announce(host, guest, told_of_start(guest, paused=wish.paused))
        watch_connections(host)
    return guest.ref


@calls.handles(key="dom")
async def domain_suspend(host: QemuHost, dom: DomainRef) -> None:
    """Pauses a guest; one that is paused stays so. Raises NoSuchDomain, DomainStateError when it is off or asleep."""
    guest = host.guest(dom)
    run = guest.need_run()
    if guest.state is DomainState.PMSUSPENDED:
        raise DomainStateError("domain is pmsuspended")
    if guest.state is DomainState.PAUSED and run.reason == DomainPausedReason.USER:
        return
    guest.expected.add("STOP")
    try:
        await guest.ask("stop")
    finally:
        guest.expected.discard("STOP")
    if guest.state is DomainState.RUNNING:
        host.change_state(guest, DomainState.PAUSED, DomainPausedReason.USER, [states.suspended(guest)])


@calls.handles(key="dom")
async def domain_resume(host: QemuHost, dom: DomainRef) -> None:
    """Lets a paused guest go on. Raises NoSuchDomain, DomainStateError, ResourceBusy.

    DomainStateError: it is off, or runs already. ResourceBusy: another guest has an image of its now.
    """
    guest = host.guest(dom)
    move = guest.need_run().move
    if guest.state is DomainState.RUNNING:
        if current_call().is_resend:
            return  # the process before this one had done it
        raise DomainStateError("domain is already running")
    if move is not None and move.way == "out":
        if move.phase in ("switching", "postcopy", "broken"):
            raise DomainStateError("the domain runs on another host, and some of its memory is only here")
        # whoever says so knows that it does not run elsewhere: its migration is over
        guest.adopt(guest.running(move=None))
    if guest.state is DomainState.PMSUSPENDED:
        raise DomainStateError("domain is pmsuspended")
    if guest.state in (DomainState.SHUTDOWN, DomainState.CRASHED) and guest.got_shutdown:
        raise DomainStateError("domain is not paused")
    await ensure_leases(host, guest, surely=move is not None)
    guest.expected.add("RESUME")
    try:
        await guest.ask("cont")
    finally:
        guest.expected.discard("RESUME")
    run = guest.run
    if run is not None and run.state != DomainState.RUNNING:
        host.change_state(guest, DomainState.RUNNING, DomainRunningReason.UNPAUSED, [states.resumed(guest)])


async def _ask_agent_first(host: QemuHost, guest: Guest, flags: int, mode: str) -> bool:
    """Whether a guest's agent has done it; where the power button is allowed too, an agent that fails is no error.

    An agent that nobody has asked for by name is asked all the same when it is there.
    """
    agent, button = int(ShutdownFlags.GUEST_AGENT), int(ShutdownFlags.ACPI_POWER_BTN)
    if not flags & agent and (flags or not has_agent(guest)):
        return False
    try:
        await power_by_agent(host, guest, mode)
    except VirtError:
        if flags and not flags & button:
            raise
        return False
    return True


@calls.handles(key="dom")
async def domain_shutdown_flags(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Has a guest power off: by its agent, or with its power button, of which it makes what it likes.

    Raises NoSuchDomain, DomainStateError, and when only the agent may: ArgumentUnsupported, AgentUnresponsive.
    """
    check_flags(flags, int(ShutdownFlags.ACPI_POWER_BTN | ShutdownFlags.GUEST_AGENT), "qemuDomainShutdownFlags")
    guest = host.guest(dom)
    run = guest.need_run()
    restarts = guest.live.on_poweroff in (LifecycleAction.RESTART, LifecycleAction.RENAME_RESTART)
    if run.reboots != restarts:
        guest.adopt(guest.running(reboots=restarts))
        host.keep_soon(guest)
    if not await _ask_agent_first(host, guest, flags, "powerdown"):
        if guest.state is not DomainState.RUNNING:
            raise DomainStateError("domain is not running")  # nobody would see the button
        await guest.ask("system_powerdown")


@calls.handles(key="dom")
async def domain_reboot(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Has a guest reboot: by its agent, or with its power button and a new start when it has powered off.

    Raises NoSuchDomain, DomainStateError when it is off, and when only the agent may: ArgumentUnsupported,
    AgentUnresponsive.
    """
    check_flags(flags, int(RebootFlags.ACPI_POWER_BTN | RebootFlags.GUEST_AGENT), "qemuDomainReboot")
    guest = host.guest(dom)
    run = guest.need_run()
    if run.reboots and flags == RebootFlags.GUEST_AGENT:
        await host.write(guest, guest.running(reboots=False))
    if await _ask_agent_first(host, guest, flags, "reboot"):
        return
    await host.write(guest, guest.running(reboots=guest.live.on_reboot is not LifecycleAction.DESTROY))
    await guest.ask("system_powerdown")


@calls.handles(key="dom")
async def domain_reset(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Presses a guest's reset button. Raises NoSuchDomain, DomainStateError when it is off."""
    check_flags(flags, 0, "qemuDomainReset")
    guest = host.guest(dom)
    guest.need_run()
    await guest.ask("system_reset")
    if guest.state is DomainState.CRASHED:
        host.change_state(guest, DomainState.PAUSED, DomainPausedReason.CRASHED)


@calls.handles(key="dom", lane="override")
async def domain_destroy_flags(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Ends a guest at once, also one that does not answer.

    Raises NoSuchDomain, DomainStateError when it is off, OperationFailed when its process does not end.
    """
    check_flags(flags, int(DestroyFlags.GRACEFUL | DestroyFlags.REMOVE_LOGS), "qemuDomainDestroyFlags")
    guest = host.guest(dom)
    guest.need_run()
    force = not flags & DestroyFlags.GRACEFUL
    patience_s = host.config.qemu.stop_timeout_s
    guest.destroys = True
    guest.expected.add("SHUTDOWN")
    try:
        # on disk first: a successor of this process must not take the end for a crash
        async with host.intents.change("destroy", {"uuid": guest.record.uuid, "force": force}):
            if force:
                await end_process(guest, force=True)
            else:
                await end_process(guest, force=False, patience_s=patience_s)
            await host.end(guest, DomainShutoffReason.DESTROYED)
    finally:
        guest.expected.discard("SHUTDOWN")
        if guest.run is not None:
            guest.destroys = False
            if guest.process is not None and not guest.process.is_alive:
                host.runtime.spawn(
                    host.end(guest, DomainShutoffReason.DESTROYED, origin="call"), f"end of {guest.name}"
                )
    if flags & DestroyFlags.REMOVE_LOGS:
        log_of(host, guest.name).unlink(missing_ok=True)


@calls.handles(key="dom")
async def domain_inject_nmi(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Interrupts a guest in a way that it cannot ignore. Raises NoSuchDomain, DomainStateError when it is off."""
    check_flags(flags, 0, "qemuDomainInjectNMI")
    guest = host.guest(dom)
    guest.need_run()
    await guest.ask("inject-nmi")


@calls.handles(key="dom")
async def domain_pm_wakeup(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Wakes a guest that sleeps. Raises NoSuchDomain, DomainStateError when it is off."""
    check_flags(flags, 0, "qemuDomainPMWakeup")
    guest = host.guest(dom)
    guest.need_run()
    await guest.ask("system_wakeup")
