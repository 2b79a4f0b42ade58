"""Security labels of a guest and of single files."""

from enum import StrEnum

from conf.element import Element, attr, text
from conf.flags import XmlFlags
from conf.values import YES_NO

_INACTIVE = XmlFlags.INACTIVE.value


class SeclabelType(StrEnum):
    """Who chooses the label."""

    NONE = "none"
    DYNAMIC = "dynamic"
    STATIC = "static"


class Seclabel(Element, tag="seclabel"):
    """The label of a guest for one security model."""

    type: SeclabelType | None = attr("type", SeclabelType, default=None)
    model: str | None = attr("model", str, default=None)
    relabel: bool | None = attr("relabel", YES_NO, default=None)
    label: str | None = text("label", str, default=None)
    imagelabel: str | None = text("imagelabel", str, default=None, live=True)
    baselabel: str | None = text("baselabel", str, default=None)


def shown_seclabels(labels: "list[Seclabel]", flags: int) -> "list[Seclabel]":
    """The labels as they are written: one that a driver chose for a running guest is no part of its definition."""
    return [
        one
        for one in labels
        if one.type is not None
        and not (flags & _INACTIVE and one.type is SeclabelType.DYNAMIC and one.label and not one.baselabel)
    ]


def visible_labels(labels: "list[SourceSeclabel]", flags: int) -> "list[SourceSeclabel]":
    """The labels that say something; that labelling failed is known of running guests only."""
    return [
        one
        for one in labels
        if one.label is not None or one.relabel is False or (one.labelskip and not flags & _INACTIVE)
    ]


class SourceSeclabel(Element, tag="seclabel"):
    """The label of one file or socket."""

    model: str | None = attr("model", str, default=None)
    relabel: bool | None = attr("relabel", YES_NO, default=None)
    labelskip: bool | None = attr("labelskip", YES_NO, default=None, live=True)
    label: str | None = text("label", str, default=None)
