"""A network filter: `<filter>`, and its use for one interface: `<filterbinding>`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

from conf.element import Element, any_of, attr, child, text, value
from conf.faults import lacking, malformed, unsupported
from conf.nwfilter.matches import MATCHES, Match
from conf.nwfilter.reference import FilterRef
from conf.values import MAC, UUID_TEXT, Codec, parse_int
from schema.errors import InternalError, InvalidArguments, XmlError

NO_UUID: Final = UUID(int=0)
"""Stands for "not chosen yet"; `parse_nwfilter` never leaves it."""
DEFAULT_PRIORITY: Final = 500
_LIMIT: Final = 1000


class Action(StrEnum):
    """What happens to a packet."""

    DROP = "drop"
    ACCEPT = "accept"
    REJECT = "reject"
    RETURN = "return"
    CONTINUE = "continue"


class Direction(StrEnum):
    """Which way a packet goes, seen from the guest."""

    IN = "in"
    OUT = "out"
    INOUT = "inout"


def _parse_priority(text: str) -> int:
    """The default stands for what is no priority."""
    try:
        number = parse_int(text)
    except ValueError:
        return DEFAULT_PRIORITY
    return number if -_LIMIT <= number <= _LIMIT else DEFAULT_PRIORITY


_PRIORITY = Codec(_parse_priority, str)
_STATELESS = Codec(lambda text: text == "0" or text.lower() == "false", lambda value: "false" if value else "true")


class Rule(Element, tag="rule"):
    """What happens to packets that match; `stateless`: without regard to their connection."""

    action: Action = attr(
        "action",
        Action,
        missing=lacking(InternalError, "rule node requires action attribute"),
        bad=unsupported("unknown rule action attribute value"),
    )
    direction: Direction = attr(
        "direction",
        Direction,
        missing=lacking(InternalError, "rule node requires direction attribute"),
        bad=unsupported("unknown rule direction attribute value"),
    )
    priority: int = attr("priority", _PRIORITY, default=DEFAULT_PRIORITY)
    stateless: bool = attr("statematch", _STATELESS, default=False, when="self.stateless")
    matches: list[Match] = any_of(*MATCHES, default=[])


class NWFilter(Element, tag="filter"):
    """A filter: rules and other filters; `chain` and `priority` say when it is asked."""

    name: str = attr("name", str, missing=lacking(InternalError, "filter has no name"), blank=True)
    chain: str = attr("chain", str, default="root", blank=True)
    priority: int | None = attr(
        "priority",
        int,
        default=None,
        blank=True,
        bad=lambda text: InvalidArguments(f"Could not parse chain priority '{text}'"),
        shown=lambda self, flags: self.priority or None,
    )
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID, bad=malformed("malformed uuid element"))
    entries: list[Rule | FilterRef] = any_of(Rule, FilterRef, default=[])


class BindingOwner(Element, tag="owner"):
    """The guest."""

    name: str = text("name", str, missing=lacking(InternalError, "filter binding has no owner name"))
    uuid: UUID = text("uuid", UUID_TEXT, missing=lacking(InternalError, "filter binding has no owner UUID"))


class FilterBinding(Element, tag="filterbinding"):
    """A filter in force on a guest's interface."""

    owner: BindingOwner = child(BindingOwner, missing=lacking(XmlError, "filter binding has no owner name"))
    port_device: str = value("portdev", "name", str)
    link_device: str | None = value("linkdev", "name", str, default=None)
    mac: str = value("mac", "address", MAC)
    filterref: FilterRef = child(FilterRef)
