"""A filter that is named, with values for its variables: `<filterref>`."""

from __future__ import annotations

import re

from conf.element import Element, attr, children

_NAME = re.compile(r"[a-zA-Z0-9_]+\Z").match
_VALUE = re.compile(r"[a-zA-Z0-9_.:]*\Z").match


class FilterParameter(Element, tag="parameter"):
    """A value for a filter's variable; a variable with several has several of these."""

    name: str = attr("name", str, default="")
    value: str = attr("value", str, default="")


class FilterRef(Element, tag="filterref"):
    """A filter and its variables."""

    filter: str = attr("filter", str)
    parameters: list[FilterParameter] = children(FilterParameter, default=[])


def tidy_parameters(reference: FilterRef) -> None:
    """Drops parameters that name no variable or have no value that can be one, and sorts the others by name."""
    known = [one for one in reference.parameters if _NAME(one.name) and one.value and _VALUE(one.value)]
    reference.parameters = sorted(known, key=lambda one: one.name)
