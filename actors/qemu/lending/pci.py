"""The host's PCI devices: which driver has one, and how it goes to `vfio-pci` and back.

A device is reserved for a driver by its `driver_override`, so no other device of the same make is touched; what stood
there before stands there again afterwards, and the kernel then looks for a driver by itself.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError, InternalError

STUB: Final = "vfio-pci"
NO_OVERRIDE: Final = "(null)"
_MODPROBE_S: Final = 30


@dataclass(frozen=True, slots=True)
class PciBefore:
    """How a device was before it was lent."""

    driver: str | None
    override: str


class PciBus:
    """The PCI devices below a `/sys`."""

    def __init__(self, system: Path = Path("/sys")) -> None:
        self._bus = system / "bus/pci"
        self._groups = system / "kernel/iommu_groups"

    def has_groups(self) -> bool:
        """The host can keep devices apart from each other's memory."""
        return self._groups.is_dir() and any(self._groups.iterdir())

    def load(self) -> None:
        """Has the kernel load what hands devices to guests, where it has not. Never fails."""
        if not (self._bus / "drivers" / STUB).exists():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    ["modprobe", "-b", STUB],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_MODPROBE_S,
                    check=False,
                )

    def check_exists(self, address: str) -> None:
        """Raises HostSystemError for a device that the host does not have."""
        path = self._device(address) / "config"
        if not path.exists():
            raise HostSystemError(errno.ENOENT, f"Device {address} not found: could not access {path}")

    def driver_of(self, address: str) -> str | None:
        """The driver that has a device."""
        try:
            return (self._device(address) / "driver").readlink().name
        except OSError:
            return None

    def group_of(self, address: str) -> str | None:
        """The number of a device's group; None where the host does not keep devices apart."""
        try:
            return (self._device(address) / "iommu_group").readlink().name
        except OSError:
            return None

    def before(self, address: str) -> PciBefore:
        """How a device is."""
        try:
            override = (self._device(address) / "driver_override").read_text(encoding="ascii").strip()
        except OSError:
            override = NO_OVERRIDE
        return PciBefore(self.driver_of(address), override)

    def take(self, address: str) -> None:
        """The device leaves its driver and is `vfio-pci`'s. Raises InternalError, HostSystemError."""
        self._need_stub()
        self._write(self._device(address) / "driver_override", STUB)
        if self.driver_of(address) != STUB:
            self._unbind(address)
            self._write(self._bus / "drivers_probe", address)
        if self.driver_of(address) != STUB:
            raise InternalError(f"failed to bind PCI device '{address}' to {STUB}")

    def give_back(self, address: str, before: PciBefore) -> None:
        """The device is as it was before; one that has left the host is let be. Raises HostSystemError."""
        if not self._device(address).exists():
            return
        # an empty line takes the reservation away
        override = before.override if before.override not in ("", NO_OVERRIDE) else "\n"
        self._write(self._device(address) / "driver_override", override)
        if self.driver_of(address) == STUB and before.driver != STUB:
            self._unbind(address)
        if self.driver_of(address) is None:
            self._write(self._bus / "drivers_probe", address)
        if before.driver is not None and self.driver_of(address) is None:
            # somebody had chosen a driver by hand
            with contextlib.suppress(HostSystemError):
                self._write(self._bus / "drivers" / before.driver / "bind", address)

    def _unbind(self, address: str) -> None:
        path = self._device(address) / "driver/unbind"
        if path.exists():
            self._write(path, address)

    def _need_stub(self) -> None:
        self.load()
        if not (self._bus / "drivers" / STUB).exists():
            raise InternalError(f"Failed to load PCI driver module {STUB}")

    def _device(self, address: str) -> Path:
        return self._bus / "devices" / address

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="ascii")
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot write '{path}'") from exc
