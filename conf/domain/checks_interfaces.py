"""Interfaces that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

from conf.domain.interface import DirectMode, DirectSource, Interface, InterfaceType, VhostUserSource
from schema.errors import ConfigUnsupported, RefusedDocument, XmlError

_NEED_SOURCE = (
    InterfaceType.VHOSTUSER,
    InterfaceType.BRIDGE,
    InterfaceType.NETWORK,
    InterfaceType.INTERNAL,
    InterfaceType.VDPA,
    InterfaceType.DIRECT,
    InterfaceType.SERVER,
    InterfaceType.CLIENT,
    InterfaceType.MCAST,
    InterfaceType.UDP,
)
_ON_SWITCHES = (InterfaceType.NETWORK, InterfaceType.BRIDGE, InterfaceType.DIRECT, InterfaceType.HOSTDEV)
_VIRTIO = ("virtio", "virtio-transitional", "virtio-non-transitional")


def check(device: Interface) -> None:
    """Refuses an interface that contradicts itself. Raises ConfigUnsupported, XmlError."""
    kind = device.type
    if device.mac is not None and int(device.mac.address[:2], 16) & 1:
        raise XmlError(f"expected unicast mac address, found multicast '{device.mac.address}'")
    if device.source is None and kind in _NEED_SOURCE:
        raise XmlError(f"interface type='{kind.value}' requires a 'source' element")
    source = device.source
    if kind is InterfaceType.HOSTDEV and source is None:
        raise XmlError("missing source address type")
    if device.virtualport is not None and kind not in _ON_SWITCHES:
        raise ConfigUnsupported(f"<virtualport> element unsupported for <interface type='{kind.value}'>")
    inbound = device.bandwidth.inbound if device.bandwidth is not None else None
    if inbound is not None and inbound.floor is not None and kind is not InterfaceType.NETWORK:
        raise ConfigUnsupported("floor attribute is not supported for this config")
    if source is not None and (source.ips or source.routes) and kind is not InterfaceType.ETHERNET:
        raise ConfigUnsupported(
            "Invalid attempt to set network interface host-side IP route and/or address info on interface of type "
            f"'{kind.value}'. This is only supported on interfaces of type 'ethernet'"
        )
    if device.target is not None and device.target.managed is False and kind is not InterfaceType.ETHERNET:
        raise ConfigUnsupported(f"unmanaged target dev is not supported on interfaces of type '{kind.value}'")
    if device.teaming is not None:
        if device.teaming.type == "transient" and not device.teaming.persistent:
            raise ConfigUnsupported("teaming persistent attribute must be set if teaming type is 'transient'")
        if device.teaming.type == "persistent" and device.teaming.persistent:
            raise ConfigUnsupported("teaming persistent attribute not allowed if teaming type is 'persistent'")
    if device.model not in _VIRTIO and device.driver is not None:
        for option in ("iommu", "ats", "packed", "page_per_vq"):
            if getattr(device.driver, option) is not None:
                raise ConfigUnsupported(f"{option} driver option is only supported for virtio devices")
    if device.backend is not None and device.backend.type == "passt" and kind is not InterfaceType.USER:
        raise ConfigUnsupported("The 'passt' backend can only be used with interface type='user'")
    if kind is InterfaceType.VHOSTUSER:
        _check_vhost_user(device)
    for forward in device.port_forwards:
        for ports in forward.ranges:
            if not ports.start and (ports.end or ports.to or ports.exclude is not None):
                raise XmlError(
                    "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or 'exclude' is "
                    "specified"
                )
    if kind is not InterfaceType.NETWORK:
        _check_isolation(device)


def _check_vhost_user(device: Interface) -> None:
    if device.model not in _VIRTIO:
        raise RefusedDocument(
            "Wrong or no <model> 'type' attribute specified with <interface type='vhostuser'/>. "
            "vhostuser requires the virtio-net* frontend"
        )
    source = device.source
    again = source.reconnect if isinstance(source, VhostUserSource) else None
    if again is not None and again.enabled and isinstance(source, VhostUserSource) and source.mode == "server":
        raise ConfigUnsupported("'reconnect' attribute unsupported 'server' mode for <interface type='vhostuser'>")


def check_connection(device: Interface) -> None:
    """Refuses what the connection that an interface has at last cannot have. Raises ConfigUnsupported."""
    mac = device.mac.address if device.mac is not None else ""
    kind, source = device.type, device.source
    switch = device.virtualport.type if device.virtualport is not None else None
    if device.vlan is not None and device.vlan.tags:
        is_passthrough = isinstance(source, DirectSource) and source.mode is DirectMode.PASSTHROUGH
        on_switch = kind is InterfaceType.BRIDGE and switch == "openvswitch"
        if not (kind in (InterfaceType.HOSTDEV, InterfaceType.VHOSTUSER) or is_passthrough or on_switch):
            raise ConfigUnsupported(f"interface {mac} - vlan tag not supported for this connection type")
    if device.bandwidth is not None and kind is InterfaceType.HOSTDEV:
        raise ConfigUnsupported(f"interface {mac} - bandwidth settings are not supported for hostdev interfaces")


def _check_isolation(device: Interface) -> None:
    mac = device.mac.address if device.mac is not None else ""
    kind = device.type
    switch = device.virtualport.type if device.virtualport is not None else None
    if device.port_isolated:
        if kind is not InterfaceType.BRIDGE:
            raise ConfigUnsupported(
                f"interface {mac} - <port isolated='yes'/> is not supported for network interfaces with "
                f"type='{kind.value}'"
            )
        if switch is not None:
            raise ConfigUnsupported(
                f"interface {mac} - <port isolated='yes'/> is not supported for network interfaces with virtualport "
                f"type='{switch}'"
            )
