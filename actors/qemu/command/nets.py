"""Network interfaces: the host end (`-netdev`) and the card that the guest sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from actors.qemu.command.chardevs import socket_words
from actors.qemu.command.device import add_device, address_properties, rom_properties, virtio_driver, virtio_properties
from actors.qemu.command.launch import Launch, alias_of
from actors.qemu.command.line import CommandLine, Properties
from conf.domain.interface import (
    Interface,
    InterfaceDriver,
    InterfaceType,
    NetworkSource,
    SocketSource,
    VdpaSource,
    VhostUserSource,
)
from schema.errors import ConfigUnsupported

_TAP: Final = (
    InterfaceType.BRIDGE,
    InterfaceType.NETWORK,
    InterfaceType.ETHERNET,
    InterfaceType.DIRECT,
)
_VIRTIO: Final = ("virtio", "virtio-transitional", "virtio-non-transitional")


def is_virtio(interface: Interface) -> bool:
    """The guest sees a virtio card."""
    return interface.model in _VIRTIO


def ends_in_tap(interface: Interface) -> bool:
    """The host end is a tap device."""
    return interface.type in _TAP


def add_interfaces(launch: Launch, line: CommandLine) -> None:
    """All interfaces. Raises ConfigUnsupported for what QEMU cannot have."""
    for interface in launch.domain.devices.interfaces:
        if interface.type is InterfaceType.HOSTDEV:
            continue  # it comes with the other devices of the host
        if interface.type is InterfaceType.VHOSTUSER:
            if interface.backend is not None and interface.backend.tap is not None:
                mac = interface.mac.address if interface.mac is not None else ""
                raise ConfigUnsupported(
                    f"interface {mac} - custom tap device path is not supported for network interfaces of type "
                    f"{interface.type}"
                )
            line.add("-chardev", _vhost_user_chardev(launch, interface))
        vhosts: Sequence[int] = ()
        taps: Sequence[int] = ()
        if ends_in_tap(interface):
            taps = launch.host.taps(interface)
            vhosts = _vhosts(launch, interface, len(taps))
        line.add_json("-netdev", _netdev(launch, line, interface, taps, vhosts))
        if _is_part_of_the_board(launch, interface):
            line.add("-net", _board_card(launch, interface))
            continue
        card = _card(launch, interface, max(len(taps), _queues(interface)), bool(vhosts))
        add_device(launch, line, interface, card)


def _is_part_of_the_board(launch: Launch, interface: Interface) -> bool:
    """Boards of ARM have their cards soldered on: those without an address cannot be devices of their own."""
    return launch.arch in ("armv6l", "armv7l", "aarch64") and interface.address is None


def _board_card(launch: Launch, interface: Interface) -> str:
    alias = alias_of(interface)
    mac = f"macaddr={interface.mac.address}," if interface.mac is not None else ""
    index = launch.boot_index(interface)
    words = f"nic,{mac}netdev=host{alias},model={interface.model},id={alias}"
    return words if index is None else f"{words},bootindex={index}"


def _queues(interface: Interface) -> int:
    return (interface.driver.queues if interface.driver is not None else None) or 1


def _vhosts(launch: Launch, interface: Interface, queues: int) -> Sequence[int]:
    name = interface.driver.name if interface.driver is not None else None
    if name == "qemu" or not is_virtio(interface):
        return ()
    found = launch.host.vhosts(interface, queues)
    if not found and name == "vhost":
        raise ConfigUnsupported("vhost-net was requested for an interface, but is unavailable")
    return found


def _vhost_user_chardev(launch: Launch, interface: Interface) -> str:
    source = interface.source
    if not isinstance(source, VhostUserSource) or source.path is None:
        raise ConfigUnsupported("a vhost-user interface needs the path of a socket")
    is_server = source.mode == "server"
    reconnect = source.reconnect
    timeout = reconnect.timeout_s if reconnect is not None and reconnect.enabled else None
    return socket_words(launch, f"char{alias_of(interface)}", source.path, is_server, timeout)


def _netdev(
    launch: Launch, line: CommandLine, interface: Interface, taps: Sequence[int], vhosts: Sequence[int]
) -> Properties:
    name = f"host{alias_of(interface)}"
    source = interface.source
    if taps:
        properties: Properties = {"type": "tap"}
        if len(taps) == 1:
            properties["fd"] = str(taps[0])
        else:
            properties["fds"] = ":".join(str(one) for one in taps)
        if vhosts:
            properties["vhost"] = True
            key = "vhostfd" if len(vhosts) == 1 else "vhostfds"
            properties[key] = ":".join(str(one) for one in vhosts)
        if interface.tune is not None and interface.tune.sndbuf is not None:
            properties["sndbuf"] = interface.tune.sndbuf
        return {**properties, "id": name}
    match interface.type:
        case InterfaceType.USER if interface.backend is not None and interface.backend.type == "passt":
            if launch.caps.lacks("netdev.stream"):
                raise ConfigUnsupported("the passt network backend is not supported with this QEMU binary")
            address = {"type": "unix", "path": launch.host.passt_socket(alias_of(interface))}
            return {"type": "stream", "addr": address, "server": False, "id": name}
        case InterfaceType.USER:
            return {"type": "user", **_user_addresses(interface), "id": name}
        case InterfaceType.VHOSTUSER:
            queues = _queues(interface)
            return {
                "type": "vhost-user",
                "chardev": f"char{alias_of(interface)}",
                "queues": queues if queues > 1 else None,
                "id": name,
            }
        case InterfaceType.VDPA:
            assert isinstance(source, VdpaSource)
            number = launch.next_fdset()
            descriptor = launch.host.open_device(source.dev, "vdpa")
            line.add("-add-fd", f"set={number},fd={descriptor},opaque={alias_of(interface)}-vdpa")
            queues = _queues(interface)
            return {
                "type": "vhost-vdpa",
                "vhostdev": f"/dev/fdset/{number}",
                "queues": queues if queues > 1 else None,
                "id": name,
            }
        case InterfaceType.CLIENT | InterfaceType.SERVER | InterfaceType.MCAST | InterfaceType.UDP:
            if not isinstance(source, SocketSource):
                raise ConfigUnsupported(f"an interface of type '{interface.type}' needs an address")
            return {"type": "socket", **_socket(interface.type, source), "id": name}
        case _:
            raise ConfigUnsupported(f"network type {interface.type} is not supported")


def _socket(kind: InterfaceType, source: SocketSource) -> Properties:
    there = f"{source.address or ''}:{source.port}"
    if kind is InterfaceType.CLIENT:
        return {"connect": there}
    if kind is InterfaceType.SERVER:
        return {"listen": there}
    if kind is InterfaceType.MCAST:
        return {"mcast": there}
    local = source.local
    here = f"{local.address or ''}:{local.port}" if local is not None else None
    return {"udp": there, "localaddr": here}


def _user_addresses(interface: Interface) -> Properties:
    found: Properties = {}
    for ip in interface.ips:
        if ":" in ip.address or ip.family == "ipv6":
            found["ipv6-prefix"] = ip.address
            found["ipv6-prefixlen"] = ip.prefix
        else:
            found["net"] = f"{ip.address}/{ip.prefix}" if ip.prefix else ip.address
    return found


def _card(launch: Launch, interface: Interface, queues: int, has_vhost: bool) -> Properties:
    driver = interface.driver
    alias = alias_of(interface)
    model = interface.model or "rtl8139"
    properties: Properties = {}
    if is_virtio(interface):
        properties["driver"] = virtio_driver(launch, "virtio-net", interface, model)
        properties.update(virtio_properties(driver))
        properties.update(_virtio(driver, queues))
        if interface.mtu is not None:
            properties["host_mtu"] = interface.mtu
        if interface.teaming is not None and interface.teaming.type == "persistent":
            properties["failover"] = True
    else:
        properties["driver"] = model
    properties["netdev"] = f"host{alias}"
    properties["id"] = alias
    properties["mac"] = interface.mac.address if interface.mac is not None else None
    properties["bootindex"] = launch.boot_index(interface)
    properties.update(address_properties(launch, interface))
    properties.update(rom_properties(interface))
    return properties


def _virtio(driver: InterfaceDriver | None, queues: int) -> Properties:
    if driver is None:
        return {}
    properties: Properties = {}
    if driver.txmode is not None:
        properties["tx"] = "bh" if driver.txmode == "iothread" else "timer"
    properties["ioeventfd"] = driver.ioeventfd
    properties["event_idx"] = driver.event_idx
    if driver.host is not None:
        properties["csum"] = driver.host.csum
        properties["gso"] = driver.host.gso
        properties["host_tso4"] = driver.host.tso4
        properties["host_tso6"] = driver.host.tso6
        properties["host_ecn"] = driver.host.ecn
        properties["host_ufo"] = driver.host.ufo
        properties["mrg_rxbuf"] = driver.host.mrg_rxbuf
    if driver.guest is not None:
        properties["guest_csum"] = driver.guest.csum
        properties["guest_tso4"] = driver.guest.tso4
        properties["guest_tso6"] = driver.guest.tso6
        properties["guest_ecn"] = driver.guest.ecn
        properties["guest_ufo"] = driver.guest.ufo
    if queues > 1:
        properties["mq"] = True
        properties["vectors"] = 2 * queues + 2
    properties["rx_queue_size"] = driver.rx_queue_size or None
    properties["tx_queue_size"] = driver.tx_queue_size or None
    properties["rss"] = driver.rss
    properties["hash"] = driver.rss_hash_report
    return properties


def network_of(interface: Interface) -> str | None:
    """The network of the network driver that the interface is connected to."""
    return interface.source.network if isinstance(interface.source, NetworkSource) else None
