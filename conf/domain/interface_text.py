"""What reading the text of a network interface settles, or refuses, before any rule looks at the interface."""

from __future__ import annotations

import re
from typing import Final

from conf.domain.interface import DirectMode, DirectSource, Interface, InterfaceType, SocketSource, VhostUserSource
from conf.network.part_text import check_address, check_virtualport, normalize_vlan
from schema.errors import ConfigUnsupported, InvalidArguments, XmlError

_MODEL: Final = re.compile(r"[a-zA-Z0-9_-]+\Z").match


def normalize(device: Interface) -> None:
    """Fills in what goes without saying. Raises XmlError, ConfigUnsupported and InvalidArguments for what cannot be."""
    _normalize_source(device)
    if device.vlan is not None:
        normalize_vlan(device.vlan)
    if device.virtualport is not None:
        check_virtualport(device.virtualport)
    for ip in device.ips:
        check_address(ip)
    outbound = device.bandwidth.outbound if device.bandwidth is not None else None
    if outbound is not None and outbound.floor is not None:
        raise ConfigUnsupported("'floor' attribute allowed only in <inbound> element")
    if device.model is not None and _MODEL(device.model) is None:
        raise InvalidArguments("Model name contains invalid characters")
    device.mtu = device.mtu or None


def _normalize_source(device: Interface) -> None:
    source = device.source
    match source:
        case DirectSource():
            if source.dev is None:
                raise _lacks("dev")
            source.mode = source.mode or DirectMode.VEPA
        case VhostUserSource() if source.type != "unix":
            raise ConfigUnsupported(f"Type='{source.type}' unsupported for <interface type='vhostuser'>")
        case VhostUserSource():
            for name in ("path", "mode"):
                if getattr(source, name) is None:
                    raise _lacks(name)
        case SocketSource():
            _check_socket(device.type, source)


def _check_socket(kind: InterfaceType, source: SocketSource) -> None:
    if source.address is None and kind in (InterfaceType.CLIENT, InterfaceType.MCAST):
        raise _lacks("address")
    if source.port is None:
        raise _lacks("port")
    if kind is InterfaceType.UDP and source.local is None:
        raise XmlError("'<local>' element missing for 'udp' socket interface")


def _lacks(name: str) -> XmlError:
    return XmlError(f"Missing required attribute '{name}' in element 'source'")
