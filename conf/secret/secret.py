"""A secret: `<secret>`. Its value is never part of the document."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from conf.element import Element, attr, child, text
from conf.faults import internal, lacking, malformed
from conf.values import UUID_TEXT, YES_NO
from schema.errors import XmlError

NO_UUID = UUID(int=0)
"""Stands for "not chosen yet"; `parse_secret` never leaves it."""


class UsageType(StrEnum):
    """What a secret is for."""

    NONE = "none"
    VOLUME = "volume"
    CEPH = "ceph"
    ISCSI = "iscsi"
    TLS = "tls"
    VTPM = "vtpm"


class Usage(Element, tag="usage"):
    """What the secret is for, and for which of them; which part counts depends on `type`."""

    type: UsageType = attr(
        "type",
        UsageType,
        missing=lacking(XmlError, "unknown secret usage type"),
        bad=malformed("unknown secret usage type {}"),
    )
    volume: str | None = text("volume", str, default=None)
    name: str | None = text("name", str, default=None)
    target: str | None = text("target", str, default=None)

    @property
    def id(self) -> str | None:
        """By what the secret is found."""
        if self.type is UsageType.VOLUME:
            return self.volume
        return self.target if self.type is UsageType.ISCSI else self.name


class Secret(Element, tag="secret"):
    """A secret: `private` ones are told to nobody, `ephemeral` ones are not kept."""

    ephemeral: bool = attr(
        "ephemeral", YES_NO, default=False, blank=True, bad=malformed("invalid value of 'ephemeral'")
    )
    private: bool = attr("private", YES_NO, default=False, blank=True, bad=malformed("invalid value of 'private'"))
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID, bad=internal("malformed uuid element"))
    description: str | None = text("description", str, default=None)
    usage: Usage | None = child(Usage, default=None)
