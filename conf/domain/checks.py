"""Combinations in a domain that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

import re

from conf.domain import checks_devices, checks_disks, checks_firmware, checks_machine
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults import walk
from conf.domain.device import Device
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics, GraphicsType
from conf.domain.hostdev import HostdevType
from conf.domain.memory import HugePage
from conf.domain.rules import DomainRules
from conf.domain.small_devices import InputType
from conf.domain.sound import Audio
from conf.values import parse_uuid
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, XmlDetailError, XmlError
from util.cpuset import parse_cpuset


def check_text(domain: Domain, rules: DomainRules) -> None:
    """Refuses a text that contradicts itself, before anything is filled in."""
    _check_name(domain, rules)
    checks_machine.check_text(domain)
    _check_sysinfo(domain)
    _check_labels(domain)
    _check_usb(domain)
    checks_firmware.check_features(domain)
    _check_boot_order(domain)
    _check_timers(domain)


def check(domain: Domain, rules: DomainRules) -> None:
    """Refuses a definition that contradicts itself, and what the driver refuses, in libvirt's order."""
    _check_memory(domain)
    _check_controllers(domain)
    rules.check(domain)
    for device in walk(domain):
        check_device(device, domain, rules)
    checks_disks.check_together(domain)
    _check_videos(domain)
    checks_devices.check_hostdevs(domain)
    _check_aliases(domain)
    _check_tunables(domain)
    _check_hugepages(domain)
    _check_iommu(domain)
    checks_firmware.check(domain)
    _check_audio(domain)


def check_device(device: Device | Graphics | Audio, domain: Domain, rules: DomainRules) -> None:
    """Refuses one device, for reasons common to all hypervisors and then for the driver's."""
    checks_devices.check(device, domain, rules)
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
        if order in orders:
            raise ConfigUnsupported(f"boot order '{order}' used for more than one device")
        orders.add(order)
    if orders and domain.os.boots:
        raise ConfigUnsupported("per-device boot elements cannot be used together with os/boot elements")


def _check_memory(domain: Domain) -> None:
    biggest = domain.max_memory
    if biggest is None:
        return
    if not biggest.slots or not biggest.kib:
        raise XmlError("both maximum memory size and memory slot count must be specified")
    if biggest.kib < domain.memory.kib:
        raise XmlError("maximum memory size must be equal or greater than the actual memory size")


def _check_hugepages(domain: Domain) -> None:
    pages = domain.memory_backing.hugepages if domain.memory_backing is not None else None
    # without nodes of its own, the guest is node 0 as a whole
    whole = (None,) if checks_machine.cells_of(domain) else (None, "0")
    taken: list[tuple[HugePage, frozenset[int]]] = []
    for page in pages.pages if pages is not None else ():
        nodes = parse_cpuset(page.nodeset) if page.nodeset is not None and page.nodeset not in whole else frozenset()
        for other, others in taken:
            if not nodes and not others:
                raise XmlDetailError(
                    f"two master hugepages detected: {page.size} and {other.size}", domain=ErrorDomain.DOMAIN
                )
            if nodes & others:
                raise XmlDetailError(
                    f"nodeset attribute of hugepages of sizes {page.size} and {other.size} intersect",
                    domain=ErrorDomain.DOMAIN,
                )
        taken.append((page, nodes))
    for _, nodes in taken:
        for number in sorted(nodes):
            if number >= len(checks_machine.cells_of(domain)):
                raise XmlDetailError(f"hugepages: node {number} not found", domain=ErrorDomain.DOMAIN)


def _check_timers(domain: Domain) -> None:
    for timer in domain.clock.timers:
        if timer.name in ("kvmclock", "hypervclock") and timer.tickpolicy is not None:
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer tickpolicy")
        tuned = timer.catchup is not None and any(one for one in vars(timer.catchup).values())
        if tuned and timer.tickpolicy != "catchup":
            raise XmlError("setting of timer catchup policies is only supported with tickpolicy='catchup'")
        if timer.frequency is not None and timer.name != "tsc":
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer frequency")
        if timer.mode is not None and timer.name != "tsc":
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer mode")
        if timer.track is not None and timer.name not in ("platform", "rtc"):
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer track")


_DATE = re.compile(r"(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/([0-9]{2}|(?:19|[2-9][0-9])[0-9]{2})$")


def _check_sysinfo(domain: Domain) -> None:
    for info in domain.sysinfos:
        for entry in info.entries if info.type == "fwcfg" else ():
            if entry.name is None:
                raise XmlError("Firmware entry is missing 'name' attribute")
            if not entry.value and entry.file is None:
                raise XmlError("Firmware entry must have either value or 'file' attribute")
        date = next((one.value for one in info.bios.entries if one.name == "date"), None) if info.bios else None
        if date is not None and _DATE.match(date) is None:
            raise XmlDetailError("Invalid BIOS 'date' format", domain=ErrorDomain.DOMAIN)
        text = info.system.get("uuid") if info.system is not None else None
        if text is None:
            continue
        try:
            uuid = parse_uuid(text)
        except ValueError:
            raise XmlDetailError("malformed <sysinfo> uuid element", domain=ErrorDomain.DOMAIN) from None
        if uuid != domain.uuid:
            raise XmlDetailError("UUID mismatch between <uuid> and <sysinfo>", domain=ErrorDomain.DOMAIN)


def _check_labels(domain: Domain) -> None:
    if len(domain.seclabels) < 2:
        return
    models: set[str | None] = set()
    for label in domain.seclabels:
        if label.model in models:
            model = "(null)" if label.model is None else label.model
            raise XmlDetailError(f"seclabel for model {model} is already provided", domain=ErrorDomain.DOMAIN)
        models.add(label.model)
    if None in models:
        raise XmlError("missing security model when using multiple labels")


def _check_aliases(domain: Domain) -> None:
    aliases: set[str] = set()
    devices = domain.devices
    shown = devices.consoles[0].target if devices.consoles else None
    # a serial port that is also the first console has its name twice
    passed = devices.serials[0] if devices.serials and shown is not None and shown.type == "serial" else None
    for device in devices.all():
        if device.alias is not None and device is not passed:
            if device.alias in aliases:
                raise ConfigUnsupported(f"non unique alias detected: {device.alias}")
            aliases.add(device.alias)


_PERIODS = (1000, 1_000_000)
_QUOTAS = (1000, 17592186044415)
_SHARES = (2, 262144)


def _check_tunables(domain: Domain) -> None:
    tune = domain.cputune
    if tune is not None:
        if tune.shares and not _SHARES[0] <= tune.shares <= _SHARES[1]:
            raise ConfigUnsupported(f"Value of cputune 'shares' must be in range [{_SHARES[0]}, {_SHARES[1]}]")
        for part in ("", "global_", "emulator_", "iothread_"):
            period, quota = getattr(tune, f"{part}period"), getattr(tune, f"{part}quota")
            if period and not _PERIODS[0] <= period <= _PERIODS[1]:
                raise ConfigUnsupported(
                    f"Value of cputune '{part}period' must be in range [{_PERIODS[0]}, {_PERIODS[1]}]"
                )
            if quota and quota > 0 and not _QUOTAS[0] <= quota <= _QUOTAS[1]:
                raise ConfigUnsupported(f"Value of cputune '{part}quota' must be in range [{_QUOTAS[0]}, {_QUOTAS[1]}]")
    menu, bios = domain.os.bootmenu, domain.os.bios
    if menu is not None and menu.timeout_ms is not None and menu.timeout_ms > 65535:
        raise ConfigUnsupported("invalid value for boot menu timeout, must be in range [0,65535]")
    reboot = bios.reboot_timeout_ms if bios is not None else None
    if reboot is not None and not -1 <= reboot <= 65535:
        raise ConfigUnsupported("invalid value for rebootTimeout, must be in range [-1,65535]")
    devices = domain.blkiotune.devices if domain.blkiotune is not None else []
    paths: set[str | None] = set()
    for device in devices:
        if device.path is None:
            raise ConfigUnsupported("missing per-device path")
        if device.path in paths:
            raise ConfigUnsupported(f"duplicate blkio device path '{device.path}'")
        paths.add(device.path)


def _check_iommu(domain: Domain) -> None:
    iommu = domain.devices.iommu
    driver = iommu.driver if iommu is not None else None
    if driver is None:
        return
    if driver.intremap and (domain.features is None or domain.features.ioapic != "qemu"):
        raise ConfigUnsupported("IOMMU interrupt remapping requires split I/O APIC (ioapic driver='qemu')")
    if driver.eim and not driver.intremap:
        raise ConfigUnsupported("IOMMU eim requires interrupt remapping to be enabled")


def _check_audio(domain: Domain) -> None:
    devices = domain.devices
    known: set[int] = set()
    for audio in devices.audios:
        if audio.id in known:
            raise XmlError(f"audio ID {audio.id} is used multiple times")
        known.add(audio.id)
    users = [
        *(one.audio_id for one in devices.sounds),
        *(one.audio_id for one in devices.graphics if one.type is GraphicsType.VNC),
    ]
    for number in users:
        if number and number not in known:
            raise XmlError(f"no audio device with ID {number}")


def _check_controllers(domain: Domain) -> None:
    panics = [one.model for one in domain.devices.panics]
    for model in panics:
        if panics.count(model) > 1:
            raise XmlError(f"Multiple panic devices with model '{model.value if model is not None else 'default'}'")
    seen: set[tuple[str, int | None, int | None]] = set()
    for controller in domain.devices.controllers:
        which = (controller.type.value, controller.index, controller.master_startport)
        if which in seen:
            if controller.type is ControllerType.USB and _is_usb_off(domain):
                raise XmlDetailError(
                    "Can't add another USB controller: USB is disabled for this domain", domain=ErrorDomain.DOMAIN
                )
            raise XmlError(f"Multiple '{controller.type.value}' controllers with index '{controller.index}'")
        seen.add(which)


def _usb_controllers(domain: Domain) -> list[Controller]:
    return [one for one in domain.devices.controllers if one.type is ControllerType.USB]


def _is_usb_off(domain: Domain) -> bool:
    return any(one.model == "none" for one in _usb_controllers(domain))


def _check_usb(domain: Domain) -> None:
    controllers = _usb_controllers(domain)
    if controllers and all(one.master_startport is not None for one in controllers):
        raise XmlDetailError("No master USB controller specified", domain=ErrorDomain.DOMAIN)
    if not _is_usb_off(domain):
        return
    if len(controllers) > 1:
        raise XmlDetailError(
            "Can't add another USB controller: USB is disabled for this domain", domain=ErrorDomain.DOMAIN
        )
    devices = domain.devices
    if devices.hubs:
        raise ConfigUnsupported("Can't add USB hub: USB is disabled for this domain")
    for one in devices.inputs:
        if one.bus == "usb" or (one.bus is None and one.type is InputType.TABLET):
            raise ConfigUnsupported("Can't add USB input device. USB bus is disabled")
    if any(one.type is HostdevType.USB for one in devices.hostdevs):
        raise ConfigUnsupported("Can't add host USB device: USB is disabled in this host")


def _check_videos(domain: Domain) -> None:
    if sum(bool(one.model.primary) for one in domain.devices.videos) > 1:
        raise ConfigUnsupported("Only one primary video device is supported")
