"""What QEMU's machines and devices cannot do together, in libvirt's words and in its order."""

from __future__ import annotations

from dataclasses import dataclass

from actors.qemu import (
    rules_checks_controllers,
    rules_checks_devices,
    rules_checks_disks,
    rules_checks_displays,
    rules_checks_links,
    rules_checks_machine,
    rules_machine,
)
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import CcidAddress
from conf.domain.addresses.usb import usb_devices
from conf.domain.chardev_users import Tpm, TpmModel
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import Domain, VirtType
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface
from conf.domain.sound import Audio
from conf.domain.video import Video
from schema.errors import ConfigUnsupported


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What depends on the host besides the emulator: None where it is not known."""

    arch: str | None = None
    tpm_versions: frozenset[str] | None = None
    spice_tls: bool = True


ANY_HOST = HostLimits()


def check(
    domain: Domain, capabilities: Capabilities, accelerators: tuple[VirtType, ...], limits: HostLimits = ANY_HOST
) -> None:
    """Refuses a domain that QEMU cannot run. Raises ConfigUnsupported."""
    check_emulator(domain, capabilities, accelerators)
    rules_checks_machine.check(domain, capabilities, limits.arch)
    rules_checks_devices.check_consoles(domain, capabilities)
    _check_usb(domain)
    _check_tpms(domain)
    cards = domain.devices.smartcards
    if len(cards) > 1 or any(
        (one.address.controller, one.address.slot) != (0, 0) for one in cards if isinstance(one.address, CcidAddress)
    ):
        raise ConfigUnsupported("this QEMU binary lacks multiple smartcard support")
    if domain.devices.redirfilter is not None and capabilities.lacks("usb-redir.filter"):
        raise ConfigUnsupported("USB redirection filter is not supported by this version of QEMU")


def check_device(
    device: Device | Graphics | Audio, domain: Domain, capabilities: Capabilities, limits: HostLimits = ANY_HOST
) -> None:
    """Refuses a device that QEMU cannot provide. Raises ConfigUnsupported, RefusedDocument, XmlError."""
    if isinstance(device, Device):
        rules_checks_links.check_address(device, domain, capabilities)
    match device:
        case Disk():
            rules_checks_disks.check(device, domain, capabilities)
        case Controller():
            rules_checks_controllers.check(device, domain, capabilities)
        case Interface():
            rules_checks_links.check_interface(device, domain, capabilities)
        case Hostdev():
            rules_checks_links.check_hostdev(device, domain, capabilities)
        case Graphics():
            rules_checks_displays.check_graphics(device, domain, capabilities, spice_tls=limits.spice_tls)
        case Video():
            rules_checks_displays.check_video(device, domain, capabilities)
        case Tpm():
            rules_checks_devices.check_tpm(device, domain, capabilities, limits.tpm_versions)
        case _:
            rules_checks_devices.check(device, domain, capabilities)


_ALSO = (
    ("x86_64", "i686"),
    ("aarch64", "armv7l"),
    ("armv7l", "armv6l"),
    ("ppc64", "ppc64le"),
)
"""The architectures that an emulator of another has as well."""


def check_emulator(domain: Domain, capabilities: Capabilities, accelerators: tuple[VirtType, ...]) -> None:
    """Refuses an architecture or accelerator that the emulator does not have. Raises ConfigUnsupported."""
    emulator = domain.devices.emulator
    arch = rules_machine.arch_of(domain)
    if arch != capabilities.arch and (capabilities.arch, arch) not in _ALSO:
        raise ConfigUnsupported(f"Emulator '{emulator}' does not support arch '{arch}'")
    if domain.type not in accelerators:
        raise ConfigUnsupported(f"Emulator '{emulator}' does not support virt type '{domain.type.value}'")
    machine = rules_machine.machine_of(domain)
    if capabilities.machines and (machine == "none" or capabilities.find_machine(machine) is None):
        raise ConfigUnsupported(f"Emulator '{emulator}' does not support machine type '{machine}'")


def _check_usb(domain: Domain) -> None:
    if any(one.type is ControllerType.USB and one.model != "none" for one in domain.devices.controllers):
        return
    if any(True for _ in usb_devices(domain)):
        raise ConfigUnsupported("USB is disabled for this domain, but USB devices are present in the domain XML")


def _check_tpms(domain: Domain) -> None:
    proxies = [one for one in domain.devices.tpms if one.model is TpmModel.SPAPR_PROXY]
    if len(proxies) > 1:
        raise ConfigUnsupported("only a single TPM Proxy device is supported")
    if len(domain.devices.tpms) - len(proxies) > 1:
        raise ConfigUnsupported("only a single TPM non-proxy device is supported")
