"""What a driver adds to the common rules of domain documents: hooks, all of which do nothing here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from conf.flags import ParseFlags

if TYPE_CHECKING:
    from conf.domain.device import Device
    from conf.domain.domain import Domain
    from conf.domain.graphics import Graphics
    from conf.domain.sound import Audio


class DomainRules:
    """The common rules alone. A driver derives a class and hands an instance to `parse_domain`.

    The hooks are called in this order: `basic`, `domain`, `device` for each device in `walk` order, `assign_addresses`,
    and, unless validation is skipped, `check` and `check_device` for each device. All of them may change the domain
    except the checks; refusals are raised as VirtError.
    """

    name = "generic"
    mac_prefix = "52:54:00"
    """The first bytes of addresses that are made up for interfaces."""
    default_arch: str | None = None
    """The architecture of guests that do not name one."""
    wide_scsi = False
    """Do SCSI controllers take 15 disks instead of 7 when a disk's name gives its address?"""
    security_model: str | None = None
    """The model of a label that names none, where the host has one ("none": it has no security driver)."""
    namespaces: frozenset[str] = frozenset()
    """The prefixes of extensions that the driver understands: `qemu`, `lxc`, ..."""
    passes_disk_fds = False
    """Can disks be opened by the client, which hands over descriptors?"""
    adds_video = True
    """Does a guest with a display and without a video card get one?"""
    has_boot_order = True
    """Is a disk the default thing to boot?"""
    name_may_have_slash = False
    """May a domain's name hold a slash?"""

    def random_bytes(self, count: int) -> bytes:
        """What made-up identities and addresses are made of."""
        return secrets.token_bytes(count)

    def basic(self, domain: Domain, flags: ParseFlags) -> None:
        """Fills in type, architecture, machine and emulator, before anything looks at devices."""

    def domain(self, domain: Domain, flags: ParseFlags) -> None:
        """Fills in the driver's defaults for the domain and adds the devices that its machine always has."""

    def device(self, device: Device | Graphics | Audio, domain: Domain, flags: ParseFlags) -> None:
        """Fills in the driver's defaults for one device; called before the common ones."""

    def assign_addresses(self, domain: Domain, flags: ParseFlags) -> None:
        """Gives every device its place; see `conf.domain.addresses`."""

    def check_device(self, device: Device | Graphics | Audio, domain: Domain) -> None:
        """Refuses a device that the driver cannot provide."""

    def check(self, domain: Domain) -> None:
        """Refuses a domain that the driver cannot run."""


GENERIC_RULES = DomainRules()
"""Nothing beyond the common rules, for drivers without a hypervisor."""
