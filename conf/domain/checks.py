"""Combinations that no hypervisor can provide."""

from __future__ import annotations

from conf.domain.defaults import walk
from conf.domain.device import Device
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.rules import DomainRules
from conf.domain.sound import Audio
from schema.errors import ConfigUnsupported, XmlError


def check(domain: Domain, rules: DomainRules) -> None:
    """Refuses a definition that contradicts itself, then what the driver refuses."""
    _check_name(domain, rules)
    _check_boot_order(domain)
    _check_duplicates(domain)
    _check_memory(domain)
    for device in walk(domain):
        check_device(device, domain, rules)
    rules.check(domain)


def check_device(device: Device | Graphics | Audio, domain: Domain, rules: DomainRules) -> None:
    """Refuses one device, for reasons common to all hypervisors and then for the driver's."""
    rules.check_device(device, domain)


def _check_name(domain: Domain, rules: DomainRules) -> None:
    if not rules.name_may_have_slash and "/" in domain.name:
        raise XmlError(f"name {domain.name} cannot contain '/'")
    if not domain.name.strip():
        raise XmlError("name must not be empty")
    if domain.title is not None and "\n" in domain.title:
        raise XmlError("Domain title can't contain newlines")


def _check_boot_order(domain: Domain) -> None:
    orders: set[int] = set()
    for device in domain.devices.all():
        order = device.boot.order if device.boot is not None else None
        if order is None:
            continue
        if order == 0:
            raise XmlError("incorrect boot order '0', expecting positive integer")
        if order in orders:
            raise XmlError(f"boot order '{order}' used for more than one device")
        orders.add(order)
    if orders and domain.os.boots:
        raise ConfigUnsupported("per-device boot elements cannot be used together with os/boot elements")


def _check_duplicates(domain: Domain) -> None:
    targets: set[tuple[str, str]] = set()
    for disk in domain.devices.disks:
        key = (disk.target.dev, "")
        if key in targets:
            raise XmlError(f"target '{disk.target.dev}' duplicated for disk sources '' and ''")
        targets.add(key)
    aliases: set[str] = set()
    for device in domain.devices.all():
        if device.alias is not None:
            if device.alias in aliases:
                raise XmlError(f"non unique alias detected: {device.alias}")
            aliases.add(device.alias)
    seen: set[tuple[str, int | None, int | None]] = set()
    for controller in domain.devices.controllers:
        which = (controller.type.value, controller.index, controller.master_startport)
        if which in seen:
            raise XmlError(f"Multiple '{controller.type.value}' controllers with index '{controller.index}'")
        seen.add(which)


def _check_memory(domain: Domain) -> None:
    biggest = domain.max_memory
    if biggest is None:
        return
    if (biggest.slots or 0) == 0:
        raise XmlError("both maximum memory size and memory slot count must be specified")
    if biggest.kib < domain.memory.kib:
        raise XmlError("maximum memory size must be equal or greater than the actual memory size")
