"""Guests that power off, reboot or sleep because their agent is told to.

An agent that does so answers nothing: what is waited for is that it happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from actors.qemu.agent.asking import agent_of, timeout_of
from actors.qemu.agent.channel import agent_channel, is_connected
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_state import DomainState
from schema.enums.node import NodeSuspendTarget as Target
from schema.enums.qemu import DomainQemuAgentCommandTimeout as Timeout
from schema.errors import AgentUnresponsive, ArgumentUnsupported, InvalidArguments, OperationUnsupported
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_POLL_S: Final = 0.05
_SUSPENDS: Final = {
    Target.MEM: "guest-suspend-ram",
    Target.DISK: "guest-suspend-disk",
    Target.HYBRID: "guest-suspend-hybrid",
}


def has_agent(guest: Guest) -> bool:
    """Whether a guest's agent can be asked."""
    channel = agent_channel(guest.live) if guest.is_active else None
    return channel is not None and is_connected(channel)


async def power_by_agent(host: QemuHost, guest: Guest, mode: str) -> None:
    """Has a guest's agent power it off (`powerdown`), or reboot it (`reboot`).

    Raises DomainStateError, ArgumentUnsupported, AgentUnresponsive when nothing comes of it within a minute,
    InternalError when the agent refuses.
    """
    before = guest.resets

    def has_happened() -> bool:
        return guest.run is None or guest.got_shutdown or guest.resets != before

    await _until(host, guest, "guest-shutdown", {"mode": mode}, has_happened, int(Timeout.SHUTDOWN))


@calls.handles()
async def domain_pm_suspend_for_duration(
    host: QemuHost, dom: DomainRef, target: int, duration: int, flags: int
) -> None:
    """Puts a guest to sleep by its agent.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, OperationUnsupported when the machine has no such sleep,
    AgentUnresponsive, InternalError, InvalidArguments.
    """
    check_flags(flags, 0, "qemuDomainPMSuspendForDuration")
    if duration:
        raise ArgumentUnsupported("Duration not supported. Use 0 for now")
    if target not in _SUSPENDS:
        raise InvalidArguments(f"Unknown suspend target: {target}")
    guest = host.guest(dom)
    guest.need_run()
    pm = guest.live.pm
    if pm is not None and target in (Target.MEM, Target.HYBRID) and pm.suspend_to_mem is False:
        raise OperationUnsupported("S3 state is disabled for this domain")
    if pm is not None and target in (Target.DISK, Target.HYBRID) and pm.suspend_to_disk is False:
        raise OperationUnsupported("S4 state is disabled for this domain")

    def has_happened() -> bool:
        return guest.run is None or guest.got_shutdown or guest.state is DomainState.PMSUSPENDED

    await _until(host, guest, _SUSPENDS[Target(target)], None, has_happened, timeout_of(guest))


async def _until(
    host: QemuHost,
    guest: Guest,
    name: str,
    arguments: dict[str, str] | None,
    has_happened: Callable[[], bool],
    limit: int,
) -> None:
    loop = asyncio.get_running_loop()
    async with agent_of(host, guest) as agent:
        await agent.send(name, arguments, timeout=timeout_of(guest))
        end = loop.time() + (limit if limit > 0 else int(Timeout.SHUTDOWN))
        while not has_happened():
            refusal = agent.refusal(name)
            if refusal is not None:
                raise refusal
            if loop.time() > end:
                raise AgentUnresponsive(f"guest agent didn't respond to command within '{limit}' seconds")
            await asyncio.sleep(_POLL_S)
