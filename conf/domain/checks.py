"""Combinations in a domain that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

from conf.cpu.cpu import NumaCell
from conf.domain import checks_devices, checks_firmware
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults import walk
from conf.domain.defaults_processor import cpuset, iothread_ids
from conf.domain.device import Device
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.rules import DomainRules
from conf.domain.sound import Audio
from conf.domain.video import VideoType
from conf.values import parse_uuid
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, XmlDetailError, XmlError
from util.cpuset import parse_cpuset


def check(domain: Domain, rules: DomainRules) -> None:
    """Refuses a definition that contradicts itself, then what the driver refuses."""
    _check_name(domain, rules)
    checks_firmware.check(domain)
    _check_boot_order(domain)
    _check_memory(domain)
    _check_hugepages(domain)
    _check_nodes(domain)
    _check_processors(domain)
    _check_timers(domain)
    _check_sysinfo(domain)
    _check_labels(domain)
    _check_duplicates(domain)
    checks_devices.check_all(domain, rules)
    _check_usb(domain)
    _check_videos(domain)
    for device in walk(domain):
        check_device(device, domain, rules)
    rules.check(domain)


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
    menu = domain.os.bootmenu
    if menu is not None and menu.timeout_ms is not None and menu.timeout_ms > 65535:
        raise ConfigUnsupported("invalid value for boot menu timeout, must be in range [0,65535]")
    orders: set[int] = set()
    for device in domain.devices.all():
        order = device.boot.order if device.boot is not None else None
        if order is None:
            continue
        if order == 0:
            raise XmlError("Invalid value for attribute 'order' in element 'boot': Zero is not permitted")
        if order in orders:
            raise XmlError(f"boot order '{order}' used for more than one device")
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
    whole = (None,) if _cells(domain) else (None, "0")
    masters = [page.size for page in pages.pages if page.nodeset in whole] if pages is not None else []
    if len(masters) > 1:
        raise XmlDetailError(f"two master hugepages detected: {masters[1]} and {masters[0]}", domain=ErrorDomain.DOMAIN)


def _cells(domain: Domain) -> list[NumaCell]:
    return domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []


def _check_nodes(domain: Domain) -> None:
    cells = _cells(domain)
    if [cell.id for cell in cells] != list(range(len(cells))):
        raise XmlError(
            "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting "
            "from 0 are not allowed"
        )
    seen: set[int] = set()
    for cell in cells:
        cpus = parse_cpuset(cell.cpus) if cell.cpus else frozenset()
        if cpus & seen:
            raise XmlError("NUMA cells must not share processors")
        seen |= cpus
    if seen and max(seen) >= domain.vcpu.count:
        raise ConfigUnsupported("CPU IDs in <numa> exceed the <vcpu> count")
    tune = domain.numatune
    if tune is None:
        return
    if tune.memnodes and not cells:
        raise XmlError("Element 'memnode' is invalid without any guest NUMA cells")
    whole = tune.memory.mode if tune.memory is not None else None
    for node in tune.memnodes:
        if node.cellid >= len(cells):
            raise XmlError("Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell")
        if (whole == "restrictive") != (node.mode == "restrictive") and whole is not None:
            raise XmlError(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element"
            )


def _check_processors(domain: Domain) -> None:
    tune = domain.cputune
    if tune is None:
        return
    for name in ("period", "global_period", "emulator_period", "iothread_period"):
        period = getattr(tune, name)
        if period and not 1000 <= period <= 1_000_000:
            raise ConfigUnsupported(f"Value of cputune '{name}' must be in range [1000, 1000000]")
    vcpus: set[str] = set()
    for sched in tune.vcpuscheds:
        if sched.vcpus in vcpus:
            raise XmlDetailError("'vcpusched' attributes 'vcpus' must not overlap", domain=ErrorDomain.DOMAIN)
        vcpus.add(sched.vcpus)
    known = set(iothread_ids(domain))
    threads: set[str] = set()
    for thread in tune.iothreadscheds:
        for number in parse_cpuset(cpuset(thread.iothreads)):
            if number not in known:
                raise ConfigUnsupported(f"Cannot find 'iothread' : {number}")
        if thread.iothreads in threads:
            raise XmlDetailError("'iothreadsched' attributes 'iothreads' must not overlap", domain=ErrorDomain.DOMAIN)
        threads.add(thread.iothreads)
    for pin in tune.iothreadpins:
        if pin.iothread not in known:
            raise XmlError(f"Cannot find 'iothread' : {pin.iothread}")


def _check_timers(domain: Domain) -> None:
    for timer in domain.clock.timers:
        if timer.mode is not None and timer.name != "tsc":
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer mode")
        if timer.frequency is not None and timer.name != "tsc":
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer frequency")
        if timer.track is not None and timer.name not in ("platform", "rtc"):
            raise ConfigUnsupported(f"timer {timer.name} doesn't support setting of timer track")


def _check_sysinfo(domain: Domain) -> None:
    for info in domain.sysinfos:
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
    models: set[str] = set()
    for label in sorted(domain.seclabels, key=lambda one: one.model is None):
        if label.model is None:
            raise XmlError("missing security model when using multiple labels")
        if label.model in models:
            raise XmlDetailError(f"seclabel for model {label.model} is already provided", domain=ErrorDomain.DOMAIN)
        models.add(label.model)


def _check_duplicates(domain: Domain) -> None:
    aliases: set[str] = set()
    for device in domain.devices.all():
        if device.alias is not None:
            if device.alias in aliases:
                raise ConfigUnsupported(f"non unique alias detected: {device.alias}")
            aliases.add(device.alias)
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
    masters = {one.index for one in controllers if one.master_startport is None}
    for controller in controllers:
        if controller.master_startport is not None and controller.index not in masters:
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
    if any(one.bus == "usb" for one in devices.inputs):
        raise ConfigUnsupported("Can't add USB input device. USB bus is disabled")


def _check_videos(domain: Domain) -> None:
    videos = domain.devices.videos
    if len(videos) > 1 and any(one.model.type is VideoType.NONE for one in videos):
        raise ConfigUnsupported("a 'none' video type must be the only video device defined for the domain")
