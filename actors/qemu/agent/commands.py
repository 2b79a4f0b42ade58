"""What is asked of a guest's agent word by word, and how long it may take."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.qemu.agent.asking import agent_of
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.qemu import DomainQemuAgentCommandTimeout as Timeout
from schema.errors import InternalError, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_MIN: Final = int(Timeout.MIN)


def _check(timeout: int) -> None:
    if timeout < _MIN:
        raise InvalidArguments(f"guest agent timeout '{timeout}' is less than the minimum '{_MIN}'")


@calls.handles()
async def qemu_domain_agent_command(host: QemuHost, dom: DomainRef, cmd: str, timeout: int, flags: int) -> str | None:
    """Hands a command to a guest's agent, and its answer back.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported without an agent, AgentUnresponsive, InvalidArguments,
    InternalError for what is no command and with the agent's reason when it refuses.
    """
    check_flags(flags, 0, "qemuDomainQemuAgentCommand")
    guest = host.guest(dom)
    _check(timeout)
    async with agent_of(host, guest) as agent:
        try:
            message = msgspec.json.decode(cmd)
        except msgspec.DecodeError as exc:
            raise InternalError(f"cannot parse json {cmd}: {exc}") from exc
        if not isinstance(message, dict) or not isinstance(message.get("execute"), str):
            raise InternalError(f"cannot parse json {cmd}: it names no command")
        answer = await agent.call_raw(message, timeout=timeout)
    return msgspec.json.encode(answer.whole).decode()


@calls.handles(key="dom")
async def domain_agent_set_response_timeout(host: QemuHost, dom: DomainRef, timeout: int, flags: int) -> int:
    """Says how long a guest's agent may take to answer. Raises NoSuchDomain, InvalidArguments."""
    check_flags(flags, 0, "qemuDomainAgentSetResponseTimeout")
    _check(timeout)
    guest = host.guest(dom)
    guest.agent_timeout = timeout
    if guest.run is not None:
        await host.write(guest, guest.running(agent_timeout=timeout), result=0)
    return 0
