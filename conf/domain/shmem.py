"""Memory shared between guests: `<shmem>`."""

from conf.domain.device import Device
from conf.element import Element, attr, child, content, value
from conf.faults import lacking, malformed
from conf.values import ON_OFF, SOME, ULONG, words
from schema.errors import XmlError


class ShmemSize(Element, tag="size"):
    """The size of the shared memory; written in MiB."""

    unit: str | None = attr("unit", str, default=None)
    value: int = content(ULONG, default=0, bad=malformed("Invalid value '{}' for element or attribute './size[1]'"))


class ShmemMsi(Element, tag="msi"):
    """Interrupts of a doorbell device."""

    vectors: int | None = attr("vectors", SOME, default=None)
    ioeventfd: bool | None = attr("ioeventfd", ON_OFF, default=None)


class ShmemServer(Element, tag="server"):
    """The socket of the server."""

    path: str | None = attr("path", str, default=None)


class Shmem(Device, tag="shmem"):
    """Memory shared between guests."""

    name: str = attr("name", str, missing=lacking(XmlError, "shmem element must contain 'name' attribute"))
    role: str | None = attr("role", words("master", "peer"), default=None)
    model: str | None = value("model", "type", words("ivshmem", "ivshmem-plain", "ivshmem-doorbell"), default=None)
    size: ShmemSize | None = child(ShmemSize, default=None)
    server: ShmemServer | None = child(ShmemServer, default=None)
    msi: ShmemMsi | None = child(ShmemMsi, default=None)
