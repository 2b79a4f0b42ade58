"""All that a guest's agent tells of its guest, as one list of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.qemu.agent.addresses import read_interfaces
from actors.qemu.agent.asking import agent_of, timeout_of
from actors.qemu.agent.filesystems import find_guest_disk
from actors.qemu.agent.link import AgentLink
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.domain.domain import Domain
from schema.enums.domain_guest import DomainGuestInfoTypes as Types
from schema.enums.domain_guest import IPAddrType
from schema.errors import InternalError, InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_text, _count, _size = TypedParam.of_string, TypedParam.of_uint, TypedParam.of_ullong
_OS: Final = (
    ("id", "id"),
    ("name", "name"),
    ("pretty-name", "pretty-name"),
    ("version", "version"),
    ("version-id", "version-id"),
    ("machine", "machine"),
    ("variant", "variant"),
    ("variant-id", "variant-id"),
    ("kernel-release", "kernel-release"),
    ("kernel-version", "kernel-version"),
)
_COMMANDS: Final = {
    Types.USERS: "guest-get-users",
    Types.OS: "guest-get-osinfo",
    Types.TIMEZONE: "guest-get-timezone",
    Types.HOSTNAME: "guest-get-host-name",
    Types.FILESYSTEM: "guest-get-fsinfo",
    Types.DISKS: "guest-get-disks",
    Types.INTERFACES: "guest-network-get-interfaces",
}


@calls.handles()
async def domain_get_guest_info(host: QemuHost, dom: DomainRef, types: int, flags: int) -> list[TypedParam]:
    """What a guest's agent tells of some matters; of all it knows when none is named.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError for a named matter that
    the agent does not tell.
    """
    check_flags(flags, 0, "qemuDomainGetGuestInfo")
    known = int(sum(_COMMANDS))
    if types & ~known:
        raise InvalidArguments(f"unsupported guest information types '0x{types & ~known:x}'")
    guest = host.guest(dom)
    found: list[TypedParam] = []
    async with agent_of(host, guest) as agent:
        for kind, command in _COMMANDS.items():
            if types and not types & kind:
                continue
            told = await _told(guest, agent, command, needs=bool(types))
            if told is not None:
                found += _described(kind, told, guest.live)
    return found


async def _told(guest: Guest, agent: AgentLink, command: str, *, needs: bool) -> Any:
    try:
        return (await agent.call(command, timeout=timeout_of(guest))).value
    except InternalError:
        if needs:
            raise
        return None


def _described(kind: Types, told: Any, live: Domain) -> list[TypedParam]:
    if kind is Types.USERS:
        return _users(told)
    if kind is Types.OS:
        return [_text(f"os.{ours}", str(told[theirs])) for ours, theirs in _OS if theirs in told]
    if kind is Types.TIMEZONE:
        found = [_text("timezone.name", str(told["zone"]))] if "zone" in told else []
        return [*found, TypedParam.of_int("timezone.offset", int(told["offset"]))]
    if kind is Types.HOSTNAME:
        return [_text("hostname", str(told["host-name"]))]
    if kind is Types.FILESYSTEM:
        return _filesystems(told, live)
    if kind is Types.DISKS:
        return _disks(told, live)
    return _interfaces(told)


def _users(told: list[Mapping[str, Any]]) -> list[TypedParam]:
    found = [_count("user.count", len(told))]
    for number, one in enumerate(told):
        found.append(_text(f"user.{number}.name", str(one["user"])))
        if "domain" in one:
            found.append(_text(f"user.{number}.domain", str(one["domain"])))
        found.append(_size(f"user.{number}.login-time", int(float(one["login-time"]) * 1000)))
    return found


def _filesystems(told: list[Mapping[str, Any]], live: Domain) -> list[TypedParam]:
    found = [_count("fs.count", len(told))]
    for number, one in enumerate(told):
        name = f"fs.{number}"
        found += [
            _text(f"{name}.name", str(one["name"])),
            _text(f"{name}.mountpoint", str(one["mountpoint"])),
            _text(f"{name}.fstype", str(one["type"])),
        ]
        if "total-bytes" in one:
            found.append(_size(f"{name}.total-bytes", int(one["total-bytes"])))
            found.append(_size(f"{name}.used-bytes", int(one.get("used-bytes", 0))))
        disks = one.get("disk") or ()
        found.append(_count(f"{name}.disk.count", len(disks)))
        for place, disk in enumerate(disks):
            known = find_guest_disk(live, disk)
            if known is not None:
                found.append(_text(f"{name}.disk.{place}.alias", known.target.dev))
            found += [
                _text(f"{name}.disk.{place}.{ours}", str(disk[theirs]))
                for ours, theirs in (("serial", "serial"), ("device", "dev"))
                if theirs in disk
            ]
    return found


def _disks(told: list[Mapping[str, Any]], live: Domain) -> list[TypedParam]:
    found = [_count("disk.count", len(told))]
    for number, one in enumerate(told):
        name = f"disk.{number}"
        found.append(_text(f"{name}.name", str(one["name"])))
        found.append(TypedParam.of_boolean(f"{name}.partition", bool(one.get("partition"))))
        dependencies = one.get("dependencies") or ()
        if dependencies:
            found.append(_count(f"{name}.dependency.count", len(dependencies)))
            found += [_text(f"{name}.dependency.{place}.name", str(on)) for place, on in enumerate(dependencies)]
        address = one.get("address") or {}
        if "serial" in address:
            found.append(_text(f"{name}.serial", str(address["serial"])))
        if "bus-type" in address:
            found.append(_text(f"{name}.guest_bus", str(address["bus-type"])))
        known = find_guest_disk(live, address)
        if known is not None:
            found.append(_text(f"{name}.alias", known.target.dev))
        if "alias" in one:
            found.append(_text(f"{name}.guest_alias", str(one["alias"])))
    return found


def _interfaces(told: Any) -> list[TypedParam]:
    interfaces = read_interfaces(told)
    found = [_count("if.count", len(interfaces))]
    for number, one in enumerate(interfaces):
        name = f"if.{number}"
        found.append(_text(f"{name}.name", one.name))
        if one.hwaddr is not None:
            found.append(_text(f"{name}.hwaddr", one.hwaddr))
        found.append(_count(f"{name}.addr.count", len(one.addrs)))
        for place, address in enumerate(one.addrs):
            kind = "ipv4" if address.type == IPAddrType.IPV4 else "ipv6"
            found += [
                _text(f"{name}.addr.{place}.type", kind),
                _text(f"{name}.addr.{place}.addr", address.addr),
                _count(f"{name}.addr.{place}.prefix", address.prefix),
            ]
    return found
