"""What a call is about: the object in its arguments, in its document, or in its result.

A reference that a client sends proves nothing but which object is meant: the uuid counts, and the name in it is only
believed where the name is all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from conf.document import parse_document
from conf.domain.tags import tags_of_domain
from schema.access_policy import UNKNOWN, Thing
from schema.errors import VirtError
from schema.model import Procedure

_REFERENCES: Final = {
    "domain": ("domain", "domain_snapshot", "domain_checkpoint"),
    "network": ("network", "network_port"),
}
_DOCUMENTS: Final = ("xml", "xml_desc", "dom_xml")
_BARE_NAMES: Final = ("name", "dname")
NAMED_BY_UUID: Final = {
    "domain": ("domain_lookup_by_uuid", "dom", "name"),
    "network": ("network_lookup_by_uuid", "net", "name"),
    "storage_pool": ("storage_pool_lookup_by_uuid", "pool", "name"),
    "nwfilter": ("nwfilter_lookup_by_uuid", "nwfilter", "name"),
    "secret": ("secret_lookup_by_uuid", "secret", "usageID"),
}
"""How the name of an object with a uuid is found out: call, field of its result, attribute."""


def thing_of(reference: Any) -> Thing:
    """The object that a reference of ours or of a driver names."""
    kind = type(reference).__name__
    if kind in ("DomainSnapshotRef", "DomainCheckpointRef"):
        return thing_of(reference.dom)
    if kind == "NetworkPortRef":
        return Thing(reference.net.name, str(UUID(bytes=reference.uuid)))
    if kind == "StorageVolRef":
        return Thing(f"{reference.pool}/{reference.name}")
    if kind == "SecretRef":
        return Thing(reference.usageID, str(UUID(bytes=reference.uuid)))
    if kind == "NWFilterBindingRef":
        return Thing(reference.portdev)
    uuid = getattr(reference, "uuid", None)
    return Thing(reference.name, "" if uuid is None else str(UUID(bytes=uuid)))


def reference_finder(procedure: Procedure, kind: str) -> Callable[[Any], Any] | None:
    """What gives the reference to the object of a kind in a call's arguments; nothing where they hold none."""
    wanted = _REFERENCES.get(kind, (kind,))
    for item in procedure.args:
        if item.type in wanted and item.max is None:
            name = item.name
            return lambda args: getattr(args, name)
    return None


def thing_in_arguments(procedure: Procedure, kind: str, args: Any) -> Thing:
    """The object of a call without a reference: the one that its document describes, or that it calls by name."""
    names = {item.name for item in procedure.args}
    for name in _DOCUMENTS:
        if name in names:
            return _described(getattr(args, name))
    for name in _BARE_NAMES:
        if name in names and getattr(args, name):
            return Thing(getattr(args, name))
    return UNKNOWN


def _described(xml: str) -> Thing:
    try:
        root = parse_document(xml.encode("utf-8", "surrogateescape"))
    except VirtError:
        return UNKNOWN  # the driver will find the right words, if it is asked at all
    name = root.findtext("name") or ""
    uuid = root.findtext("uuid") or ""
    try:
        return Thing(name.strip(), str(UUID(uuid.strip())) if uuid else "", tags_of_domain(root))
    except ValueError:
        return UNKNOWN


def result_reference(procedure: Procedure, kind: str) -> Callable[[Any], Any] | None:
    """What gives the object in a lookup's result; nothing for calls that are no lookups."""
    if "_lookup_" not in procedure.name:
        return None
    for item in procedure.ret:
        if item.type == kind and item.max is None:
            name = item.name
            return lambda result: getattr(result, name)
    return None
