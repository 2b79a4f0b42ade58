"""What a guest agent would tell and do: these guests answer as if each had one."""

from __future__ import annotations

import ipaddress
from typing import Final

from actors.runtime.calls import Calls
from actors.test.flags import check_flags
from actors.test.guest import Guest
from actors.test.host import TestHost
from conf.domain.interface import NetworkSource
from conf.network.documents import parse_network
from conf.network.network import Network, NetworkIp
from schema.enums.domain_guest import DomainInterfaceAddressesSource as Source
from schema.enums.domain_state import DomainState
from schema.errors import ArgumentUnsupported, DomainStateError, NoSuchNetwork
from schema.objects import DomainFsinfo, DomainInterface, DomainIpAddr, DomainRef

calls: Calls[TestHost] = Calls()

GUEST_TIME_S: Final = 627319920
_SYNC: Final = 1
_ENCRYPTED: Final = 1
_MOUNTS: Final = ("/", "/boot")
_IPV4: Final = 0
_IPV6: Final = 1
_ADDRESSES_PER_GUEST: Final = 20


@calls.handles()
def domain_get_hostname(host: TestHost, dom: DomainRef, flags: int) -> str:
    """The guest's own name. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainGetHostname")
    guest = host.guest(dom)
    guest.check_active()
    return f"{guest.name}host"


@calls.handles()
def domain_get_time(host: TestHost, dom: DomainRef, flags: int) -> dict[str, int]:
    """The guest's clock, which stands still. Raises NoSuchDomain, DomainStateError for a guest that does not run."""
    check_flags(flags, 0, "testDomainGetTime")
    if host.guest(dom).record.state != DomainState.RUNNING:
        raise DomainStateError("domain is not running")
    return {"seconds": GUEST_TIME_S, "nseconds": 0}


@calls.handles(key="dom")
async def domain_set_time(host: TestHost, dom: DomainRef, seconds: int, nseconds: int, flags: int) -> None:
    """Sets the guest's clock, which stands still all the same. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, _SYNC, "testDomainSetTime")
    host.guest(dom).check_active()


@calls.handles(key="dom")
async def domain_set_user_password(
    host: TestHost, dom: DomainRef, user: str | None, password: str | None, flags: int
) -> None:
    """Sets a password nobody can use. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, _ENCRYPTED, "testDomainSetUserPassword")
    host.guest(dom).check_active()


@calls.handles()
def domain_get_fsinfo(host: TestHost, dom: DomainRef, flags: int) -> list[DomainFsinfo]:
    """The file systems mounted in a guest, which are on its first disk. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainGetFSInfo")
    guest = host.guest(dom)
    guest.check_active()
    disks = guest.live.devices.disks
    if not disks:
        return []
    target = disks[0].target.dev
    return [DomainFsinfo(mount, f"{target}{number}", "ext4", [target]) for number, mount in enumerate(_MOUNTS, start=1)]


@calls.handles(key="dom")
async def domain_fsfreeze(host: TestHost, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
    """Freezes file systems, all of them when none is named; tells how many were not frozen yet.

    Raises NoSuchDomain, DomainStateError.
    """
    check_flags(flags, 0, "testDomainFSFreeze")
    guest = host.guest(dom)
    frozen, wanted = _mounts(guest, mountpoints)
    return await _freeze(host, guest, frozen | wanted, len(wanted - frozen))


@calls.handles(key="dom")
async def domain_fsthaw(host: TestHost, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
    """Thaws file systems, all of them when none is named; tells how many were frozen.

    Raises NoSuchDomain, DomainStateError.
    """
    check_flags(flags, 0, "testDomainFSThaw")
    guest = host.guest(dom)
    frozen, wanted = _mounts(guest, mountpoints)
    return await _freeze(host, guest, frozen - wanted, len(wanted & frozen))


@calls.handles(key="dom")
async def domain_fstrim(
    host: TestHost,
    dom: DomainRef,
    mountPoint: str | None,  # noqa: N803
    minimum: int,
    flags: int,
) -> None:
    """Gives unused blocks back. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainFSTrim")
    _mounts(host.guest(dom), [] if mountPoint is None else [mountPoint])


@calls.handles()
def domain_interface_addresses(host: TestHost, dom: DomainRef, source: int, flags: int) -> list[DomainInterface]:
    """The addresses of a guest's interfaces.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, and NoSuchNetwork for an interface of one.
    """
    check_flags(flags, 0, "testDomainInterfaceAddresses")
    if source not in (Source.LEASE, Source.AGENT, Source.ARP):
        shown = source - 2**32 if source >= 2**31 else source  # as libvirt prints it
        raise ArgumentUnsupported(f"Unknown IP address data source {shown}")
    guest = host.guest(dom)
    guest.check_active()
    found = []
    for place, interface in enumerate(guest.live.devices.interfaces):
        if interface.target is None or interface.mac is None:
            continue
        if isinstance(interface.source, NetworkSource):
            network = _network_named(host, interface.source.network)
            address = address_in_network(network, _ADDRESSES_PER_GUEST * (guest.record.id - 1) + place + 1)
        else:
            address = DomainIpAddr(_IPV4, f"192.168.0.{(place + 1) % 256}", 24)
        found.append(DomainInterface(interface.target.dev or "", interface.mac.address, [address]))
    return found


def address_in_network(network: Network, offset: int) -> DomainIpAddr:
    """The address so far behind the first that the network lends, or behind its own."""
    ip = network.ips[0] if network.ips else NetworkIp(address="0.0.0.0", prefix=24)
    ranges = ip.dhcp.ranges if ip.dhcp is not None else []
    own = ipaddress.ip_interface(f"{ip.address}/{ip.netmask or ip.prefix or 24}")
    first = ipaddress.ip_address(ranges[0].start or "0.0.0.0") if ranges else own.ip
    return DomainIpAddr(_IPV4 if own.version == 4 else _IPV6, str(first + offset), own.network.prefixlen)


def _network_named(host: TestHost, name: str) -> Network:
    for record in host.world.networks.values():
        if record.name == name:
            return parse_network(record.xml)
    raise NoSuchNetwork(f"no network with matching name '{name}'")


def _mounts(guest: Guest, named: list[str]) -> tuple[set[str], set[str]]:
    guest.check_active()
    for mount in named:
        if mount not in _MOUNTS:
            raise DomainStateError(f"mount point not found: {mount}")
    return set(guest.record.frozen), set(named or _MOUNTS)


async def _freeze(host: TestHost, guest: Guest, frozen: set[str], changed: int) -> int:
    draft = guest.draft()
    draft.set(frozen=sorted(frozen))
    await host.commit(draft, result=changed)
    return changed
