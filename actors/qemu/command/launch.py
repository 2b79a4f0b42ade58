"""What a command line is made from: the guest's definition with aliases and addresses, the emulator, and the host.

Everything that has to be opened, made or asked on the host at a start goes through `HostResources`, so that the same
code writes the command of a real start and the one of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import msgspec

from actors.qemu.capabilities.model import Capabilities, Machine
from conf.domain.address import PciAddress, SourcePciAddress
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskDevice
from conf.domain.domain import Domain, VirtType
from conf.domain.hostdev import Hostdev, HostdevTeaming, HostdevType, PciHostSource
from conf.domain.interface import HostdevSource, Interface, InterfaceType
from conf.domain.os import BootDevice
from conf.domain.secrets import SecretRef
from conf.domain.storage_source import StorageSource, VolumeSource
from schema.errors import ConfigUnsupported

MASTER_KEY: Final = "master-key.aes"
"""The file in a guest's folder with the key that its secrets are encrypted with."""


@dataclass(frozen=True, slots=True)
class HugePageMount:
    """A mounted hugetlbfs."""

    page_kib: int
    folder: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's settings that a command line depends on."""

    user: str = ""
    memory_folder: str = ""
    huge_pages: tuple[HugePageMount, ...] = ()
    huge_page_folder: str = "virtroupe/qemu"
    vnc_password: bool = False
    """Displays without a password of their own have one too."""
    vnc_tls: bool = False
    vnc_tls_folder: str = "/etc/pki/qemu"
    vnc_tls_verify: bool = False
    vnc_tls_secret: str = ""
    vnc_sasl: bool = False
    vnc_sasl_folder: str = ""
    spice_tls: bool = False
    spice_tls_folder: str = "/etc/pki/qemu"
    spice_password: bool = False
    spice_sasl: bool = False
    spice_sasl_folder: str = ""
    chardev_tls: bool = False
    chardev_tls_folder: str = "/etc/pki/qemu"
    chardev_tls_verify: bool = True
    chardev_tls_secret: str = ""
    nbd_tls: bool = False
    nbd_tls_folder: str = "/etc/pki/qemu"
    nbd_tls_secret: str = ""
    host_audio_without_display: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    debug_gluster: int = 4
    fips: bool = False
    vxhs_tls: bool = False
    vxhs_tls_folder: str = "/etc/pki/qemu"
    vxhs_tls_secret: str = ""
    dump_core: bool = False
    dbus_folder: str = ""
    host_nodes: frozenset[int] | None = None
    """The NUMA nodes of the host; None where that is not asked."""
    sandbox: bool = True
    process_names: bool = False
    timestamps: bool = True
    deprecation: str = ""
    """What guests get that say nothing of it themselves: omit, reject or crash."""
    shmem_folder: str = "/var/lib/virtroupe"


class HostResources(Protocol):
    """What a start takes from the host; a number is a descriptor that the guest's process inherits."""

    def listen(self, path: str) -> int:
        """A listening unix socket."""

    def connect(self, purpose: str) -> int:
        """A socket connected to a helper program of the guest."""

    def open_file(self, path: str, *, append: bool) -> int:
        """A file that the guest writes."""

    def open_log(self, path: str, *, append: bool) -> int:
        """A file that takes a copy of what the guest writes."""

    def open_device(self, path: str, what: str) -> int:
        """A device node."""

    def taps(self, interface: Interface) -> Sequence[int]:
        """The queues of an interface that ends in a tap device, which exists from then on."""

    def vhosts(self, interface: Interface, queues: int) -> Sequence[int]:
        """The vhost descriptors of an interface; none when the host has no vhost."""

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        """The descriptor of a vsock device and the context id that it got."""

    def vhost_scsi(self) -> int:
        """The descriptor of a vhost SCSI target."""

    def secret(self, ref: SecretRef) -> tuple[str, str]:
        """A secret's value, encrypted with the guest's master key, and the initialisation vector."""

    def volume(self, source: VolumeSource) -> StorageSource:
        """Where a volume of a pool lies."""

    def seal(self, text: str) -> tuple[str, str]:
        """A text that is nobody else's business, encrypted with the guest's master key, and its vector."""

    def passt_socket(self, alias: str) -> str:
        """The socket of a program that gives the guest the host's network, which runs from then on."""

    def is_optical(self, path: str) -> bool:
        """Whether a device of the host is a drive for optical discs, which QEMU opens otherwise than a disk."""

    def render_node(self) -> str:
        """The host's first render node."""

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        """The path of a logical unit's generic device."""

    def fd_group(self, name: str) -> Sequence[int]:
        """Descriptors that a client has handed over under a name."""

    def tpm_socket(self, alias: str) -> str:
        """The control socket of the guest's TPM emulator, which runs from then on."""


@dataclass(slots=True)
class Launch:
    """One start of one guest."""

    domain: Domain
    caps: Capabilities
    options: Options
    folder: Path
    host: HostResources
    monitor_fd: int
    guest_id: int = -1
    incoming: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC).astimezone())
    descriptor_sets: dict[int, int] = field(default_factory=dict)
    """The sets of descriptors that stand for images which clients have opened, by identity of the source."""
    _fdset: int = 0
    _boot_index: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._boot_index = boot_indexes(self.domain)
        corrected = self.domain.qemu_capabilities
        if corrected is not None:
            flags = self.caps.flags | {one.capability for one in corrected.added}
            flags -= {one.capability for one in corrected.removed}
            self.caps = msgspec.structs.replace(self.caps, flags=flags)

    @property
    def arch(self) -> str:
        return self.domain.os.kind.arch or self.caps.arch

    @property
    def machine(self) -> str:
        return self.domain.os.kind.machine or ""

    @property
    def machine_facts(self) -> Machine | None:
        return self.caps.find_machine(self.machine)

    @property
    def is_kvm(self) -> bool:
        return self.domain.type is VirtType.KVM

    def boot_index(self, device: Device) -> int | None:
        """The device's turn at boot."""
        index = self._boot_index.get(id(device))
        # a card stands for the interface that it was made of
        return index if index is not None or device.boot is None else device.boot.order

    def next_fdset(self) -> int:
        """A number for a set of descriptors that QEMU opens by name."""
        number = self._fdset
        self._fdset += 1
        return number

    def find_controller(self, kind: ControllerType, index: int) -> Controller | None:
        """The controller that an address names."""
        for controller in self.domain.devices.controllers:
            if controller.type is kind and (controller.index or 0) == index:
                return controller
        return None

    def hostdevs(self) -> list[Hostdev]:
        """The devices of the host that the guest gets, cards that are interfaces of it first."""
        cards = [passed_card(one) for one in self.domain.devices.interfaces if one.type is InterfaceType.HOSTDEV]
        return [*cards, *self.domain.devices.hostdevs]

    def controller_alias(self, kind: ControllerType, index: int) -> str:
        """The alias of the controller that an address names.

        Raises ConfigUnsupported when there is none.
        """
        controller = self.find_controller(kind, index)
        if controller is None or controller.alias is None:
            raise ConfigUnsupported(f"could not find the {kind} controller with index {index}")
        return controller.alias


def is_i440fx(machine: str) -> bool:
    """An old PC."""
    return machine == "pc" or machine.startswith(("pc-i440fx-", "pc-0.", "pc-1.", "rhel-6", "rhel6"))


def is_q35(machine: str) -> bool:
    """A PC with PCI Express."""
    return machine == "q35" or machine.startswith("pc-q35-")


def is_arm_virt(arch: str, machine: str) -> bool:
    """The paravirtual machine of ARM."""
    return arch in ("aarch64", "armv7l", "armv6l") and (machine == "virt" or machine.startswith("virt-"))


def is_virt(arch: str, machine: str) -> bool:
    """A paravirtual machine without a past, of ARM or RISC-V."""
    is_riscv = arch in ("riscv32", "riscv64") and (machine == "virt" or machine.startswith("virt-"))
    return is_riscv or is_arm_virt(arch, machine)


def is_pseries(arch: str, machine: str) -> bool:
    """A server with POWER processors."""
    return arch in ("ppc64", "ppc64le") and (machine == "pseries" or machine.startswith("pseries-"))


def is_x86(arch: str) -> bool:
    """An architecture with a BIOS."""
    return arch in ("x86_64", "i686")


def secret_of(uuid: str) -> SecretRef:
    """The secret that a setting of the host names."""
    return SecretRef(uuid=UUID(uuid))


def alias_of(device: Device) -> str:
    """The device's alias. Raises ConfigUnsupported when it has none yet."""
    if device.alias is None:
        raise ConfigUnsupported("a device has no alias")
    return device.alias


def passed_card(interface: Interface) -> Hostdev:
    """The network card of the host that an interface is, as a device."""
    source = interface.source
    address = source.address if isinstance(source, HostdevSource) else None
    if isinstance(address, PciAddress):
        place = SourcePciAddress(domain=address.domain, bus=address.bus, slot=address.slot, function=address.function)
        kind, given = HostdevType.PCI, PciHostSource(address=place)
    else:
        raise ConfigUnsupported("an interface of type 'hostdev' needs the address of a PCI device")
    device = Hostdev(type=kind, source=given, managed=interface.managed)
    device.alias, device.address, device.rom = interface.alias, interface.address, interface.rom
    device.boot, device.acpi_index = interface.boot, interface.acpi_index
    if interface.teaming is not None:
        device.teaming = HostdevTeaming(type=interface.teaming.type, persistent=interface.teaming.persistent)
    return device


def boot_indexes(domain: Domain) -> dict[int, int]:
    """The turns of the devices at boot, by identity: as each says, else by `<boot dev=...>` for the first of a kind."""
    found = {id(device): device.boot.order for device in domain.devices.all() if device.boot and device.boot.order}
    if found or not domain.os.boots:
        return found
    turns = {}
    for number, boot in enumerate(domain.os.boots, 1):
        turns[boot.dev] = number
    for disk in domain.devices.disks:
        number = turns.pop(_boot_kind(disk), 0)
        if number:
            found[id(disk)] = number
    number = turns.pop(BootDevice.NETWORK, 0)
    if number and domain.devices.interfaces:
        found[id(domain.devices.interfaces[0])] = number
    return found


def _boot_kind(disk: Disk) -> BootDevice:
    return {DiskDevice.CDROM: BootDevice.CDROM, DiskDevice.FLOPPY: BootDevice.FLOPPY}.get(disk.device, BootDevice.DISK)
