"""What reading the text of a disk settles, or refuses, before any rule looks at the disk."""

from __future__ import annotations

import re
from typing import Final

from conf.domain.disk import BackingStore, Disk, ErrorPolicy
from conf.domain.storage_source import (
    Host,
    NetworkSource,
    NfsIdentity,
    NvmeSource,
    StorageSource,
    Transport,
    VhostUserSource,
)
from schema.errors import ConfigUnsupported, RefusedDocument, XmlError

_WWN: Final = re.compile(r"(0x)?[0-9a-fA-F]{16}\Z").match


def normalize(disk: Disk) -> None:
    """Drops what says nothing. Raises XmlError, ConfigUnsupported and RefusedDocument for parts that do not fit."""
    if disk.source is not None:
        _normalize_source(disk.source)
    below = disk.backing_store
    while below is not None and below.type is not None:
        _check_backing(below)
        below = below.backing_store
    size = disk.geometry
    if size is not None and not (size.cyls and size.heads and size.secs):
        disk.geometry = None
    if disk.wwn is not None and _WWN(disk.wwn) is None:
        raise RefusedDocument(f"Malformed wwn: {disk.wwn}")
    driver = disk.driver
    if driver is not None:
        if driver.rerror_policy is ErrorPolicy.ENOSPACE:
            raise ConfigUnsupported(f"Invalid disk read error policy: '{driver.rerror_policy.value}'")
        driver.queues, driver.queue_size = driver.queues or None, driver.queue_size or None


def _check_backing(image: BackingStore) -> None:
    if image.format is None:
        raise XmlError("missing disk backing store format")
    if image.source is None:
        raise XmlError("missing disk backing store source")
    _normalize_source(image.source)


def _normalize_source(source: StorageSource) -> None:
    slices = getattr(source, "slices", None)
    if slices:
        slices[:] = [one for one in slices if one.type == "storage"]
    reservations = getattr(source, "reservations", None)
    if reservations is not None and not reservations.managed:
        helper = reservations.source
        if helper is None or helper.type is None:
            raise XmlError("missing connection type for <reservations/>")
        if helper.type != "unix":
            raise XmlError(f"unsupported connection type for <reservations/>: {helper.type}")
        if helper.path is None:
            raise XmlError("missing path for <reservations/>")
        if helper.mode not in (None, "client"):
            raise XmlError(f"unsupported connection mode for <reservations/>: {helper.mode}")
    if isinstance(source, NetworkSource):
        _normalize_network(source)
    if isinstance(source, VhostUserSource) and source.reconnect is not None:
        if not source.reconnect.enabled:
            source.reconnect.timeout_s = None
        elif source.reconnect.timeout_s is None:
            raise XmlError("Missing required attribute 'timeout' in element 'reconnect'")
    if isinstance(source, NvmeSource) and source.address is None and source.type == "pci":
        raise XmlError("NVMe disk source is missing address")


def _normalize_network(source: NetworkSource) -> None:
    for host in source.hosts:
        _check_host(host)
    if source.readahead is not None and not source.readahead.size:
        source.readahead = None
    source.timeout_s = source.timeout_s or None
    if source.identity == NfsIdentity():
        source.identity = None


def _check_host(host: Host) -> None:
    if host.transport is Transport.UNIX:
        if host.socket is None:
            raise XmlError("missing socket for unix transport")
        return
    if host.socket is not None:
        given = "(null)" if host.transport is None else host.transport.value
        raise XmlError(f"transport '{given}' does not support socket attribute")
    if host.name is None:
        raise XmlError("missing name for host")
