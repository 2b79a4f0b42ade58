"""The processors that a guest uses of those it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.qemu.agent.asking import agent_of, ask_agent, timeout_of
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.errors import InternalError, InvalidArguments, OperationUnsupported
from schema.objects import DomainRef, TypedParam
from util.cpuset import parse_cpuset, write_cpuset

calls: Calls[QemuHost] = Calls()


def _numbers(told: Sequence[Mapping[str, Any]], *names: str) -> str:
    return write_cpuset(int(one["logical-id"]) for one in told if all(one.get(name) for name in names))


@calls.handles()
async def domain_get_guest_vcpus(host: QemuHost, dom: DomainRef, flags: int) -> list[TypedParam]:
    """Which processors a guest has, uses, and could do without.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError.
    """
    check_flags(flags, 0, "qemuDomainGetGuestVcpus")
    told = await ask_agent(host, host.guest(dom), "guest-get-vcpus")
    offlinable = write_cpuset(int(one["logical-id"]) for one in told if one.get("can-offline", False))
    return [
        TypedParam.of_string("vcpus", _numbers(told)),
        TypedParam.of_string("online", _numbers(told, "online")),
        TypedParam.of_string("offlinable", offlinable),
    ]


@calls.handles()
async def domain_set_guest_vcpus(host: QemuHost, dom: DomainRef, cpumap: str, state: int, flags: int) -> None:
    """Has a guest use some processors, or not. Raises as `domain_get_guest_vcpus` does, InvalidArguments."""
    check_flags(flags, 0, "qemuDomainSetGuestVcpus")
    if state not in (0, 1):
        raise InvalidArguments("unsupported state value")
    try:
        wanted = parse_cpuset(cpumap)
    except ValueError:
        raise InvalidArguments(f"Failed to parse bitmap '{cpumap}'") from None
    guest = host.guest(dom)
    told = await ask_agent(host, guest, "guest-get-vcpus")
    known = {int(one["logical-id"]): one for one in told}
    for number in sorted(wanted):
        if number not in known:
            raise InvalidArguments(f"vCPU '{number}' is not present in the guest")
        if not state and not known[number].get("can-offline", False):
            raise InvalidArguments(f"vCPU '{number}' is not offlinable")
    await switch(host, guest, [{"logical-id": number, "online": bool(state)} for number in sorted(wanted)])


async def count_in_use(host: QemuHost, guest: Guest, *, maximum: bool) -> int:
    """How many processors a guest uses, or has. Raises as `domain_get_guest_vcpus` does."""
    told = await ask_agent(host, guest, "guest-get-vcpus")
    return len(told) if maximum else sum(1 for one in told if one.get("online"))


async def use_so_many(host: QemuHost, guest: Guest, count: int) -> None:
    """Has a guest use so many processors. Raises as `domain_get_guest_vcpus` does, InvalidArguments for too many."""
    told = await ask_agent(host, guest, "guest-get-vcpus")
    if count > len(told):
        raise InvalidArguments(f"requested vcpu count is greater than the guest's: {count} > {len(told)}")
    in_use = [one for one in told if one.get("online")]
    changes = []
    if count > len(in_use):
        idle = [one for one in told if not one.get("online")]
        changes = [{"logical-id": one["logical-id"], "online": True} for one in idle[: count - len(in_use)]]
    elif count < len(in_use):
        movable = [one for one in reversed(in_use) if one.get("can-offline", False)]
        changes = [{"logical-id": one["logical-id"], "online": False} for one in movable[: len(in_use) - count]]
        if len(changes) < len(in_use) - count:
            raise OperationUnsupported("failed to find enough offlinable vcpus")
    await switch(host, guest, changes)


async def switch(host: QemuHost, guest: Guest, changes: list[dict[str, Any]]) -> None:
    """An agent may do a part of what it is told, and say how much: the rest is told again."""
    async with agent_of(host, guest) as agent:
        while changes:
            done = (await agent.call("guest-set-vcpus", {"vcpus": changes}, timeout=timeout_of(guest))).value
            if not isinstance(done, int) or done <= 0 or done > len(changes):
                raise InternalError("guest agent returned malformed or invalid return value")
            del changes[:done]
