"""Log lines of a process: one line per event, readable or JSON, with the trace id of the call that caused it.

A full pipe must not stop the process that writes: a line that the reader has no room for is dropped and counted, and
the next line that fits tells how many there were.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any, Final

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LINE_MAX: Final = 4096  # PIPE_BUF: a pipe that reports room takes this much at once, unbroken


class StructuredLog:
    """Writes events of one role to a descriptor.

    Fields that every line has: `ts`, `level`, `role`, `event`, and `trace` when there is one.
    """

    __slots__ = ("_bound", "_fd", "_json", "_poll", "_threshold", "dropped", "role")

    def __init__(self, role: str, *, level: str = "info", as_json: bool = False, fd: int = 2, **bound: Any) -> None:
        self.role = role
        self.dropped = 0
        self._threshold = LEVELS[level]
        self._json = as_json
        self._fd = fd
        self._bound = bound
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    @property
    def level(self) -> str:
        """The lowest level that is written; may be set to another."""
        return next(name for name, number in LEVELS.items() if number == self._threshold)

    @level.setter
    def level(self, name: str) -> None:
        self._threshold = LEVELS[name]

    def bind(self, **fields: Any) -> StructuredLog:
        """A log whose lines carry these fields as well."""
        return StructuredLog(self.role, level=self.level, as_json=self._json, fd=self._fd, **{**self._bound, **fields})

    def debug(self, event: str, /, **fields: Any) -> None:
        """Says what only somebody who looks for a fault wants to know."""
        self._write("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Says what happened."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Says what should not happen, but was coped with."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Says what somebody has to look at."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < self._threshold:
            return
        if self.dropped:
            fields = {**fields, "lines_dropped": self.dropped}
        values = {**self._bound, **fields}
        now = time.time()
        line = self._json_line(now, level, event, values) if self._json else self._text_line(now, level, event, values)
        data = line.encode("utf-8", "replace")
        if len(data) >= LINE_MAX:
            data = data[: LINE_MAX - 4] + b"..."
        if self._has_room():
            try:
                os.write(self._fd, data + b"\n")
            except OSError:
                self.dropped += 1
            else:
                self.dropped = 0
        else:
            self.dropped += 1

    def _has_room(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))

    def _json_line(self, now: float, level: str, event: str, values: dict[str, Any]) -> str:
        entry = {"ts": round(now, 6), "level": level, "role": self.role, "event": event, **values}
        return json.dumps(entry, default=_plain, ensure_ascii=False)

    def _text_line(self, now: float, level: str, event: str, values: dict[str, Any]) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        words = "".join(f" {name}={_word(value)}" for name, value in values.items() if value is not None)
        return f"{stamp} {level:7} {self.role}: {event}{words}"


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _word(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else _plain(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c <= " " or c in '"=' for c in text) else text
