"""Defaults of network interfaces."""

from __future__ import annotations

from conf.domain.identities import new_mac, new_uuid
from conf.domain.interface import Interface, InterfaceDriver, InterfaceType, Mac
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags
from conf.network.parts import VirtualPort, VirtualPortParameters
from conf.nwfilter.reference import tidy_parameters
from schema.enums.error import ErrorDomain
from schema.errors import XmlDetailError


def complete(device: Interface, rules: DomainRules, flags: ParseFlags) -> None:
    if device.mac is None or not device.mac.address:
        device.mac = Mac(address=new_mac(rules))
    if device.type is not InterfaceType.HOSTDEV or not device.managed:
        device.managed = None
    if flags & ParseFlags.INACTIVE and device.target is not None and (device.target.dev or "").startswith(_MADE_UP):
        device.target.dev = None
    if device.type is not InterfaceType.HOSTDEV:
        _normalize_driver(device)
    if device.type not in (InterfaceType.ETHERNET, InterfaceType.NETWORK, InterfaceType.BRIDGE):
        device.filterref = None
    if device.filterref is not None:
        tidy_parameters(device.filterref)
    if device.bandwidth is not None:
        for rate in (device.bandwidth.inbound, device.bandwidth.outbound):
            if rate is not None and rate.average is None and rate.floor is None:
                raise XmlDetailError("Missing mandatory average or floor attributes", domain=ErrorDomain.DOMAIN)
    ends = [device.ips, device.source.ips if device.source is not None else []]
    for ip in (one for ips in ends for one in ips):
        ip.family = ip.family or "ipv4"
    if device.virtualport is not None:
        _complete_port(device.virtualport, rules)
    if device.coalesce is not None and not (device.coalesce.rx and device.coalesce.rx.frames_max):
        device.coalesce = None


def _complete_port(port: VirtualPort, rules: DomainRules) -> None:
    """Switches that know ports by number get one."""
    parameters = port.parameters or VirtualPortParameters()
    if port.type == "802.1Qbg" and parameters.instanceid is None:
        parameters.instanceid = new_uuid(rules)
    elif port.type == "openvswitch" and parameters.interfaceid is None:
        parameters.interfaceid = new_uuid(rules)
    else:
        return
    port.parameters = parameters


_MADE_UP = ("vnet", "macvtap", "macvlan")
"""Names that were made up for a running guest begin like this."""
_OPTIONS = ("iommu", "ats", "packed", "page_per_vq")
_VIRTIO = ("virtio", "virtio-transitional", "virtio-non-transitional")


def _options_of(driver: InterfaceDriver | None) -> InterfaceDriver | None:
    """Options of virtio stay, to be refused where there is none."""
    given = {name: getattr(driver, name) for name in _OPTIONS if getattr(driver, name, None) is not None}
    return InterfaceDriver(**given) if given else None


def _normalize_driver(device: Interface) -> None:
    """Only virtio interfaces have a driver of the host's; one queue is what there is anyway."""
    if device.model not in _VIRTIO:
        device.driver = _options_of(device.driver)
        if device.backend is not None:
            device.backend.vhost = None
    elif device.driver is not None and device.driver.queues in (0, 1):
        device.driver.queues = None
