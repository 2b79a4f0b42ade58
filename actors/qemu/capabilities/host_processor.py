"""What the host's processor says of itself: the registers that the kernel shows to root, and what KVM tells."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conf.cpu.cpu import GuestCpu, MaxPhysAddr
from conf.cpu.host import CpuCounter, CpuSignature, HostFeature
from conf.cpu.host import HostCpu as CpuOfCapabilities
from conf.cpu.x86 import X86Data, decode, signature_of
from conf.cpu.x86_map import X86Map
from schema.errors import VirtError

_FOLDER: Final = Path("/dev/cpu/0")
_EXTENDED: Final = 0x80000000
_CREATE_VM: Final = 0xAE01
_CHECK_EXTENSION: Final = 0xAE03
_CREATE_VCPU: Final = 0xAE41
_GET_TSC_KHZ: Final = 0xAEA3
_CAP_TSC_CONTROL: Final = 60
_CAP_GET_TSC_KHZ: Final = 61


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """The processor by its model and features, and what of it only capabilities tell."""

    cpu: GuestCpu
    signature: tuple[int, int, int] | None = None
    microcode: int | None = None
    counter: CpuCounter | None = None
    address_bits: int | None = None

    def describe(self, into: CpuOfCapabilities) -> None:
        """Completes the host's part of capabilities."""
        into.model, into.vendor, into.microcode = self.cpu.model, self.cpu.vendor, self.microcode
        if self.signature is not None:
            family, model, stepping = self.signature
            into.signature = CpuSignature(family=family, model=model, stepping=stepping)
        into.counter = self.counter
        if self.address_bits is not None:
            into.maxphysaddr = MaxPhysAddr(mode="emulate", bits=self.address_bits)
        into.features = [HostFeature(name=one.name) for one in self.cpu.features]


def read_host_processor(table: X86Map, folder: Path = _FOLDER) -> HostProcessor | None:
    """The host's processor by a table's names; None where the kernel does not show its registers."""
    try:
        with (folder / "cpuid").open("rb", buffering=0) as file:
            data = _read_registers(file.fileno(), table, folder)
        cpu = decode(data, table, for_host=True)
    except (OSError, VirtError):
        return None
    told = _read_text(Path("/proc/cpuinfo"))
    microcode = re.search(r"^microcode\s*:\s*(0x[0-9a-f]+|\d+)", told, re.MULTILINE)
    address = re.search(r"^address sizes\s*:\s*(\d+) bits physical", told, re.MULTILINE)
    steady = table.find_feature("invtsc")
    return HostProcessor(
        cpu=cpu,
        signature=data.signature,
        microcode=int(microcode.group(1), 0) if microcode is not None else None,
        counter=_counter() if steady is not None and steady.bits & ~data.bits == 0 else None,
        address_bits=int(address.group(1)) if address is not None else None,
    )


def _read_registers(cpuid: int, table: X86Map, folder: Path) -> X86Data:
    def ask(leaf: int, part: int = 0) -> tuple[int, int, int, int]:
        answer = struct.unpack("<4I", os.pread(cpuid, 16, part << 32 | leaf))
        return answer[0], answer[1], answer[2], answer[3]

    last, *name = ask(0)
    last_extended = ask(_EXTENDED)[0]
    parts = ask(7)[0] if last >= 7 else 0
    bits = 0
    for kind, number, part in table.registers():
        if kind == "msr":
            bits |= table.bits_in(kind, number, part, _read_msr(folder, number))
        elif number <= (last_extended if number >= _EXTENDED else last) and not (number == 7 and part > parts):
            bits |= table.bits_in(kind, number, part, ask(number, part))
    text = struct.pack("<3I", name[0], name[2], name[1]).decode(errors="replace")
    return X86Data(bits, table.vendor_of_text(text), signature_of(ask(1)[0]))


def _read_msr(folder: Path, number: int) -> tuple[int, int, int, int]:
    try:
        with (folder / "msr").open("rb", buffering=0) as file:
            low, high = struct.unpack("<2I", os.pread(file.fileno(), 8, number))
    except (OSError, struct.error):
        return 0, 0, 0, 0
    return low, 0, 0, high


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _counter() -> CpuCounter | None:
    """How fast the processor's clock ticks, which only KVM knows."""
    opened: list[int] = []
    try:
        opened.append(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        opened.append(fcntl.ioctl(opened[0], _CREATE_VM, 0))
        if not fcntl.ioctl(opened[1], _CHECK_EXTENSION, _CAP_GET_TSC_KHZ):
            return None
        scaling = fcntl.ioctl(opened[1], _CHECK_EXTENSION, _CAP_TSC_CONTROL) > 0
        opened.append(fcntl.ioctl(opened[1], _CREATE_VCPU, 0))
        frequency = fcntl.ioctl(opened[2], _GET_TSC_KHZ, 0) * 1000
    except OSError:
        return None
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)
    return CpuCounter(name="tsc", frequency=frequency, scaling=scaling)
