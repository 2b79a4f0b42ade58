"""Reads a node description, the file that `test:///FILE.xml` names: a fake host and all that is on it.

An error tells which file is broken and never what it holds: the driver may read files that the client may not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lxml import etree

from actors.test import rules
from actors.test.blueprint import Blueprint
from actors.test.described import (
    device_record,
    interface_record,
    network_record,
    pool_record,
    volume_record,
)
from actors.test.flags import find_member
from actors.test.records import NodeFacts, PoolRecord
from conf.document import MAX_BYTES, parse_document
from conf.host_interface.documents import parse_host_interface
from conf.network.documents import parse_network
from conf.node_device.documents import parse_node_device
from conf.storage.documents import parse_pool, parse_volume
from conf.text import text_of
from schema.enums.domain_state import DomainState
from schema.errors import InternalError, XmlDetailError, XmlError

NAMESPACE: Final = "http://libvirt.org/schemas/domain/test/1.0"
_COUNTS: Final = {"nodes": "nodes", "sockets": "sockets", "cores": "cores", "threads": "threads", "mhz": "mhz"}
_MODEL_BYTES: Final = 31


def read_node_file(path: str) -> Blueprint:
    """What the file describes, and the files that it names.

    Raises XmlError and others for a file that cannot be used.
    """
    root = _read(path)
    if root.tag != "node":
        raise XmlError("Root element is not 'node'")
    blueprint = Blueprint(node=_node_facts(root))
    folder = Path(path).parent
    for element in root.iterchildren(tag=etree.Element):
        if element.tag == "domain":
            _add_domain(blueprint, _resolved(element, folder))
        elif element.tag == "network":
            network = parse_network(_text(_resolved(element, folder)))
            blueprint.networks.append(network_record(network, active=True))
        elif element.tag == "interface":
            interface = parse_host_interface(_text(_resolved(element, folder)))
            blueprint.interfaces.append(interface_record(interface, active=True))
        elif element.tag == "pool":
            _add_pool(blueprint, _resolved(element, folder), folder)
        elif element.tag == "device":
            device = parse_node_device(_text(_resolved(element, folder)))
            blueprint.devices.append(device_record(device))
    return blueprint


def _read(path: str) -> etree._Element:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return parse_document(data, name=path)
    except (OSError, XmlDetailError) as exc:
        raise XmlError(f"failed to parse xml document '{path}'") from exc


def _resolved(element: etree._Element, folder: Path) -> etree._Element:
    """The element, or the root of the file that it names; what such an element holds itself goes along."""
    name = element.get("file")
    if name is None:
        return element
    found = _read(str(folder / name))
    for child in element:
        found.append(child)
    return found


def _text(element: etree._Element) -> bytes:
    return etree.tostring(element, with_tail=False)


def _node_facts(root: etree._Element) -> NodeFacts:
    facts = NodeFacts()
    values: dict[str, int | str] = {
        name: _number(root, f"cpu/{tag}", f"node cpu {tag}", getattr(facts, name)) for tag, name in _COUNTS.items()
    }
    sockets, cores, threads, nodes = (int(values[name]) for name in ("sockets", "cores", "threads", "nodes"))
    all_cpus = sockets * cores * threads * nodes
    active = _number(root, "cpu/active", "active cpu", all_cpus)
    values["cpus"] = active if active < all_cpus else all_cpus
    values["memory"] = _number(root, "memory", "node memory", facts.memory)
    model = root.find("cpu/model")
    if model is not None:
        values["model"] = text_of(model)
        if len(text_of(model).encode()) > _MODEL_BYTES:
            raise InternalError(f"Model {text_of(model)} too big for destination")
    return NodeFacts(**values)  # type: ignore[arg-type]


def _number(root: etree._Element, path: str, what: str, default: int) -> int:
    element = root.find(path)
    if element is None:
        return default
    try:
        number = int(text_of(element))
    except ValueError:
        number = -1
    if not 0 < number < 1 << 31:
        raise XmlError(f"invalid {what}")
    return number


def _add_domain(blueprint: Blueprint, element: etree._Element) -> None:
    state = _test_number(element, "runstate", int(DomainState.RUNNING))
    known = find_member(DomainState, state)
    if known is None:
        raise XmlError(f"runstate '{state}' out of range'")
    transient = bool(_test_number(element, "transient", 0))
    if transient and known is DomainState.SHUTOFF:
        raise XmlError("transient domain cannot have runstate 'shutoff'")
    saved = bool(_test_number(element, "hasmanagedsave", 0))
    if saved and known is not DomainState.SHUTOFF:
        raise XmlError("domain with managedsave data can only have runstate 'shutoff'")
    definition = rules.parse_definition(_text(element))
    blueprint.add_domain(definition, state=known, transient=transient, managed_save=saved)


def _test_number(element: etree._Element, name: str, default: int) -> int:
    found = element.find(f"{{{NAMESPACE}}}{name}")
    if found is None:
        return default
    try:
        return int(text_of(found))
    except ValueError:
        raise XmlError(f"invalid {name}") from None


def _add_pool(blueprint: Blueprint, element: etree._Element, folder: Path) -> None:
    volumes = element.findall("volume")
    for volume in volumes:
        element.remove(volume)
    pool = parse_pool(_text(element))
    record = pool_record(pool, active=True)
    found = {}
    for volume in volumes:
        made = volume_record(parse_volume(_text(_resolved(volume, folder)), pool), pool)
        found[made.name] = made
    allocation = sum(volume.allocation for volume in found.values())
    blueprint.pools.append(
        PoolRecord(
            uuid=record.uuid,
            name=record.name,
            xml=record.xml,
            type=record.type,
            path=record.path,
            capacity=record.capacity,
            allocation=allocation,
            available=record.capacity - allocation,
            active=True,
            volumes=found,
        )
    )
