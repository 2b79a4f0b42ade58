"""A command line in the making: words, environment, and how QEMU wants values escaped."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from util.cpuset import write_cpuset

Properties = dict[str, Any]

JSON_OPTIONS: Final = ("-device", "-netdev", "-object")
"""Options that only newer emulators take as JSON; older ones take the same as `kind,key=value,...`."""
_KINDS: Final = {"-device": "driver", "-netdev": "type", "-object": "qom-type"}


class CommandLine:
    """The words of one command; `json_options` are those of JSON_OPTIONS that the emulator takes as JSON."""

    def __init__(self, program: str, json_options: Collection[str] = JSON_OPTIONS) -> None:
        self.words: list[str] = [program]
        self.environment: dict[str, str] = {}
        self._plain = frozenset(JSON_OPTIONS) - frozenset(json_options)
        self.overrides: dict[str, Properties] = {}
        """Properties of devices by alias that the user sets otherwise; None takes one away."""

    def add(self, *words: str) -> None:
        """Appends words as they are."""
        self.words.extend(words)

    def add_json(self, option: str, value: Mapping[str, Any]) -> None:
        """Appends an option whose value is an object; parts that are None are left out."""
        if option == "-device" and value.get("id") in self.overrides:
            value = {**value, **self.overrides[value["id"]]}
        text = plain_text(option, value) if option in self._plain else json_text(value)
        self.words.extend((option, text))


def json_text(value: Mapping[str, Any]) -> str:
    """An object as one compact word."""
    return json.dumps(without_none(value), separators=(",", ":"), ensure_ascii=False)


def plain_text(option: str, value: Mapping[str, Any]) -> str:
    """An object as the word of an option whose emulator does not take JSON there: its kind, then the parts in order."""
    kind = _KINDS[option]
    parts = {key: part for key, part in value.items() if part is not None and key != kind}
    return ",".join((str(value[kind]), *_plain_parts(parts)))


def _plain_parts(parts: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, part in parts.items():
        key = above + name
        match part:
            case bool():
                yield f"{key}={on_off(part)}"
            case int() | float():
                yield f"{key}={part}"
            case str():
                yield f"{key}={comma_doubled(part)}"
            case dict():
                yield from _plain_parts(part, f"{key}.")
            case list() if all(isinstance(one, int) for one in part):
                yield from (f"{key}={span}" for span in write_cpuset(frozenset(part)).split(","))
            case list():
                # a list of things that are written as one text each
                yield from (f"{key}={comma_doubled(str(one['str']))}" for one in part)


def without_none(value: Mapping[str, Any]) -> Properties:
    """The parts that say something; an explicit null is written as `NULL`."""
    return {key: (None if part is NULL else part) for key, part in value.items() if part is not None}


class _Null:
    """Marks a JSON null."""


NULL = _Null()


def comma_doubled(text: str) -> str:
    """A value inside a comma-separated option."""
    return text.replace(",", ",,")


def on_off(value: bool) -> str:
    """QEMU's words for a switch."""
    return "on" if value else "off"
