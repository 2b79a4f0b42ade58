"""QMP without a socket: bytes in, messages out.

A monitor speaks JSON texts, one a line. It greets, is asked for `qmp_capabilities`, and then answers commands in
order, with events in between. Commands may be written before the greeting came: QEMU reads them after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

LINE_MAX: Final = 64 * 1024 * 1024  # the longest known answer (query-qmp-schema) has 0.3 MiB


Data = Mapping[str, Any]
"""A JSON object of QEMU's: what a command is given, or what an event tells."""


class RemoteMonitorError(Exception):
    """The monitor broke the rules of its protocol; the text says how."""


class LocalMonitorError(Exception):
    """We broke the rules: a session that has ended cannot be used."""


class State(Enum):
    """How far a session is."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first thing a monitor says."""

    version: tuple[int, int, int]
    package: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command gave."""

    id: int
    value: Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that QEMU did not carry out; `kind` is QEMU's error class."""

    id: int | None
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """An event, with the time at which QEMU saw it (seconds since 1970)."""

    name: str
    data: Data
    time_s: float


Message = Greeting | Answer | Refusal | Notice

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class Session:
    """One connection to a monitor."""

    def __init__(self) -> None:
        self.state = State.GREETING
        self._pending = bytearray()
        self._next_id = 1

    @property
    def next_number(self) -> int:
        """The id of the next command."""
        return self._next_id

    def command(self, name: str, arguments: Data | None = None) -> tuple[int, bytes]:
        """The command's id and the bytes to send. Raises LocalMonitorError after `close`."""
        if self.state is State.CLOSED:
            raise LocalMonitorError("the session is closed")
        number = self._next_id
        self._next_id += 1
        message: dict[str, Any] = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        message["id"] = number
        return number, _encoder.encode(message) + b"\n"

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises RemoteMonitorError for what is none, and for an endless line."""
        if self.state is State.CLOSED:
            raise LocalMonitorError("the session is closed")
        if b"\n" not in data:
            self._pending += data
            self._check_length(len(self._pending))
            return []
        lines = data.split(b"\n")
        if self._pending:
            lines[0] = bytes(self._pending) + lines[0]
        self._pending = bytearray(lines.pop())
        messages = []
        for line in lines:
            self._check_length(len(line))
            text = line.strip()
            if text:
                messages.append(self._message(text))
        self._check_length(len(self._pending))
        return messages

    def close(self) -> None:
        """Ends the session; nothing can be sent or received any more."""
        self.state = State.CLOSED
        self._pending.clear()

    @staticmethod
    def _check_length(length: int) -> None:
        if length > LINE_MAX:
            raise RemoteMonitorError(f"the monitor sent a line of more than {LINE_MAX} bytes")

    def _message(self, text: bytes) -> Message:
        try:
            value = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise RemoteMonitorError(f"the monitor sent no JSON: {text[:80]!r}") from exc
        if not isinstance(value, dict):
            raise RemoteMonitorError(f"the monitor sent no object: {text[:80]!r}")
        if "QMP" in value:
            return self._greeting(value["QMP"])
        if "return" in value:
            number = value.get("id")
            if not isinstance(number, int):
                raise RemoteMonitorError("the monitor sent an answer without the id of its command")
            return Answer(number, value["return"])
        if "error" in value:
            return self._refusal(value)
        if "event" in value:
            return _notice(value)
        raise RemoteMonitorError(f"the monitor sent a message of no known kind: {text[:80]!r}")

    def _greeting(self, body: Any) -> Greeting:
        if self.state is not State.GREETING:
            raise RemoteMonitorError("the monitor greeted twice")
        try:
            number = body["version"]["qemu"]
            version = (int(number["major"]), int(number["minor"]), int(number["micro"]))
            package = str(body["version"].get("package", ""))
            capabilities = tuple(str(name) for name in body.get("capabilities", ()))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise RemoteMonitorError("the monitor's greeting names no version") from exc
        self.state = State.OPEN
        return Greeting(version, package, capabilities)

    @staticmethod
    def _refusal(value: dict[str, Any]) -> Refusal:
        error = value["error"]
        number = value.get("id")
        if not isinstance(error, dict) or not (number is None or isinstance(number, int)):
            raise RemoteMonitorError("the monitor sent a malformed error")
        return Refusal(number, str(error.get("class", "GenericError")), str(error.get("desc", "no reason given")))


def _notice(value: dict[str, Any]) -> Notice:
    stamp = value.get("timestamp")
    data = value.get("data", {})
    name = value["event"]
    if not isinstance(name, str) or not isinstance(data, dict):
        raise RemoteMonitorError("the monitor sent a malformed event")
    time_s = 0.0
    if isinstance(stamp, dict):
        seconds, micros = stamp.get("seconds", 0), stamp.get("microseconds", 0)
        if isinstance(seconds, int) and isinstance(micros, int):
            time_s = seconds + micros / 1e6
    return Notice(name, data, time_s)
