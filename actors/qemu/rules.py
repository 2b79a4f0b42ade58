"""QEMU's own defaults of domain documents: machine, emulator, the devices that a machine always has, addresses."""

from __future__ import annotations

import re
from pathlib import Path

from actors.qemu import (
    rules_addresses,
    rules_checks,
    rules_checks_machine,
    rules_devices,
    rules_machine,
    rules_processors,
)
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.rules_checks import ANY_HOST, HostLimits
from actors.qemu.rules_machine import NO_HOST_AUDIO, HostAudio
from conf.cpu.cpu import CpuCheck, CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.domain.address import PciAddress, SourcePciAddress
from conf.domain.addresses.usb import assign_usb
from conf.domain.aliases import assign_aliases
from conf.domain.chardev import Channel, UnixSource
from conf.domain.device import Device
from conf.domain.domain import Domain, VirtType
from conf.domain.features import Features, Gic
from conf.domain.graphics import Graphics, ListenType
from conf.domain.os import NvramStore, OsType
from conf.domain.rules import DomainRules
from conf.domain.sound import Audio
from conf.flags import ParseFlags
from conf.origin import told_by
from schema.errors import ConfigUnsupported, ErrorDomain, XmlError

_MODELLED = (*rules_machine.X86, *rules_machine.S390, *rules_machine.PPC64, *rules_machine.ARM)
"""The architectures of whose processors libvirt knows models."""
_CONVENTIONAL_BYTES = 256
"""The registers of a device that is not on PCI Express."""


class QemuRules(DomainRules):
    """The rules of one emulator binary."""

    name = "qemu"
    security_model = "none"
    namespaces = frozenset({"qemu"})
    passes_disk_fds = True

    def __init__(
        self,
        capabilities: Capabilities,
        *,
        gic: str = "3",
        state_folder: str | None = None,
        channel_folder: str | None = None,
        nvram_folder: str | None = None,
        accelerators: tuple[VirtType, ...] = (VirtType.QEMU, VirtType.KVM),
        host_audio: HostAudio = NO_HOST_AUDIO,
        limits: HostLimits = ANY_HOST,
    ) -> None:
        """`gic` is the interrupt controller KVM has on ARM; sockets in the two folders are ours, not the user's."""
        self.host_audio = host_audio
        self.limits = limits
        self.capabilities = capabilities
        self.gic = gic
        self.state_folder = state_folder
        self.channel_folder = channel_folder
        self.nvram_folder = nvram_folder
        self.accelerators = accelerators
        self.default_arch = capabilities.arch

    @told_by(ErrorDomain.QEMU)
    def basic(self, domain: Domain, flags: ParseFlags) -> None:
        """Names the emulator and the machine.

        Raises ConfigUnsupported for what QEMU cannot run.
        """
        if domain.bootloader or domain.bootloader_args:
            raise ConfigUnsupported("bootloader is not supported by QEMU")
        kind = domain.os.kind
        kind.type = kind.type or OsType.HVM.value
        if kind.type != OsType.HVM:
            if kind.type == OsType.EXE and domain.os.init is None:
                raise XmlError("init binary must be specified")
            emulator = domain.devices.emulator or self.capabilities.emulator
            raise ConfigUnsupported(f"Emulator '{emulator}' does not support os type '{kind.type}'")
        kind.arch = kind.arch or self.capabilities.arch
        if domain.devices.emulator is None:
            domain.devices.emulator = self.capabilities.emulator
        if kind.machine is None:
            kind.machine = self.capabilities.default_machine()
        if kind.machine is not None:
            kind.machine = self.capabilities.canonical_machine(kind.machine)

    @told_by(ErrorDomain.QEMU)
    def domain(self, domain: Domain, flags: ParseFlags) -> None:
        """Adds what the machine always has, and settles the processor."""
        rules_processors.check_states(domain)
        rules_machine.add_default_devices(domain, self.capabilities)
        rules_machine.add_audio(domain, self.host_audio)
        rules_machine.complete_nodes(domain)
        self._complete_features(domain)
        rules_checks_machine.check_smm(domain, self.capabilities)
        self._complete_cpu(domain)
        self._name_variables(domain)

    @told_by(ErrorDomain.QEMU)
    def device(self, device: Device | Graphics | Audio, domain: Domain, flags: ParseFlags) -> None:
        """Fills in models and drivers."""
        rules_devices.complete(device, domain, self.capabilities, flags)
        if flags & ParseFlags.INACTIVE:
            self._forget_sockets(device)

    def assign_addresses(self, domain: Domain, flags: ParseFlags) -> None:
        """Gives every device its place, in libvirt's order of buses."""
        rules_addresses.assign(domain, self.capabilities, flags, self.iommu_group, self.is_express)

    def iommu_group(self, address: SourcePciAddress | PciAddress) -> int | None:
        """The group of a host's device that can only be given to guests together."""
        try:
            link = Path(f"/sys/bus/pci/devices/{address}/iommu_group").readlink()
        except OSError:
            return None
        return int(link.name)

    def is_express(self, address: SourcePciAddress | PciAddress) -> bool:
        """Is the host's device on PCI Express? One that is not there is taken for such."""
        try:
            return Path(f"/sys/bus/pci/devices/{address}/config").stat().st_size > _CONVENTIONAL_BYTES
        except OSError:
            return True

    @told_by(ErrorDomain.QEMU)
    def check_device(self, device: Device | Graphics | Audio, domain: Domain) -> None:
        """Refuses what QEMU cannot provide."""
        rules_checks.check_device(device, domain, self.capabilities, self.limits)

    @told_by(ErrorDomain.QEMU)
    def check(self, domain: Domain) -> None:
        """Refuses what QEMU cannot run."""
        rules_checks.check(domain, self.capabilities, self.accelerators, self.limits)

    def assign_aliases(self, domain: Domain) -> None:
        """Names the devices of a guest that starts; USB devices of old definitions get their ports before that."""
        assign_usb(domain)
        assign_aliases(domain, builtin=lambda controller: rules_machine.builtin_alias(domain, controller))

    def _forget_sockets(self, device: Device | Graphics | Audio) -> None:
        """Takes the sockets out that were made for an earlier run."""
        if isinstance(device, Channel) and isinstance(device.source, UnixSource):
            if self.channel_folder is not None and _is_made_up(device, device.source.path, self.channel_folder):
                device.source = None
        elif isinstance(device, Graphics):
            for listen in device.listens:
                if listen.type is ListenType.SOCKET and _is_in(listen.socket, self.state_folder):
                    listen.type, listen.socket = ListenType.ADDRESS, None
                    device.autoport = True

    def _name_variables(self, domain: Domain) -> None:
        """Firmware in a read-only image keeps its variables in a file of the guest's own."""
        loader, store = domain.os.loader, domain.os.nvram
        if self.nvram_folder is None or loader is None or loader.type != "pflash" or not loader.readonly:
            return
        if loader.stateless or (store is not None and (store.path is not None or store.source is not None)):
            return
        domain.os.nvram = store = store or NvramStore()
        store.path = f"{self.nvram_folder}/{domain.name}_VARS.fd"

    def _complete_features(self, domain: Domain) -> None:
        if rules_machine.is_arm_virt(domain):
            features = domain.features or Features()
            if features.gic is None or features.gic.version is None:
                features.gic = Gic(version=self.gic if domain.type is VirtType.KVM else "2")
            domain.features = features

    def _complete_cpu(self, domain: Domain) -> None:
        cpu = domain.cpu
        if cpu is not None and rules_machine.arch_of(domain) in rules_machine.ARM:
            rules_machine.complete_vectors(cpu)
        if _is_open(cpu):
            self._choose_cpu(domain)
            cpu = domain.cpu
        if cpu is None or _is_open(cpu):
            return
        if cpu.migratable is None and rules_machine.is_x86(domain) and cpu.mode is CpuMode.HOST_PASSTHROUGH:
            cpu.migratable = self.capabilities.has("cpu.migratable")
        if cpu.check is not None:
            return
        if cpu.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
            cpu.check = CpuCheck.NONE
        elif cpu.mode is CpuMode.HOST_MODEL or domain.type is not VirtType.QEMU:
            cpu.check = CpuCheck.PARTIAL
        else:
            cpu.check = CpuCheck.NONE

    def _choose_cpu(self, domain: Domain) -> None:
        """The machine's default model, so that another QEMU version cannot change it."""
        arch = domain.os.kind.arch
        if arch not in _MODELLED:
            return
        if domain.type is not VirtType.QEMU and arch in rules_machine.ARM:
            return
        machine = self.capabilities.find_machine(domain.os.kind.machine or "")
        typename = machine.cpu_for(domain.type.value) if machine is not None else None
        if typename is None:
            return
        model = rules_machine.cpu_model_name(self.capabilities, domain.type.value, typename)
        cpu = domain.cpu or GuestCpu()
        if model is None:
            return
        if model == "host":
            modern = rules_machine.is_s390(domain) and not rules_machine.is_old_s390(domain)
            cpu.mode = CpuMode.HOST_MODEL if modern else CpuMode.HOST_PASSTHROUGH
        else:
            cpu.mode = CpuMode.CUSTOM
            cpu.match = CpuMatch.EXACT
            cpu.check = CpuCheck.NONE
            cpu.model = CpuModel(name=model, fallback="forbid")
        domain.cpu = cpu


def _is_open(cpu: GuestCpu | None) -> bool:
    """Does the definition leave the model to us?"""
    if cpu is None:
        return True
    return cpu.mode in (None, CpuMode.CUSTOM) and (cpu.model is None or not cpu.model.name)


def _is_made_up(channel: Channel, path: str | None, folder: str) -> bool:
    """Was the path made from the guest's name and the channel's, in this folder or for an earlier version?"""
    name = channel.target.name if channel.target is not None else None
    if path is None:
        return False
    found = re.search("domain-[^/]+/" + (f"{re.escape(name)}$" if name is not None else ""), path)
    rest = path.removeprefix(f"{folder}/")
    return found is not None or (rest != path and "." in rest.partition("/")[0].lstrip("."))


def _is_in(path: str | None, folder: str | None) -> bool:
    return path is not None and folder is not None and path.startswith(f"{folder}/")
