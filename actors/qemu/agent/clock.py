"""The clocks and names of guests."""

from __future__ import annotations

from typing import Final

from actors.qemu.agent.asking import ask_agent
from actors.qemu.flags import check_apart, check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_guest import DomainGetHostnameFlags as HostnameFlags
from schema.enums.domain_guest import DomainSetTimeFlags as TimeFlags
from schema.errors import InternalError, NoSuchHostname, VirtError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_NS: Final = 1_000_000_000


@calls.handles()
async def domain_get_time(host: QemuHost, dom: DomainRef, flags: int) -> dict[str, int]:
    """A guest's clock. Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError."""
    check_flags(flags, 0, "qemuDomainGetTime")
    told = await ask_agent(host, host.guest(dom), "guest-get-time")
    if not isinstance(told, int):
        raise InternalError("malformed return value")
    return {"seconds": told // _NS, "nseconds": told % _NS}


@calls.handles()
async def domain_set_time(host: QemuHost, dom: DomainRef, seconds: int, nseconds: int, flags: int) -> None:
    """Sets a guest's clock; with SYNC from its own hardware clock. Raises as `domain_get_time` does."""
    check_flags(flags, int(TimeFlags.SYNC), "qemuDomainSetTime")
    guest = host.guest(dom)
    arguments = None if flags & TimeFlags.SYNC else {"time": seconds * _NS + nseconds}
    await ask_agent(host, guest, "guest-set-time", arguments)
    try:
        await guest.ask("rtc-reset-reinjection")
    except VirtError:
        return  # no ticks were missed where QEMU keeps no count of them


@calls.handles()
async def domain_get_hostname(host: QemuHost, dom: DomainRef, flags: int) -> str:
    """The name that a guest has for itself. Raises as `domain_get_time` does, NoSuchHostname without one."""
    check_flags(flags, int(HostnameFlags.LEASE | HostnameFlags.AGENT), "qemuDomainGetHostname")
    check_apart(
        flags,
        HostnameFlags.LEASE,
        "VIR_DOMAIN_GET_HOSTNAME_LEASE",
        HostnameFlags.AGENT,
        "VIR_DOMAIN_GET_HOSTNAME_AGENT",
    )
    guest = host.guest(dom)
    if flags & HostnameFlags.LEASE:
        guest.need_run()
        raise NoSuchHostname(f"no hostname found for domain {guest.name}")
    told = await ask_agent(host, guest, "guest-get-host-name")
    name = told.get("host-name") if isinstance(told, dict) else None
    if not name:
        raise NoSuchHostname(f"no hostname found for domain {guest.name}")
    return str(name)
