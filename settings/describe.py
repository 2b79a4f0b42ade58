"""The configuration as a document: every key with its value in force and what it means, as TOML that can be used."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from typing import Any, Final

from settings.config import ActorSettings, Config

_FIELD: Final = re.compile(r"^    (\w+): ")


def meanings(cls: type) -> dict[str, str]:
    """What each field of a settings class means: the comment behind it."""
    found: dict[str, str] = {}
    name = ""
    source = inspect.getsource(cls)
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if field := _FIELD.match(token.line):
            name = field[1]
        if token.type == tokenize.COMMENT and name:
            found[name] = token.string.lstrip("# ")
    return found


def describe_config(config: Config) -> str:
    """The whole configuration in force."""
    parts = []
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if section.name == "actors":
            tables = value or {"NAME": ActorSettings()}
            parts += [_table(f"actors.{name}", actor, is_example=name not in value) for name, actor in tables.items()]
        else:
            parts.append(_table(section.name, value, is_example=False))
    return "\n".join(parts)


def _table(name: str, settings: Any, *, is_example: bool) -> str:
    mark = "# " if is_example else ""
    doc = (inspect.getdoc(type(settings)) or "").splitlines()[0]
    lines = [f"# {doc}", f"{mark}[{name}]", *(mark + line for line in _lines(settings))]
    return "\n".join(lines) + "\n"


def _lines(settings: Any) -> Iterator[str]:
    said = meanings(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        text = f"# {field.name} is not set" if value is None else f"{field.name} = {toml_value(value)}"
        meaning = said.get(field.name)
        yield f"{text}  # {meaning}" if meaning else text


def toml_value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)
