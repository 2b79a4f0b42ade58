"""What clients pass along with open files: files that a guest's disks may use, and commands for its monitor."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import CommandRefused, MonitorGone
from actors.runtime.calls import Calls
from actors.runtime.files import call_files
from schema.enums.domain import DomainFDAssociateFlags
from schema.errors import ConfigUnsupported, HypervisorGone, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(DomainFDAssociateFlags.SECLABEL_RESTORE | DomainFDAssociateFlags.SECLABEL_WRITABLE)
_HMP: Final = 1


@calls.handles(key="dom")
async def domain_fd_associate(host: QemuHost, dom: DomainRef, name: str, flags: int) -> None:
    """Lends a guest open files under a name. Raises NoSuchDomain, InvalidArguments without files, OperationFailed."""
    check_flags(flags, _FLAGS, "qemuDomainFDAssociate")
    guest = host.guest(dom)
    async with call_files() as fds:
        if not fds:
            raise InvalidArguments("no files were passed")
        guest.fd_groups.put(name, list(fds))
        fds.clear()


@calls.handles(key="dom")
async def qemu_domain_monitor_command_with_files(host: QemuHost, dom: DomainRef, cmd: str, flags: int) -> str:
    """Hands a command to a guest's monitor together with an open file, and its answer back; a refusal is an answer.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for what is no command and for more
    files than one, ConfigUnsupported for a command of the human monitor.
    """
    check_flags(flags, _HMP, "qemuDomainQemuMonitorCommandWithFiles")
    guest = host.guest(dom)
    guest.need_run()
    async with call_files() as fds:
        if len(fds) > 1:
            raise InvalidArguments("at most 1 fd can be passed to qemu along with a command")
        if flags & _HMP:
            if fds:
                raise ConfigUnsupported("the human monitor takes no files")
            return str(await guest.ask("human-monitor-command", {"command-line": cmd}))
        try:
            asked = msgspec.json.decode(cmd)
            name, arguments, mark = str(asked["execute"]), asked.get("arguments"), asked.get("id")
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
            raise InvalidArguments("the command is no QMP command") from exc
        monitor = guest.need_monitor()
        answer: dict[str, Any]
        try:
            if fds:
                answer = {"return": await monitor.execute_with(name, arguments, fds[0])}
            else:
                answer = {"return": await monitor.execute(name, arguments)}
        except CommandRefused as exc:
            answer = {"error": {"class": exc.kind, "desc": exc.reason}}
        except MonitorGone as exc:
            raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    if mark is not None:
        answer["id"] = mark
    return msgspec.json.encode(answer).decode()
