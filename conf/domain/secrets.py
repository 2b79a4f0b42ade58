"""References to secrets: `<auth>` and `<encryption>`."""

from uuid import UUID

from conf.element import Element, Empty, attr, child, children
from conf.faults import lacking, malformed
from conf.values import UINT, UUID_TEXT
from schema.errors import XmlError


class SecretRef(Element, tag="secret"):
    """Names a secret by its use or its UUID."""

    type: str | None = attr("type", str, default=None)
    usage: str | None = attr("usage", str, default=None)
    uuid: UUID | None = attr("uuid", UUID_TEXT, default=None, bad=malformed("invalid secret uuid '{}'"))


class Auth(Element, tag="auth"):
    """Who to log in as at a storage server."""

    type: str | None = attr("type", str, default=None)
    username: str | None = attr("username", str, default=None)
    secret: SecretRef | None = child(SecretRef, default=None)


class Cipher(Element, tag="cipher"):
    """The cipher of an encrypted volume."""

    name: str = attr("name", str)
    size: int | None = attr("size", UINT, default=None)
    mode: str | None = attr("mode", str, default=None)
    hash: str | None = attr("hash", str, default=None)


class Ivgen(Element, tag="ivgen"):
    """How an encrypted volume makes its initialization vectors."""

    name: str = attr("name", str)
    hash: str | None = attr("hash", str, default=None)


class Encryption(Element, tag="encryption", empty=Empty.OPEN):
    """How a volume is encrypted."""

    format: str = attr("format", str, missing=lacking(XmlError, "unknown volume encryption format"))
    engine: str | None = attr("engine", str, default=None)
    secrets: list[SecretRef] = children(SecretRef, default=[])
    cipher: Cipher | None = child(Cipher, default=None)
    ivgen: Ivgen | None = child(Ivgen, default=None)
