"""A device of the host: `<device>`."""

from __future__ import annotations

from uuid import UUID

from conf.element import Element, Empty, attr, child, children, content, one_of, text
from conf.node_device.capabilities import CAPABILITIES, Capability
from conf.values import UINT, UUID_TEXT, words


class Hardware(Element, tag="hardware", empty=Empty.OMIT):
    """The machine."""

    vendor: str | None = text("vendor", str, default=None)
    version: str | None = text("version", str, default=None)
    serial: str | None = text("serial", str, default=None)
    uuid: UUID | None = text("uuid", UUID_TEXT, default=None)


class Firmware(Element, tag="firmware", empty=Empty.OMIT):
    """Its firmware."""

    vendor: str | None = text("vendor", str, default=None)
    version: str | None = text("version", str, default=None)
    release_date: str | None = text("release_date", str, default=None)


class SystemCapability(Capability, type="system"):
    """The host itself."""

    product: str | None = text("product", str, default=None)
    hardware: Hardware | None = child(Hardware, default=None)
    firmware: Firmware | None = child(Firmware, default=None)


class ScsiHostFeature(Element, tag="capability"):
    """What a SCSI host is besides: a port of a fibre channel fabric (`fc_host`), or one that can make others."""

    type: str = attr("type", str)
    wwnn: str | None = text("wwnn", str, default=None)
    wwpn: str | None = text("wwpn", str, default=None)
    fabric_wwn: str | None = text("fabric_wwn", str, default=None)
    max_vports: int | None = text("max_vports", UINT, default=None)
    vports: int | None = text("vports", UINT, default=None)


class ScsiHostCapability(Capability, type="scsi_host"):
    """A SCSI host adapter."""

    host: int | None = text("host", UINT, default=None)
    unique_id: int | None = text("unique_id", UINT, default=None)
    features: list[ScsiHostFeature] = children(ScsiHostFeature, default=[])

    def fabric(self) -> ScsiHostFeature | None:
        """Its place in a fibre channel fabric."""
        return next((feature for feature in self.features if feature.type == "fc_host"), None)


class DevNode(Element, tag="devnode"):
    """A file below /dev, or a link to it."""

    type: str = attr("type", words("dev", "link"))
    path: str = content(str)


class Driver(Element, tag="driver"):
    """The host's driver of the device."""

    name: str | None = text("name", str, default=None)


class NodeDevice(Element, tag="device", root=True):
    """A device of the host."""

    name: str | None = text("name", str, default=None)
    path: str | None = text("path", str, default=None)
    devnodes: list[DevNode] = children(DevNode, default=[])
    parent: str | None = text("parent", str, default=None)
    driver: Driver | None = child(Driver, default=None)
    capability: Capability = one_of(SystemCapability, ScsiHostCapability, *CAPABILITIES, by="type")
