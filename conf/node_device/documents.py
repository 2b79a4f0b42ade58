"""Devices of the host between text and object."""

from __future__ import annotations

from conf.document import parse_document
from conf.node_device.device import NodeDevice
from conf.origin import told_by
from schema.errors import ErrorDomain


@told_by(ErrorDomain.NODEDEV)
def parse_node_device(xml: str | bytes, *, validate: bool = False) -> NodeDevice:
    """The device that a document describes. Raises XmlDetailError and XmlError."""
    return NodeDevice.parse(parse_document(xml, name="node_device_definition", root="device", validate=validate))


def write_node_device(device: NodeDevice) -> str:
    """The document of a device, as libvirt writes it."""
    return device.to_xml()
