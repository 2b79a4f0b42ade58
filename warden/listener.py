"""supervisord's event listener protocol, without pipes.

supervisord sends one event at a time to a listener that said READY, as a header line and a payload, and waits for its
RESULT. Both are lines of `key:value` words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

READY: Final = b"READY\n"
DONE: Final = b"RESULT 2\nOK"
LINE_MAX: Final = 4096
PAYLOAD_MAX: Final = 1024 * 1024


class ListenerError(Exception):
    """What came is not what supervisord sends."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One event: its kind, and the words of its payload."""

    kind: str
    words: dict[str, str]

    @property
    def process(self) -> tuple[str, str]:
        """Group and process that it is about."""
        return self.words.get("groupname", ""), self.words.get("processname", "")

    @property
    def pid(self) -> int:
        """The process it is about, 0 when it says none."""
        try:
            return int(self.words.get("pid", "0"))
        except ValueError as exc:
            raise ListenerError(f"'{self.words['pid']}' is no process id") from exc


class Listener:
    """Cuts what arrives into events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: dict[str, str] | None = None

    def receive(self, data: bytes) -> list[Notice]:
        """The events that are complete now. Raises ListenerError."""
        self._buffer += data
        notices = []
        while (notice := self._next()) is not None:
            notices.append(notice)
        return notices

    def _next(self) -> Notice | None:
        if self._header is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LINE_MAX:
                    raise ListenerError("a header without an end")
                return None
            self._header = _words(bytes(self._buffer[:end]))
            del self._buffer[: end + 1]
        try:
            kind, length = self._header["eventname"], int(self._header["len"])
        except (KeyError, ValueError) as exc:
            raise ListenerError(f"a header without a name or a length: {self._header}") from exc
        if not 0 <= length <= PAYLOAD_MAX:
            raise ListenerError(f"a payload of {length} bytes")
        if len(self._buffer) < length:
            return None
        payload = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._header = None
        # only the first line has words: what follows is a process's own output
        return Notice(kind, _words(payload.split(b"\n", 1)[0]))


def _words(line: bytes) -> dict[str, str]:
    pairs = (word.partition(":") for word in line.decode("utf-8", "replace").split())
    return {key: value for key, _, value in pairs}
