"""The network addresses of guests, as their agents or the host's neighbour table tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from actors.qemu.agent.asking import ask_agent
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_guest import DomainInterfaceAddressesSource as Source
from schema.enums.domain_guest import IPAddrType
from schema.errors import ArgumentUnsupported, InternalError
from schema.objects import DomainInterface, DomainIpAddr, DomainRef

calls: Calls[QemuHost] = Calls()

_NEIGHBOURS: Final = Path("/proc/net/arp")
_FAMILIES: Final = {"ipv4": IPAddrType.IPV4, "ipv6": IPAddrType.IPV6}


@calls.handles()
async def domain_interface_addresses(host: QemuHost, dom: DomainRef, source: int, flags: int) -> list[DomainInterface]:
    """The addresses of a guest's interfaces.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError.
    """
    check_flags(flags, 0, "qemuDomainInterfaceAddresses")
    guest = host.guest(dom)
    guest.need_run()
    if source == Source.AGENT:
        return read_interfaces(await ask_agent(host, guest, "guest-network-get-interfaces"))
    if source == Source.ARP:
        return _known_to_host(guest)
    if source == Source.LEASE:
        return []  # leases are the network driver's, of which there is none yet
    raise ArgumentUnsupported(f"Unknown IP address data source {source}")


def read_interfaces(told: Any) -> list[DomainInterface]:
    """The interfaces that an agent tells; further names of one (`eth0:1`) are the same. Raises InternalError."""
    if not isinstance(told, list):
        raise InternalError("qemu agent didn't return an array of interfaces")
    found: dict[str, tuple[str | None, list[DomainIpAddr]]] = {}
    for one in told:
        name = str(one.get("name", "")).partition(":")[0]
        if not name:
            raise InternalError("qemu agent didn't provide 'name' field")
        hardware = one.get("hardware-address")
        known = found.setdefault(name, (None if hardware is None else str(hardware), []))
        known[1].extend(_addresses(one.get("ip-addresses") or ()))
    return [DomainInterface(name, hardware, addresses) for name, (hardware, addresses) in found.items()]


def _addresses(told: Sequence[Mapping[str, Any]]) -> list[DomainIpAddr]:
    found = []
    for one in told:
        family = _FAMILIES.get(str(one.get("ip-address-type")))
        if family is None:
            raise InternalError(f"unknown ip address type '{one.get('ip-address-type')}'")
        found.append(DomainIpAddr(int(family), str(one["ip-address"]), int(one["prefix"])))
    return found


def _known_to_host(guest: Guest) -> list[DomainInterface]:
    try:
        lines = _NEIGHBOURS.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    found = []
    for interface in guest.live.devices.interfaces:
        mac = interface.mac.address if interface.mac is not None else None
        if mac is None:
            continue
        name = (interface.target.dev if interface.target is not None else None) or ""
        for line in lines:
            words = line.split()
            if len(words) >= 4 and words[3].lower() == mac.lower() and words[2] != "0x0":
                found.append(DomainInterface(name, mac, [DomainIpAddr(int(IPAddrType.IPV4), words[0], 0)]))
                break
    return found
