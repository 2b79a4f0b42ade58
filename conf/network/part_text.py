"""What reading VLANs, ports of switches and addresses settles, or refuses, wherever they stand."""

from __future__ import annotations

import ipaddress
from typing import Final

from conf.network.parts import IpAddress, VirtualPort, Vlan
from schema.errors import XmlError

_LARGEST_TAG: Final = 4095
_BYTE: Final = 0xFF
_TYPE: Final = 0xFFFFFF
_PREFIXES: Final = {4: 32, 6: 128}


def normalize_vlan(vlan: Vlan) -> None:
    """Several tags make a trunk. Raises XmlError for a VLAN without a tag, and tags that cannot be."""
    if not vlan.tags:
        raise XmlError("missing tag id - each <vlan> must have at least one <tag id='n'/> subelement")
    for tag in vlan.tags:
        if tag.id > _LARGEST_TAG:
            raise XmlError(f"vlan tag id {tag.id} too large (maximum {_LARGEST_TAG})")
    if len(vlan.tags) > 1:
        if vlan.trunk is False:
            raise XmlError("invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag")
        vlan.trunk = True


def check_virtualport(port: VirtualPort) -> None:
    """Raises XmlError for numbers that the switch does not have."""
    parameters = port.parameters
    if parameters is not None:
        if (parameters.managerid or 0) > _BYTE:
            raise XmlError("value of managerid out of range")
        if (parameters.typeid or 0) > _TYPE:
            raise XmlError("value for typeid out of range")
        if (parameters.typeidversion or 0) > _BYTE:
            raise XmlError("value of typeidversion out of range")
    if port.type == "802.1Qbh" and (parameters is None or not parameters.profileid):
        raise XmlError("missing profileid in <virtualport type='802.1Qbh'>")


def check_address(ip: IpAddress) -> None:
    """Raises XmlError for an address or prefix that is none."""
    try:
        version = ipaddress.ip_address(ip.address).version
    except ValueError:
        raise XmlError(f"Invalid address '{ip.address}' in <ip>") from None
    if ip.prefix is not None and ip.prefix > _PREFIXES[version]:
        raise XmlError(f"Invalid prefix value '{ip.prefix}' in <ip>")
