"""Small answers about guests: their labels, messages and jobs, and QEMU's own monitor for those who know it."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import CommandRefused, MonitorGone
from actors.runtime.calls import Calls
from schema.errors import HypervisorGone, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_HMP: Final = 1


@calls.handles()
def domain_get_security_label(host: QemuHost, dom: DomainRef) -> dict[str, Any]:
    """There is no security driver yet, so no guest has a label. Raises NoSuchDomain."""
    host.guest(dom)
    return {"label": b"\0", "enforcing": 0}


@calls.handles()
def domain_get_messages(host: QemuHost, dom: DomainRef, flags: int) -> list[str]:
    """What is unusual about a running guest. Raises NoSuchDomain."""
    check_flags(flags, 3, "qemuDomainGetMessages")
    guest = host.guest(dom)
    found = []
    if guest.is_active:
        if os.geteuid() == 0 and not host.config.qemu.user:
            found.append("tainted: running with undesirable elevated privileges")
        if guest.live.qemu_commandline is not None:
            found.append("tainted: use of custom QEMU command line arguments")
        cpu = guest.live.cpu
        if cpu is not None and cpu.mode is not None and cpu.mode.value == "host-passthrough":
            found.append("tainted: use of host cpu passthrough")
    return found


@calls.handles(key="dom")
async def qemu_domain_monitor_command(host: QemuHost, dom: DomainRef, cmd: str, flags: int) -> str:
    """Hands a command to a guest's monitor, and its answer back; a refusal is an answer.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for what is no command.
    """
    check_flags(flags, _HMP, "qemuDomainQemuMonitorCommand")
    guest = host.guest(dom)
    guest.need_run()
    if flags & _HMP:
        return str(await guest.ask("human-monitor-command", {"command-line": cmd}))
    try:
        asked = msgspec.json.decode(cmd)
        name, arguments, mark = asked["execute"], asked.get("arguments"), asked.get("id")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidArguments("the command is no QMP command") from exc
    (future,) = guest.need_monitor().submit([(str(name), arguments)])
    answer: dict[str, Any]
    try:
        answer = {"return": await future}
    except CommandRefused as exc:
        answer = {"error": {"class": exc.kind, "desc": exc.reason}}
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    if mark is not None:
        answer["id"] = mark
    return msgspec.json.encode(answer).decode()
