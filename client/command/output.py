"""How answers are written: tables as virsh lays them out, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any, Final
from uuid import UUID

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def printable(value: object) -> str:
    """A value as text on one line that does nothing to a terminal: names and messages come from elsewhere."""
    return str(value).translate(_CONTROLS)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, a rule below the headings."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    lines = [_line(headings, widths)]
    lines.append("-" * (sum(widths) + 3 * len(widths)))
    lines += [_line(row, widths) for row in cells]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " + "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))).rstrip()


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """One fact a line, the values in one column."""
    shown = [(f"{name}:", printable(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return "".join(f"{name.ljust(width + 1)}{value}".rstrip() + "\n" for name, value in shown)


def to_json(value: object, *, indent: int | None = 2) -> str:
    """JSON of an answer: enums by their names in lower case, bytes in hex, uuids as text."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False)


def plain(value: object) -> Any:
    """What JSON can hold."""
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "_asdict") or hasattr(value, "__struct_fields__"):
        return [plain(item) for item in _fields(value)]
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def _fields(value: Any) -> Iterable[object]:
    if hasattr(value, "__struct_fields__"):
        return [getattr(value, name) for name in value.__struct_fields__]
    return list(value)


def _key(key: object) -> str:
    told = plain(key)
    return told if isinstance(told, str) else str(told)


class CannotWrite(Exception):
    """The standard output does not take the answer; the text says why. A reader that went away is no such fault."""


def write(text: str) -> None:
    """Writes to standard output at once, so that a pipe sees each line.

    Raises CannotWrite, and BrokenPipeError when the reader went away.
    """
    if sys.stdout is None:
        return  # it was closed by whoever started us
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise CannotWrite(f"cannot write the answer: {exc.strerror}") from exc


def size(kib: int | None) -> str:
    """An amount of memory for people: the largest unit that keeps it above one."""
    if kib is None:
        return "-"
    amount, unit = float(kib), "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if amount >= 100 or amount == int(amount) else f"{amount:.1f} {unit}"
