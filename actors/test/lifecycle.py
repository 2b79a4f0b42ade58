"""Starting, pausing, and ending guests."""

from __future__ import annotations

from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules, states
from actors.test.flags import check_flags
from actors.test.guest import Draft
from actors.test.host import TestHost, Told
from actors.test.states import Move
from schema.enums.domain import DomainDestroyFlags as DestroyFlags
from schema.enums.domain import DomainRebootFlags as RebootFlags
from schema.errors import InvalidArguments
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()

_REBOOT_FLAGS: Final = int(
    RebootFlags.ACPI_POWER_BTN
    | RebootFlags.GUEST_AGENT
    | RebootFlags.INITCTL
    | RebootFlags.SIGNAL
    | RebootFlags.PARAVIRT
)
_INIT: Final = 1  # the only process of a guest that this driver can signal


@calls.handles(key="dom")
async def domain_create_with_flags(host: TestHost, dom: DomainRef, flags: int) -> DomainRef:
    """Starts a guest from its configuration; a managed save image is used up by it.

    Raises NoSuchDomain, and InternalError when it is active already.
    """
    check_flags(flags, 0, "testDomainCreateWithFlags")
    guest = host.guest(dom)
    states.check_startable(guest.record.state, guest.name)
    draft = guest.draft()
    new_id = host.world.next_id()
    draft.run(rules.started(guest.config), new_id, states.BOOT)
    ref = DomainRef(guest.name, guest.uuid, new_id)
    await host.commit(draft, Told.of(states.BOOT), result=ref)
    return ref


@calls.handles(key="dom")
async def domain_suspend(host: TestHost, dom: DomainRef) -> None:
    """Pauses a guest. Raises NoSuchDomain, and InternalError when it does not run."""
    guest = host.guest(dom)
    states.check_suspendable(guest.record.state, guest.name)
    await _move(host, guest.draft(), states.SUSPEND)


@calls.handles(key="dom")
async def domain_resume(host: TestHost, dom: DomainRef) -> None:
    """Lets a paused guest go on. Raises NoSuchDomain, and InternalError when it is not paused."""
    guest = host.guest(dom)
    states.check_paused(guest.record.state, guest.name)
    await _move(host, guest.draft(), states.RESUME)


@calls.handles(key="dom")
async def domain_shutdown_flags(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Shuts a guest down, which these guests do at once. Raises NoSuchDomain, and InternalError when it is off."""
    check_flags(flags, 0, "testDomainShutdownFlags")
    guest = host.guest(dom)
    states.check_stoppable(guest.record.state, guest.name)
    await _move(host, guest.draft(), states.SHUTDOWN)


@calls.handles(key="dom", lane="override")
async def domain_destroy_flags(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Ends a guest. Raises NoSuchDomain, and DomainStateError when it is off."""
    check_flags(flags, int(DestroyFlags.GRACEFUL), "testDomainDestroyFlags")
    guest = host.guest(dom)
    guest.check_active()
    await _move(host, guest.draft(), states.DESTROY)


@calls.handles(key="dom")
async def domain_reboot(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Does what the definition says of a reboot: it runs on, or is off. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, _REBOOT_FLAGS, "testDomainReboot")
    guest = host.guest(dom)
    guest.check_active()
    await _move(host, guest.draft(), states.move_of_reboot(rules.on_reboot(guest.live)))


@calls.handles(key="dom")
async def domain_reset(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Resets a guest, of which nothing can be seen from outside. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainReset")
    host.guest(dom).check_active()


@calls.handles(key="dom")
async def domain_inject_nmi(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Interrupts a guest. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainInjectNMI")
    host.guest(dom).check_active()


@calls.handles(key="dom")
async def domain_send_key(
    host: TestHost, dom: DomainRef, codeset: int, holdtime: int, keycodes: list[int], flags: int
) -> None:
    """Types on a guest's keyboard. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainSendKey")
    host.guest(dom).check_active()


@calls.handles(key="dom")
async def domain_send_process_signal(host: TestHost, dom: DomainRef, pid_value: int, signum: int, flags: int) -> None:
    """Signals the guest's first process, which ignores it. Raises NoSuchDomain, InvalidArguments."""
    check_flags(flags, 0, "testDomainSendProcessSignal")
    host.guest(dom)
    if pid_value != _INIT:
        raise InvalidArguments("only sending a signal to pid 1 is supported")


async def _move(host: TestHost, draft: Draft, move: Move) -> None:
    draft.move(move)
    await host.commit(draft, Told.of(move))
