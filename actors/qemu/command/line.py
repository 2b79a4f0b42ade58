"""A command line in the making: words, environment, and how QEMU wants values escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Properties = dict[str, Any]


class CommandLine:
    """The words of one command."""

    def __init__(self, program: str) -> None:
        self.words: list[str] = [program]
        self.environment: dict[str, str] = {}

    def add(self, *words: str) -> None:
        """Appends words as they are."""
        self.words.extend(words)

    def add_json(self, option: str, value: Mapping[str, Any]) -> None:
        """Appends an option whose value is an object; parts that are None are left out."""
        self.words.extend((option, json_text(value)))


def json_text(value: Mapping[str, Any]) -> str:
    """An object as one compact word."""
    return json.dumps(without_none(value), separators=(",", ":"), ensure_ascii=False)


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
