"""What a host says of one kind of thing: can a guest have it, and with which values?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from conf.element import Element, attr, children, texts
from conf.values import YES_NO


class Choice(Element, tag="enum"):
    """The values that an attribute of guests may have."""

    name: str = attr("name", str)
    values: list[str] = texts("value", str, default=[])


class Support(Element):
    """Is something there for guests? `choices` says how it can be configured, and is empty where it is not there."""

    supported: bool = attr("supported", YES_NO)
    choices: list[Choice] = children(Choice, default=[])

    @classmethod
    def of(cls, **choices: Iterable[str]) -> Self:
        """Support with these choices, in this order."""
        return cls(supported=True, choices=[Choice(name=name, values=list(found)) for name, found in choices.items()])

    def values(self, name: str) -> list[str]:
        """What may be chosen for `name`; nothing where there is no such choice."""
        return next((one.values for one in self.choices if one.name == name), [])
