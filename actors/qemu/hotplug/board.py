"""A running guest as the modules of this room see it: the definition it will have, its emulator, its monitor, its host.

They change `domain`, which is a copy, and talk to the monitor; whoever made the board writes the copy down afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actors.qemu.command.launch import HostResources, Launch, Options
from actors.qemu.hotplug.departures import Removal
from actors.qemu.hotplug.lists import narrowed
from actors.qemu.hotplug.steps import Talk
from actors.qemu.monitor.link import Command
from actors.qemu.rules import QemuRules
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.element import Element
from schema.errors import OperationUnsupported


class Departure(Protocol):
    """A device that is expected to go."""

    async def wait(self) -> Removal:
        """What came of it, after a while at most."""

    def close(self) -> None:
        """Nobody waits any more."""


async def no_overlay(disk: Disk) -> None:
    """Where none can be made. Raises OperationUnsupported."""
    raise OperationUnsupported("transient disk hotplug isn't supported")


async def nothing_needed(device: Element) -> None:
    """Where nobody could be asked."""


async def nothing_to_start(device: Element) -> None:
    """Where nothing runs beside QEMU."""


async def nothing_to_end() -> None:
    """Where nothing runs beside QEMU."""


@dataclass(slots=True)
class Board:
    """One change of one running guest."""

    domain: Domain
    rules: QemuRules
    options: Options
    folder: Path
    channels: Path
    talk: Talk
    resources: HostResources
    number: Callable[[], int]
    """The next number for an image."""
    note: Callable[[Element, list[Command]], Awaitable[None]]
    """Writes down what is about to be plugged in, and what takes its parts back."""
    expect: Callable[[str], Departure]
    """Listens for the end of the device of an alias."""
    read_chain: Callable[[Disk], Awaitable[None]]
    """Completes what a disk's image stands on."""
    guest_id: int = -1
    start_helper: Callable[[Element], Awaitable[None]] = nothing_to_start
    """Starts what has to run beside QEMU for a device."""
    end_helpers: Callable[[], Awaitable[None]] = nothing_to_end
    """Ends what no device of the definition needs any more."""
    has_vfio: Callable[[], bool] = lambda: True
    """Can the host give its own PCI devices away?"""
    make_overlay: Callable[[Disk], Awaitable[None]] = no_overlay
    """Makes the overlay of a transient disk."""
    meet: Callable[[Element], Awaitable[None]] = nothing_needed
    """Asks the other drivers for the secrets, volumes and networks that a device names."""

    def launch(self, device: Element) -> Launch:
        """What the writers of command lines need for this device alone."""
        return Launch(
            narrowed(self.domain, device),
            self.rules.capabilities,
            self.options,
            self.folder,
            self.resources,
            -1,
            guest_id=self.guest_id,
        )
