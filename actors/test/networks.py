"""Virtual networks of a scope."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.runtime.calls import Calls
from actors.test.described import network_record
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.kinds import NETWORK
from actors.test.records import NetworkRecord
from actors.test.world import World, uuid_text
from conf.network.documents import check_network, parse_network, write_network
from conf.network.network import Network
from conf.network.sections import update_network
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.network import NetworkEventLifecycleType as Event
from schema.errors import DomainStateError, ErrorDomain, NoSuchNetwork, OperationFailed
from schema.objects import NetworkRef

calls: Calls[TestHost] = Calls()

_VALIDATE = 1
_AFFECT = 3


@calls.handles()
async def network_define_xml_flags(host: TestHost, xml: str, flags: int) -> NetworkRef:
    """Makes a network persistent with this definition; a running one goes on as it is.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, OperationFailed when name and uuid belong
    to different networks.
    """
    check_flags(flags, _VALIDATE, "testNetworkDefineXMLFlags")
    network = parse_network(xml, validate=bool(flags & _VALIDATE))
    async with (
        host.runtime.mailbox(("network_name", network.name)).change(),
        host.runtime.mailbox(("network", network.uuid.bytes)).change(),
    ):
        old = _find_same(host.world, network)
        record = network_record(network)
        if old is not None and old.active:
            record = msgspec.structs.replace(old, next_xml=record.xml, persistent=True)
        elif old is not None:
            record = msgspec.structs.replace(record, autostart=old.autostart)
        ref = NetworkRef(network.name, network.uuid.bytes)
        await host.commit_record(NETWORK, record, _told(record, Event.DEFINED), result=ref)
    return ref


@calls.handles()
async def network_create_xml_flags(host: TestHost, xml: str, flags: int) -> NetworkRef:
    """Starts a network with this definition; one that was persistent stays so.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, OperationFailed when name and uuid belong
    to different networks, DomainStateError when it runs already.
    """
    check_flags(flags, _VALIDATE, "testNetworkCreateXMLFlags")
    network = parse_network(xml, validate=bool(flags & _VALIDATE))
    async with (
        host.runtime.mailbox(("network_name", network.name)).change(),
        host.runtime.mailbox(("network", network.uuid.bytes)).change(),
    ):
        old = _find_same(host.world, network)
        if old is not None and old.active:
            raise DomainStateError(f"network is already active as '{old.name}'", domain=ErrorDomain.NETWORK)
        record = network_record(network, active=True, persistent=old is not None)
        if old is not None:
            record = msgspec.structs.replace(record, next_xml=old.xml, autostart=old.autostart)
        ref = NetworkRef(network.name, network.uuid.bytes)
        await host.commit_record(NETWORK, record, _told(record, Event.STARTED), result=ref)
    return ref


@calls.handles(key="net")
async def network_create(host: TestHost, net: NetworkRef) -> None:
    """Starts a network. Raises NoSuchNetwork, DomainStateError."""
    record = _need(host, net)
    if record.active:
        raise DomainStateError(f"Network '{record.name}' is already running")
    record = msgspec.structs.replace(record, active=True)
    await host.commit_record(NETWORK, record, _told(record, Event.STARTED))


@calls.handles(key="net")
async def network_destroy(host: TestHost, net: NetworkRef) -> None:
    """Stops a network, also one that does not run, as libvirt's test driver does; a transient one is gone.

    Raises NoSuchNetwork.
    """
    record = _need(host, net)
    told = _told(record, Event.STOPPED)
    if record.persistent:
        await host.commit_record(NETWORK, msgspec.structs.replace(record, active=False), told)
    else:
        await host.drop_record(NETWORK, record, told)


@calls.handles(key="net")
async def network_undefine(host: TestHost, net: NetworkRef) -> None:
    """Forgets a network. Raises NoSuchNetwork, and DomainStateError for one that runs."""
    record = _need(host, net)
    if record.active:
        raise DomainStateError(f"Network '{record.name}' is still running")
    await host.drop_record(NETWORK, record, _told(record, Event.UNDEFINED))


@calls.handles(key="net")
async def network_set_autostart(host: TestHost, net: NetworkRef, autostart: int) -> None:
    """Whether a network is to start with the host. Raises NoSuchNetwork."""
    record = _need(host, net)
    await host.commit_record(NETWORK, msgspec.structs.replace(record, autostart=bool(autostart)))


@calls.handles()
def network_get_xml_desc(host: TestHost, net: NetworkRef, flags: int) -> str:
    """A network's definition. Raises NoSuchNetwork."""
    check_flags(flags, 0, "testNetworkGetXMLDesc")
    return _need(host, net).xml


@calls.handles(key="net")
async def network_update(
    host: TestHost,
    net: NetworkRef,
    command: int,
    section: int,
    parentIndex: int,  # noqa: N803
    xml: str,
    flags: int,
) -> None:
    """Changes a part of a network. Raises NoSuchNetwork, DomainStateError, XmlError, OperationUnsupported."""
    check_flags(flags, _AFFECT, "testNetworkUpdate")
    record = host.world.networks.get(net.uuid)
    if record is None:
        raise NoSuchNetwork(f"no network with matching uuid '{uuid_text(net.uuid)}'")
    wanted = flags & _AFFECT or (Impact.LIVE if record.active else Impact.CONFIG)
    if wanted & Impact.LIVE and not record.active:
        raise DomainStateError("network is not running", domain=ErrorDomain.NETWORK)
    if wanted & Impact.CONFIG and not record.persistent:
        raise DomainStateError("transient networks do not have any persistent config", domain=ErrorDomain.NETWORK)
    which = wanted
    values: dict[str, Any] = {}
    if which & Impact.LIVE or not record.active:
        network = parse_network(record.xml)
        update_network(network, command, section, parentIndex, xml)
        check_network(network)
        values["xml"] = write_network(network)
        if record.active and record.persistent:
            values["next_xml"] = record.next_xml or record.xml
    if which & Impact.CONFIG and record.active:
        network = parse_network(record.next_xml or record.xml)
        update_network(network, command, section, parentIndex, xml)
        check_network(network)
        values["next_xml"] = write_network(network)
    await host.commit_record(NETWORK, msgspec.structs.replace(record, **values))


def _find_same(world: World, network: Network) -> NetworkRecord | None:
    """The network that a definition means. Raises OperationFailed when name and uuid disagree."""
    record = world.networks.get(network.uuid.bytes)
    if record is not None:
        if record.name != network.name:
            raise OperationFailed(
                f"network '{record.name}' is already defined with uuid {record.uuid}", domain=ErrorDomain.NETWORK
            )
        return record
    taken = next((one for one in world.networks.values() if one.name == network.name), None)
    if taken is not None:
        raise OperationFailed(
            f"network '{taken.name}' already exists with uuid {taken.uuid}", domain=ErrorDomain.NETWORK
        )
    return None


def _need(host: TestHost, net: NetworkRef) -> NetworkRecord:
    record = host.world.networks.get(net.uuid)
    if record is None:
        raise NoSuchNetwork(f"no network with matching name '{net.name}'")
    return record


def _told(record: NetworkRecord, event: Event) -> list[tuple[str, dict[str, Any]]]:
    ref = NetworkRef(record.name, NETWORK.key_of(record))  # type: ignore[arg-type]
    return [("network_event_lifecycle", {"net": ref, "event": int(event), "detail": 0})]
