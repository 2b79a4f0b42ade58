"""What this driver asks of definitions, and how it reads, keeps and writes them.

libvirt's test driver takes every guest whatever its hypervisor, so nothing is refused beyond the general rules.
"""

from __future__ import annotations

import itertools
from typing import Final

from actors.test.records import DefinitionFacts
from conf.domain.clock import LifecycleAction
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskDevice
from conf.domain.documents import parse_domain, write_domain
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.interface import Interface, InterfaceTarget
from conf.domain.rules import DomainRules
from conf.domain.sound import Audio
from conf.domain.storage_source import SourceType
from conf.domain.tags import tags_of_markup
from conf.flags import ParseFlags, XmlFlags
from schema.enums.domain import DomainLifecycle, DomainLifecycleAction
from schema.enums.domain import DomainMessageType as Messages
from schema.errors import ConfigUnsupported, DomainStateError, ErrorDomain, InternalError, InvalidArguments


class TestRules(DomainRules):
    """The defaults of this driver's guests."""

    __test__ = False
    name = "test"

    def basic(self, domain: Domain, flags: ParseFlags) -> None:
        """Guests are of the fake host's architecture unless they say otherwise."""
        domain.os.kind.arch = domain.os.kind.arch or ARCH

    def device(self, device: Device | Graphics | Audio, domain: Domain, flags: ParseFlags) -> None:
        """Interfaces have names in the host from the beginning."""
        if isinstance(device, Interface) and (device.target is None or device.target.dev is None):
            device.target = InterfaceTarget(dev=_free_name(domain))


ARCH: Final = "i686"
RULES: Final = TestRules()
_STORED: Final = ParseFlags.SKIP_VALIDATE
_WORDS: Final = {
    DomainLifecycleAction.DESTROY: LifecycleAction.DESTROY,
    DomainLifecycleAction.RESTART: LifecycleAction.RESTART,
    DomainLifecycleAction.RESTART_RENAME: LifecycleAction.RENAME_RESTART,
    DomainLifecycleAction.PRESERVE: LifecycleAction.PRESERVE,
    DomainLifecycleAction.COREDUMP_DESTROY: LifecycleAction.COREDUMP_DESTROY,
    DomainLifecycleAction.COREDUMP_RESTART: LifecycleAction.COREDUMP_RESTART,
}
_ACTIONS: Final = {word: action for action, word in _WORDS.items()}
_PLACES: Final = {
    DomainLifecycle.POWEROFF: "on_poweroff",
    DomainLifecycle.REBOOT: "on_reboot",
    DomainLifecycle.CRASH: "on_crash",
}
_DEPRECATED_CPU: Final = "Deprecated-Test"
_ONLY_AFTER_CRASH: Final = (DomainLifecycleAction.COREDUMP_DESTROY, DomainLifecycleAction.COREDUMP_RESTART)


def _free_name(domain: Domain) -> str:
    """The first host name that no interface of the guest has."""
    taken = {one.target.dev for one in domain.devices.interfaces if one.target is not None}
    return next(name for number in itertools.count() if (name := f"testnet{number}") not in taken)


def parse_definition(xml: str | bytes, *, validate: bool = False) -> Domain:
    """A definition that a client brings. Raises XmlError, XmlInvalidSchema, ConfigUnsupported and their kin."""
    return parse_domain(xml, RULES, ParseFlags.INACTIVE | (ParseFlags.VALIDATE if validate else ParseFlags.NONE))


def read_config(xml: str) -> Domain:
    """A configuration that this driver wrote."""
    return parse_domain(xml, RULES, ParseFlags.INACTIVE | _STORED)


def read_live(xml: str) -> Domain:
    """A running guest's definition that this driver wrote."""
    return parse_domain(xml, RULES, _STORED)


def write_config(definition: Domain) -> str:
    """A configuration, to be read again."""
    return write_domain(definition, XmlFlags.INACTIVE | XmlFlags.SECURE)


def write_live(definition: Domain, id: int) -> str:
    """A running guest's definition, to be read again."""
    return write_domain(definition, XmlFlags.SECURE, id=id)


def describe(definition: Domain, flags: int, id: int) -> str:
    """A definition as a client gets it; `flags` are libvirt's."""
    return write_domain(definition, XmlFlags(flags), id=None if id == -1 else id)


def started(config: Domain) -> Domain:
    """What a guest that starts from a configuration is described by."""
    return config.copy()


def facts_of(definition: Domain) -> DefinitionFacts:
    """What lists tell of a definition."""
    return DefinitionFacts(
        max_memory(definition),
        current_memory(definition),
        current_vcpus(definition),
        definition.title,
        tags_of_markup(definition.metadata),
    )


def max_memory(definition: Domain) -> int:
    """The memory that the guest can have, in KiB."""
    return definition.memory.kib


def current_memory(definition: Domain) -> int:
    """The memory that the guest has, in KiB."""
    current = definition.current_memory_kib
    return definition.memory.kib if current is None else current


def set_max_memory(definition: Domain, memory_kib: int) -> None:
    """Changes what the guest can have; it never has more than that.

    Raises DomainStateError for a guest whose memory nodes say it.
    """
    if definition.cpu is not None and definition.cpu.numa is not None and definition.cpu.numa.cells:
        raise DomainStateError("initial memory size of a domain with NUMA nodes cannot be modified with this API")
    current = min(current_memory(definition), memory_kib)
    definition.memory.kib = memory_kib
    definition.current_memory_kib = current


def set_stats_period(definition: Domain, period_s: int) -> None:
    """How often the balloon tells of the guest's memory. Raises InternalError and InvalidArguments without one."""
    balloon = definition.devices.memballoon
    if balloon is None:
        raise InternalError("No memory balloon device configured, can not set the collection period")
    if not balloon.model.startswith("virtio"):
        raise InvalidArguments("Memory balloon model must be virtio to set the collection period")
    balloon.stats_period_s = period_s or None


def max_vcpus(definition: Domain) -> int:
    """The processors that the guest can have."""
    return definition.vcpu.count


def current_vcpus(definition: Domain) -> int:
    """The processors that the guest has."""
    current = definition.vcpu.current
    return definition.vcpu.count if current is None else current


def set_max_vcpus(definition: Domain, count: int) -> None:
    """Changes what the guest can have; it never has more than that."""
    current = min(current_vcpus(definition), count)
    definition.vcpu.count = count
    set_vcpus(definition, current)


def set_vcpus(definition: Domain, count: int) -> None:
    """Changes the number of processors plugged in."""
    definition.vcpu.current = None if count == definition.vcpu.count else count


def messages(definition: Domain, flags: int) -> list[str]:
    """What is unusual about a running guest; `flags` choose kinds, none chooses all."""
    devices = definition.devices
    deprecated = definition.cpu is not None and getattr(definition.cpu.model, "name", None) == _DEPRECATED_CPU
    taints = (
        (any(disk.rawio for disk in devices.disks), "running with undesirable elevated privileges"),
        (any(one.script is not None for one in devices.interfaces), "network configuration using opaque shell scripts"),
        (any(map(_is_host_cdrom, devices.disks)), "use of host cdrom passthrough"),
        (definition.os.dtb is not None, "custom device tree blob used"),
        (deprecated, "use of deprecated configuration settings"),
    )
    found = [f"tainted: {text}" for is_so, text in taints if is_so] if not flags or flags & Messages.TAINTING else []
    if deprecated and (not flags or flags & Messages.DEPRECATION):
        found.append(f"deprecated configuration: CPU model {_DEPRECATED_CPU}")
    return found


def _is_host_cdrom(disk: Disk) -> bool:
    return disk.device is DiskDevice.CDROM and disk.type is SourceType.BLOCK and disk.source is not None


def on_reboot(definition: Domain) -> DomainLifecycleAction:
    """What the definition says of a reboot."""
    return _ACTIONS[definition.on_reboot]


def check_lifecycle_action(event: DomainLifecycle, action: DomainLifecycleAction) -> None:
    """Raises ConfigUnsupported for what makes sense after a crash only."""
    if action in _ONLY_AFTER_CRASH and event is not DomainLifecycle.CRASH:
        word = event.name.lower()
        raise ConfigUnsupported(
            f"Lifecycle event '{word}' doesn't support '{_WORDS[action].value}' action", domain=ErrorDomain.DOMAIN
        )


def set_lifecycle_action(definition: Domain, event: DomainLifecycle, action: DomainLifecycleAction) -> None:
    """Changes what follows an event."""
    setattr(definition, _PLACES[event], _WORDS[action])
