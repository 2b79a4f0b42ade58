"""What clients pass along with open files: files that a guest's disks may use, and commands for its monitor."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
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
async def qemu_domain_monitor_command(host: QemuHost, dom: DomainRef, cmd: str, flags: int) -> str:
    """Hands a command to a guest's monitor, and its answer back; a refusal is an answer.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for what is no command.
    """
    check_flags(flags, _HMP, "qemuDomainQemuMonitorCommand")
    return await _command(host, host.guest(dom), cmd, flags, [])


@calls.handles(key="dom")
async def qemu_domain_monitor_command_with_files(host: QemuHost, dom: DomainRef, cmd: str, flags: int) -> str:
    """Hands a command to a guest's monitor together with an open file, and its answer back; a refusal is an answer.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for what is no command and for more
    files than one, ConfigUnsupported for a command of the human monitor.
    """
    check_flags(flags, _HMP, "qemuDomainQemuMonitorCommandWithFiles")
    async with call_files() as fds:
        if len(fds) > 1:
            raise InvalidArguments("at most 1 fd can be passed to qemu along with a command")
        if fds and flags & _HMP:
            raise ConfigUnsupported("the human monitor takes no files")
        return await _command(host, host.guest(dom), cmd, flags, fds)


async def _command(host: QemuHost, guest: Guest, text: str, flags: int, fds: list[int]) -> str:
    if not guest.need_run().commanded:
        await host.write(guest, guest.running(commanded=True), completes=False)
    if flags & _HMP:
        return str(await guest.ask("human-monitor-command", {"command-line": text}))
    try:
        asked = msgspec.json.decode(text)
        name, arguments, mark = str(asked["execute"]), asked.get("arguments"), asked.get("id")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidArguments("the command is no QMP command") from exc
    monitor = guest.need_monitor()
    if mark is None:
        mark = f"libvirt-{monitor.next_number}"
    answer: dict[str, Any]
    try:
        value = await (monitor.execute_with(name, arguments, fds[0]) if fds else monitor.execute(name, arguments))
        answer = {"return": value, "id": mark}  # the order in which QEMU writes them
    except CommandRefused as exc:
        answer = {"id": mark, "error": {"class": exc.kind, "desc": exc.reason}}
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    return msgspec.json.encode(answer).decode()
