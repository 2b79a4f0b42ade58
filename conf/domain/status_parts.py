"""What the status of a running guest keeps inside its devices, beyond what anybody else sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conf.element import Element, Empty, attr, child, children, flag, text, value
from conf.flags import XmlFlags
from conf.values import YES_NO

_STATUS = XmlFlags.STATUS.value


def in_status(name: str) -> Callable[[Any, int], Any]:
    """Shows a part in status documents alone."""
    return lambda self, flags: getattr(self, name) if flags & _STATUS else None


class NodeName(Element, tag="nodename"):
    """What QEMU calls one layer of an image."""

    type: str = attr("type", str)
    name: str = attr("name", str)


class SecretObject(Element, tag="secret"):
    """An object of QEMU's that holds a secret."""

    type: str = attr("type", str)
    alias: str = attr("alias", str)


class QemuObjects(Element, tag="objects", empty=Empty.OMIT):
    """The objects of QEMU's that belong to an image."""

    secrets: list[SecretObject] = children(SecretObject, default=[])
    tls_alias: str | None = value("TLSx509", "alias", str, default=None)


class ImagePrivate(Element, tag="privateData", empty=Empty.OMIT):
    """How QEMU knows an image."""

    node_names: list[NodeName] = children(NodeName, within="nodenames", default=[])
    manager_alias: str | None = value("reservations", "mgralias", str, default=None)
    relative_path: str | None = text("relPath", str, default=None)
    objects: QemuObjects | None = child(QemuObjects, default=None)
    threshold_by_index: bool | None = value("thresholdEvent", "indexUsed", YES_NO, default=None)


class DiskPrivate(Element, tag="privateData", empty=Empty.OMIT):
    """How QEMU knows a disk."""

    qom: str | None = value("qom", "name", str, default=None)
    node_names: list[NodeName] = children(NodeName, within="nodenames", default=[])


class SecretsPlacement(Element, tag="diskSecretsPlacement"):
    """Do `<auth>` and `<encryption>` stand in the disk, as they did in old texts?"""

    auth: str | None = attr("auth", str, default=None)
    encryption: str | None = attr("encryption", str, default=None)


class OriginalStates(Element, tag="origstates", empty=Empty.OMIT):
    """What must be done when a PCI device is given back to the host."""

    unbind: bool = flag("unbind", default=False)
    removeslot: bool = flag("removeslot", default=False)
    reprobe: bool = flag("reprobe", default=False)


class TpmPrivate(Element, tag="privateData", empty=Empty.OMIT):
    """What is known of the TPM's emulator."""

    can_migrate_shared_storage: bool | None = value("swtpm", "can_migrate_shared_storage", YES_NO, default=None)
