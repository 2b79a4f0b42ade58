"""How handlers ask a guest's agent: whether there is one, in turn, with the guest's own limit on answers.

The agent has a queue of its own beside the guest's: one that hangs does not hold up a change of the guest.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from actors.qemu.agent.channel import agent_channel, agent_path, is_connected
from actors.qemu.agent.link import AgentLink, open_agent
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import connect_socket
from schema.enums.domain_state import DomainState
from schema.errors import AgentUnresponsive, ArgumentUnsupported, DomainStateError, VirtError


def check_agent(guest: Guest) -> None:
    """Raises DomainStateError, ArgumentUnsupported, AgentUnresponsive when the guest's agent cannot be asked."""
    guest.need_run()
    if guest.state is not DomainState.RUNNING:
        raise DomainStateError("domain is not running")
    channel = agent_channel(guest.live)
    if channel is None:
        raise ArgumentUnsupported("QEMU guest agent is not configured")
    if not is_connected(channel):
        raise AgentUnresponsive("QEMU guest agent is not connected")


@contextlib.asynccontextmanager
async def agent_of(host: QemuHost, guest: Guest) -> AsyncIterator[AgentLink]:
    """The guest's agent, for one caller at a time. Raises as `check_agent` does, and Busy when too many wait."""
    check_agent(guest)
    async with host.runtime.mailbox(("agent", guest.key)).change():
        check_agent(guest)
        if guest.agent is None or not guest.agent.is_open:
            channel = agent_channel(guest.live)
            path = agent_path(channel) if channel is not None else None
            if path is None:
                raise ArgumentUnsupported("QEMU guest agent is not configured")
            try:
                guest.agent = await open_agent(connect_socket(path))
            except OSError as exc:
                raise AgentUnresponsive("QEMU guest agent is not available due to an error") from exc
        yield guest.agent


def timeout_of(guest: Guest) -> int:
    """How long the guest's agent may take."""
    run = guest.run
    return guest.agent_timeout if run is None or run.agent_timeout is None else run.agent_timeout


async def ask_agent(
    host: QemuHost, guest: Guest, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: int | None = None
) -> Any:
    """The value of one command. Raises as `agent_of` does, InternalError when the agent refuses."""
    async with agent_of(host, guest) as agent:
        limit = timeout_of(guest) if timeout is None else timeout
        return (await agent.call(name, arguments, timeout=limit)).value


async def thaw(host: QemuHost, guest: Guest) -> None:
    """File systems that were frozen for a snapshot go on. Never fails: what went wrong is told in the log."""
    try:
        await ask_agent(host, guest, "guest-fsfreeze-thaw")
    except VirtError as exc:
        host.log.warning("a guest's file systems may still be frozen", guest=guest.name, error=exc.message)
