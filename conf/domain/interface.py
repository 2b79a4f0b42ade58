"""Network interfaces: `<interface>`."""

from enum import StrEnum

from conf.domain.address import ADDRESSES, Address
from conf.domain.device import Device
from conf.domain.status_parts import in_status
from conf.element import Element, Empty, attr, child, children, echo, one_of, text, value
from conf.faults import malformed, unsupported
from conf.network.parts import Bandwidth, IpAddress, Route, VirtualPort, Vlan
from conf.nwfilter.reference import FilterRef
from conf.values import INT, MAC, ON_OFF, ONLY_YES, UINT, ULONG, YES_NO, words


class InterfaceType(StrEnum):
    """What the interface is connected to."""

    USER = "user"
    ETHERNET = "ethernet"
    VHOSTUSER = "vhostuser"
    SERVER = "server"
    CLIENT = "client"
    MCAST = "mcast"
    NETWORK = "network"
    BRIDGE = "bridge"
    INTERNAL = "internal"
    DIRECT = "direct"
    HOSTDEV = "hostdev"
    UDP = "udp"
    VDPA = "vdpa"
    NULL = "null"
    VDS = "vds"


class Mac(Element, tag="mac"):
    """The address of the interface."""

    address: str = attr(
        "address", MAC, default="", when="self.address", bad=malformed("unable to parse mac address '{}'")
    )
    type: str | None = attr("type", words("generated", "static"), default=None)
    check: bool | None = attr("check", YES_NO, default=None)


class DirectMode(StrEnum):
    """How a macvtap interface shares its link."""

    VEPA = "vepa"
    PRIVATE = "private"
    BRIDGE = "bridge"
    PASSTHROUGH = "passthrough"


class InterfaceSource(Element, tag="source", empty=Empty.OMIT):
    """Any host end; addresses and routes of that end stand in it."""

    ips: list[IpAddress] = children(IpAddress, default=[])
    routes: list[Route] = children(Route, default=[])


class NetworkSource(InterfaceSource, case="network", empty=Empty.OMIT):
    """A network of the network driver."""

    network: str = attr("network", str)
    portgroup: str | None = attr("portgroup", str, default=None)
    portid: str | None = attr("portid", str, default=None, live=True)
    bridge: str | None = attr("bridge", str, default=None, live=True)


class BridgeSource(InterfaceSource, case="bridge", empty=Empty.OMIT):
    """A bridge of the host."""

    bridge: str = attr("bridge", str)


class DirectSource(InterfaceSource, case="direct", empty=Empty.OMIT):
    """A link of the host."""

    dev: str | None = attr("dev", str, default=None)
    mode: DirectMode | None = attr("mode", DirectMode, default=None)


class InternalSource(InterfaceSource, case="internal", empty=Empty.OMIT):
    """An internal network of the hypervisor."""

    name: str = attr("name", str)


class VdpaSource(InterfaceSource, case="vdpa", empty=Empty.OMIT):
    """A vDPA device."""

    dev: str = attr("dev", str)


class LocalEnd(Element, tag="local"):
    """The local end of a UDP tunnel."""

    address: str | None = attr("address", str, default=None)
    port: int | None = attr("port", INT, default=None)


class SocketSource(InterfaceSource, case=("client", "server", "mcast", "udp"), empty=Empty.OMIT):
    """A socket that carries the frames."""

    address: str | None = attr("address", str, default=None)
    port: int | None = attr("port", INT, default=None)
    local: LocalEnd | None = child(LocalEnd, default=None)


class InterfaceReconnect(Element, tag="reconnect"):
    """When a vhost-user client tries again."""

    enabled: bool | None = attr("enabled", YES_NO, default=None)
    timeout_s: int | None = attr("timeout", UINT, default=None)


class VhostUserSource(InterfaceSource, case="vhostuser", empty=Empty.OMIT):
    """The socket of a vhost-user switch."""

    type: str = attr("type", str)
    path: str | None = attr("path", str, default=None)
    mode: str | None = attr("mode", str, default=None)
    reconnect: InterfaceReconnect | None = child(InterfaceReconnect, default=None)


class EthernetSource(InterfaceSource, case="ethernet", empty=Empty.OMIT):
    """The host end of a plain tap or veth."""


class UserSource(InterfaceSource, case="user", empty=Empty.OMIT):
    """The link that user networking leaves by."""

    dev: str | None = attr("dev", str, default=None)


class HostdevSource(InterfaceSource, case="hostdev", empty=Empty.OMIT):
    """A network card of the host."""

    address: Address | None = one_of(*ADDRESSES, by="type", default=None)


class VdsSource(InterfaceSource, case="vds", empty=Empty.OMIT):
    """A distributed switch of vSphere."""

    switchid: str | None = attr("switchid", str, default=None)
    portid: str | None = attr("portid", str, default=None)
    portgroupid: str | None = attr("portgroupid", str, default=None)
    connectionid: str | None = attr("connectionid", str, default=None)


INTERFACE_SOURCES = (
    NetworkSource,
    BridgeSource,
    DirectSource,
    InternalSource,
    VdpaSource,
    SocketSource,
    VhostUserSource,
    EthernetSource,
    UserSource,
    HostdevSource,
    VdsSource,
)


class NetworkBridge(InterfaceSource, case="network", empty=Empty.OMIT):
    """The bridge of the network."""

    bridge: str | None = attr("bridge", str, default=None)
    mac_table_manager: str | None = attr("macTableManager", str, default=None)


class PlainBridge(InterfaceSource, case="bridge", empty=Empty.OMIT):
    """The bridge that a network names."""

    bridge: str | None = attr("bridge", str, default=None)
    mac_table_manager: str | None = attr("macTableManager", str, default=None)


ACTUAL_SOURCES = (NetworkBridge, PlainBridge, DirectSource, HostdevSource)
"""What a network can give."""


class InterfaceTarget(Element, tag="target", empty=Empty.OMIT):
    """The name of the host end."""

    dev: str | None = attr("dev", str, default=None)
    managed: bool | None = attr("managed", YES_NO, default=None)


class GuestLink(Element, tag="guest", empty=Empty.OMIT):
    """The name of the container's end."""

    dev: str | None = attr("dev", str, default=None)
    actual: str | None = attr("actual", str, default=None, live=True)


class HostOffloads(Element, tag="host", empty=Empty.OMIT):
    """Offloads on the host's side."""

    csum: bool | None = attr("csum", ON_OFF, default=None)
    gso: bool | None = attr("gso", ON_OFF, default=None)
    tso4: bool | None = attr("tso4", ON_OFF, default=None)
    tso6: bool | None = attr("tso6", ON_OFF, default=None)
    ecn: bool | None = attr("ecn", ON_OFF, default=None)
    ufo: bool | None = attr("ufo", ON_OFF, default=None)
    mrg_rxbuf: bool | None = attr("mrg_rxbuf", ON_OFF, default=None)


class GuestOffloads(Element, tag="guest", empty=Empty.OMIT):
    """Offloads on the guest's side."""

    csum: bool | None = attr("csum", ON_OFF, default=None)
    tso4: bool | None = attr("tso4", ON_OFF, default=None)
    tso6: bool | None = attr("tso6", ON_OFF, default=None)
    ecn: bool | None = attr("ecn", ON_OFF, default=None)
    ufo: bool | None = attr("ufo", ON_OFF, default=None)


class InterfaceDriver(Element, tag="driver", empty=Empty.OMIT):
    """How frames are moved."""

    name: str | None = attr("name", words("qemu", "vhost", "vfio", "kvm", "xen"), default=None)
    txmode: str | None = attr("txmode", words("iothread", "timer"), default=None)
    ioeventfd: bool | None = attr("ioeventfd", ON_OFF, default=None)
    event_idx: bool | None = attr("event_idx", ON_OFF, default=None)
    queues: int | None = attr("queues", UINT, default=None)
    rx_queue_size: int | None = attr("rx_queue_size", UINT, default=None)
    tx_queue_size: int | None = attr("tx_queue_size", UINT, default=None)
    rss: bool | None = attr("rss", ON_OFF, default=None)
    rss_hash_report: bool | None = attr("rss_hash_report", ON_OFF, default=None)
    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)
    host: HostOffloads | None = child(HostOffloads, default=None)
    guest: GuestOffloads | None = child(GuestOffloads, default=None)


class InterfaceBackend(Element, tag="backend", empty=Empty.OMIT):
    """The device nodes of tap and vhost."""

    type: str | None = attr("type", words("default", "passt"), default=None)
    tap: str | None = attr("tap", str, default=None)
    vhost: str | None = attr("vhost", str, default=None)
    log_file: str | None = attr("logFile", str, default=None)


class RxFrames(Element, tag="rx", empty=Empty.OMIT):
    """Coalescing of received frames."""

    frames_max: int | None = value("frames", "max", UINT, default=None)


class Coalesce(Element, tag="coalesce", empty=Empty.OMIT):
    """Coalescing of frames."""

    rx: RxFrames | None = child(RxFrames, default=None)


class Teaming(Element, tag="teaming"):
    """The interface's part in a pair for failover."""

    type: str = attr("type", words("persistent", "transient"))
    persistent: str | None = attr("persistent", str, default=None)


class Tune(Element, tag="tune", empty=Empty.OMIT):
    """Limits of the tap device."""

    sndbuf: int | None = text("sndbuf", ULONG, default=None, bad=malformed("sndbuf must be a positive integer"))


class PortForwardRange(Element, tag="range"):
    """Ports that passt forwards."""

    start: int = attr("start", UINT)
    end: int | None = attr("end", UINT, default=None)
    to: int | None = attr("to", UINT, default=None)
    exclude: bool | None = attr("exclude", YES_NO, default=None)


class PortForward(Element, tag="portForward"):
    """A protocol that passt forwards."""

    proto: str = attr("proto", words("tcp", "udp"))
    address: str | None = attr("address", str, default=None)
    dev: str | None = attr("dev", str, default=None)
    ranges: list[PortForwardRange] = children(PortForwardRange, default=[])


class Actual(Element, tag="actual"):
    """What a network gave the interface; the status alone says it apart from the definition."""

    type: InterfaceType = attr("type", InterfaceType)
    managed: bool | None = attr("managed", ONLY_YES, default=None)
    trust_guest_rx_filters: bool | None = attr("trustGuestRxFilters", YES_NO, default=None)
    source: InterfaceSource | None = one_of(*ACTUAL_SOURCES, by_parent="type", default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    virtualport: VirtualPort | None = child(VirtualPort, default=None)
    bandwidth: Bandwidth | None = child(Bandwidth, default=None)
    port_isolated: bool | None = value("port", "isolated", YES_NO, default=None)


def _is_early(device: "Interface") -> bool:
    return device.type is InterfaceType.HOSTDEV and device.driver is not None and device.driver.name is not None


class Interface(Device, tag="interface", boots=True, has_rom=True):
    """A network interface of the guest."""

    type: InterfaceType = attr("type", InterfaceType, default=InterfaceType.USER)
    managed: bool | None = attr("managed", ONLY_YES, default=None)
    trust_guest_rx_filters: bool | None = attr("trustGuestRxFilters", YES_NO, default=None)
    mac: Mac | None = child(Mac, default=None)
    # a host device's driver stands before its source
    early_driver: InterfaceDriver | None = echo(
        InterfaceDriver, shown=lambda self, flags: self.driver if _is_early(self) else None
    )
    source: InterfaceSource | None = one_of(*INTERFACE_SOURCES, by_parent="type", default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    virtualport: VirtualPort | None = child(VirtualPort, default=None)
    bandwidth: Bandwidth | None = child(Bandwidth, default=None)
    actual: Actual | None = child(Actual, default=None, shown=in_status("actual"))
    port_isolated: bool | None = value("port", "isolated", YES_NO, default=None)
    ips: list[IpAddress] = children(IpAddress, default=[])
    routes: list[Route] = children(Route, default=[])
    port_forwards: list[PortForward] = children(PortForward, default=[])
    script: str | None = value("script", "path", str, default=None)
    downscript: str | None = value("downscript", "path", str, default=None)
    backenddomain: str | None = value("backenddomain", "name", str, default=None)
    target: InterfaceTarget | None = child(InterfaceTarget, default=None)
    guest: GuestLink | None = child(GuestLink, default=None)
    model: str | None = value("model", "type", str, default=None)
    driver: InterfaceDriver | None = child(
        InterfaceDriver,
        default=None,
        shown=lambda self, flags: None if _is_early(self) else self.driver,
    )
    backend: InterfaceBackend | None = child(InterfaceBackend, default=None)
    filterref: FilterRef | None = child(FilterRef, default=None)
    tune: Tune | None = child(Tune, default=None)
    teaming: Teaming | None = child(Teaming, default=None)
    link_state: str | None = value(
        "link",
        "state",
        words("up", "down"),
        default=None,
        bad=unsupported("unknown interface link state '{}'"),
    )
    mtu: int | None = value("mtu", "size", UINT, default=None)
    coalesce: Coalesce | None = child(Coalesce, default=None)
