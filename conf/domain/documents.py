"""From a domain's text to the checked definition and back."""

from __future__ import annotations

from collections import Counter

from lxml import etree

from conf.document import parse_document
from conf.domain import checks, defaults, defaults_text
from conf.domain.chardev import Channel, Console, Parallel, Serial
from conf.domain.chardev_users import RedirDev, Rng, Smartcard, Tpm
from conf.domain.controller import Controller
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import NO_UUID, Domain
from conf.domain.filesystem import Filesystem
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.identities import new_uuid
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.part_counts import check_parts
from conf.domain.rules import GENERIC_RULES, DomainRules
from conf.domain.shmem import Shmem
from conf.domain.small_devices import (
    Crypto,
    Hub,
    Input,
    Iommu,
    Lease,
    MemBalloon,
    Nvram,
    Panic,
    RedirFilter,
    Vsock,
    Watchdog,
)
from conf.domain.sound import Audio, Sound
from conf.domain.video import Video
from conf.element import Element
from conf.flags import ParseFlags, XmlFlags
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, RefusedDocument, VirtError, XmlError

_DEVICE_CLASSES: tuple[type[Element], ...] = (
    Disk,
    Controller,
    Lease,
    Filesystem,
    Interface,
    Smartcard,
    Serial,
    Parallel,
    Console,
    Channel,
    Input,
    Tpm,
    Graphics,
    Sound,
    Audio,
    Video,
    Hostdev,
    RedirDev,
    RedirFilter,
    Hub,
    Watchdog,
    MemBalloon,
    Rng,
    Nvram,
    Panic,
    Shmem,
    MemoryDevice,
    Crypto,
    Iommu,
    Vsock,
)
DEVICE_CLASSES = {cls.tag_name: cls for cls in _DEVICE_CLASSES}
"""The classes of devices by element name."""


def parse_domain(xml: str | bytes, rules: DomainRules = GENERIC_RULES, flags: ParseFlags = ParseFlags.NONE) -> Domain:
    """The definition that a text describes, with every default filled in.

    Definitions are read with `ParseFlags.INACTIVE`, which leaves out what only a running guest has; a domain without
    a UUID gets a new one.

    Raises XmlError and XmlDetailError for what is no domain document, ConfigUnsupported and others for combinations
    that cannot be; errors that name no origin get `ErrorDomain.DOMAIN`.
    """
    try:
        node = parse_document(xml, name="domain_definition", root="domain", validate=bool(flags & ParseFlags.VALIDATE))
        defaults_text.check_kind(node.findtext("os/type"), node.find("os/type"))
        _check_singles(node)
        _tidy_metadata(node)
        domain = Domain.parse(node, flags)
        if domain.uuid == NO_UUID:
            domain.uuid = new_uuid(rules)
        complete_domain(domain, rules, flags)
    except VirtError as exc:
        if exc.domain == ErrorDomain.NONE:
            exc.domain = ErrorDomain.DOMAIN
        raise
    return domain


_SINGLES: tuple[tuple[str, type[VirtError], str], ...] = (
    ("watchdog", RefusedDocument, "only a single watchdog device is supported"),
    ("memballoon", RefusedDocument, "only a single memory balloon device is supported"),
    ("nvram", RefusedDocument, "only a single nvram device is supported"),
    ("redirfilter", RefusedDocument, "only one set of redirection filter rule is supported"),
    ("iommu", XmlError, "only a single IOMMU device is supported"),
    ("vsock", XmlError, "only a single vsock device is supported"),
)


_SINGLE_PARTS: tuple[tuple[str, str], ...] = (
    ("genid", "element 'genid' can only appear once"),
    ("cputune/emulatorpin", "only one emulatorpin is supported"),
    ("cputune/emulatorsched", "only one emulatorsched is supported"),
    ("numatune", "only one numatune is supported"),
    ("resource", "only one resource element is supported"),
    ("cpu/cache", "at most one CPU cache element may be specified"),
)
"""Parts beside devices that may be there once, where libvirt says so."""


def _check_singles(node: etree._Element) -> None:
    for path, message in _SINGLE_PARTS:
        if len(node.findall(path)) > 1:
            raise XmlError(message)
    devices = node.find("devices")
    if devices is None:
        return
    counts = Counter(one.tag for one in devices)
    for device in devices:
        check_parts(device)
    for tag, error, message in _SINGLES:
        if counts[tag] > 1:
            raise error(message)


def _tidy_metadata(node: etree._Element) -> None:
    """Each element of metadata has a namespace of its own; others are not kept."""
    for metadata in node.iterchildren("metadata"):
        seen: set[str | None] = {None}
        for one in metadata.iterchildren(etree.Element):
            namespace = etree.QName(one).namespace
            if namespace in seen:
                metadata.remove(one)
            seen.add(namespace)


def complete_domain(domain: Domain, rules: DomainRules, flags: ParseFlags = ParseFlags.NONE) -> None:
    """Fills in defaults and checks a definition that came from elsewhere than a text."""
    if flags & ParseFlags.SKIP_VALIDATE:
        defaults.complete(domain, rules, flags)
        return
    defaults.complete(domain, rules, flags, lambda domain: checks.check_text(domain, rules))
    checks.check(domain, rules)


def write_domain(domain: Domain, flags: XmlFlags = XmlFlags.NONE, *, id: int | None = None) -> str:
    """The domain's text. `id` is the number of a running guest; inactive texts have none."""
    if id is not None and not flags & XmlFlags.INACTIVE:
        known, domain.id = domain.id, id
        try:
            return domain.to_xml(flags)
        finally:
            domain.id = known
    return domain.to_xml(flags)


def parse_device(
    xml: str | bytes,
    domain: Domain,
    rules: DomainRules = GENERIC_RULES,
    flags: ParseFlags = ParseFlags.NONE,
) -> Element:
    """One device of a guest, with its defaults filled in; the guest is left as it is.

    Raises like `parse_domain`.
    """
    try:
        node = parse_document(xml, name="device_definition")
        cls = DEVICE_CLASSES.get(str(node.tag))
        if cls is None:
            raise ConfigUnsupported(f"unknown device type '{node.tag}'")
        check_parts(node)
        device = cls.parse(node, flags)
        if isinstance(device, Device | Graphics | Audio):
            defaults.complete_device(device, domain, rules, flags)
            if not flags & ParseFlags.SKIP_VALIDATE:
                checks.check_device(device, domain, rules)
    except VirtError as exc:
        if exc.domain == ErrorDomain.NONE:
            exc.domain = ErrorDomain.DOMAIN
        raise
    return device


def write_device(device: Element, flags: XmlFlags = XmlFlags.NONE) -> str:
    """The device's text, as it stands in `<devices>` but without indentation."""
    return device.to_xml(flags)
