"""What every device of a guest has beside its own elements."""

import re

from conf.domain.address import ADDRESSES, Address
from conf.element import Element, Empty, attr, child, one_of, value
from conf.faults import lacking, unsupported
from conf.values import ON_OFF, POSITIVE, UINT, YES_NO, Codec
from schema.errors import RefusedDocument

_USER_ALIAS = re.compile(r"ua-[A-Za-z0-9_-]*\Z").match


def is_user_alias(alias: str) -> bool:
    """Was the alias chosen by the user? Such aliases belong to the definition, others to the running guest."""
    return _USER_ALIAS(alias) is not None


UPPER: Codec[str] = Codec(str.upper, lambda value: value, escaped=True)
"""Text that is kept in capitals."""


class BootOrder(Element, tag="boot"):
    """The device's turn when the firmware looks for something to boot."""

    order: int = attr("order", POSITIVE)
    loadparm: str | None = attr("loadparm", UPPER, default=None)


class Rom(Element, tag="rom", empty=Empty.OMIT):
    """The option ROM of a PCI device."""

    enabled: bool | None = attr("enabled", YES_NO, default=None)
    bar: bool | None = attr("bar", ON_OFF, default=None)
    file: str | None = attr("file", str, default=None)


class VirtioDriver(Element, tag="driver", empty=Empty.OMIT):
    """The options that every virtio device has."""

    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)


class Device(Element, trailing=True):
    """A device; these parts stand after those of the kind of device.

    A class of devices says which of two parts it has: `boots`, those from which a guest can boot, and `has_rom`.
    """

    def __init_subclass__(
        cls,
        tag: str | None = None,
        empty: Empty | None = None,
        trailing: bool = False,
        *,
        boots: bool = False,
        has_rom: bool = False,
    ) -> None:
        super().__init_subclass__(tag=tag, empty=empty, trailing=trailing)
        has = {"boot": boots, "rom": has_rom}
        cls.declared = tuple(one for one in cls.declared if has.get(one.name, True))

    boot: BootOrder | None = child(BootOrder, default=None)
    alias: str | None = value("alias", "name", str, default=None, live=True, keep=is_user_alias)
    master_startport: int | None = value("master", "startport", UINT, default=None)
    rom: Rom | None = child(Rom, default=None)
    acpi_index: int | None = value("acpi", "index", POSITIVE, default=None)
    address: Address | None = one_of(
        *ADDRESSES,
        by="type",
        default=None,
        bad=unsupported("unknown address type '{}'"),
        missing=lacking(RefusedDocument, "No type specified for device address"),
    )


class DriverLast(Device, trailing=True):
    """A virtio device whose driver stands after its address."""

    driver: VirtioDriver | None = child(VirtioDriver, default=None)
