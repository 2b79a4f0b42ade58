"""Static routes of a network that cannot be, in libvirt's words."""

from __future__ import annotations

import ipaddress

from conf.network.checks import Address, find_address, prefix_of
from conf.network.network import Network, NetworkIp
from conf.network.parts import Route
from schema.errors import ConfigUnsupported, XmlError


def check_routes(network: Network) -> None:
    """Raises XmlError for a route that is none, ConfigUnsupported for one whose gateway no network reaches."""
    for route in network.routes:
        gateway = _checked(route, network.name)
        if not any(_reaches(ip, gateway) for ip in network.ips):
            raise ConfigUnsupported(
                f"unreachable static route gateway '{gateway}' specified for network '{network.name}'"
            )


def _checked(route: Route, name: str) -> Address:
    if route.address is None:
        raise XmlError(f"{name}: Missing required address attribute in route definition")
    address = find_address(route.address)
    if address is None:
        raise XmlError(f"{name}: Bad network address '{route.address}' in route definition")
    if route.gateway is None:
        raise XmlError(f"{name}: Missing required gateway attribute in route definition")
    gateway = find_address(route.gateway)
    if gateway is None:
        raise XmlError(f"{name}: Bad gateway address '{route.gateway}' in route definition")
    family = 6 if route.family == "ipv6" else 4
    if address.version != family:
        raise XmlError(
            f"{name}: ipv{family} family specified for non-IPv{family} address '{route.address}' in route definition"
        )
    if not _is_network(address, route, name):
        raise XmlError(f"{name}: Address '{route.address}' in route definition is not a network address")
    return gateway


def _is_network(address: Address, route: Route, name: str) -> bool:
    bits: int | str = route.prefix or 0
    if route.netmask is not None:
        mask = find_address(route.netmask)
        if mask is None:
            raise XmlError(f"{name}: Bad netmask address '{route.netmask}' in route definition")
        bits = str(mask)
    try:
        ipaddress.ip_network(f"{address}/{bits}")
    except ValueError:
        return False
    return True


def _reaches(ip: NetworkIp, gateway: Address) -> bool:
    own, prefix = find_address(ip.address), prefix_of(ip)
    if own is None or prefix is None or own.version != gateway.version:
        return False
    return gateway in ipaddress.ip_network(f"{own}/{prefix}", strict=False)
