"""How a document is to be read or written."""

from enum import IntFlag


class XmlFlags(IntFlag):
    """What a written document is for; the values of the first four are libvirt's `VIR_DOMAIN_XML_*`."""

    NONE = 0
    SECURE = 1
    INACTIVE = 2
    UPDATE_CPU = 4
    MIGRATABLE = 8
    STATUS = 1 << 16


class ParseFlags(IntFlag):
    """Where a document comes from: `INACTIVE` definitions carry nothing of a running guest."""

    NONE = 0
    INACTIVE = 1
    SKIP_VALIDATE = 2
    STATUS = 4
    ABI_UPDATE = 8
    VALIDATE = 16
