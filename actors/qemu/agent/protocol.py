"""The guest agent's tongue without a socket: JSON texts, one a line, no ids but that of `guest-sync`.

What a guest sends is not to be trusted: lines are bounded, and what is no answer is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

LINE_MAX: Final = 10 * 1024 * 1024
"""As much as the agent's own longest answer may have."""

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class RemoteAgentError(Exception):
    """The agent broke the rules of its protocol; the text says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command gave, with all that was said."""

    value: Any
    whole: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that the agent did not carry out."""

    kind: str
    reason: str


Message = Answer | Refusal

_KINDS: Final = {
    "CommandDisabled": "Guest agent command is disabled",
    "CommandNotFound": "The command has not been found",
    "UnsupportedCommand": "this feature or command is not currently supported",
}


def encode_command(name: str, arguments: Mapping[str, Any] | None = None) -> bytes:
    """A command as the agent reads it."""
    message: dict[str, Any] = {"execute": name}
    if arguments:
        message["arguments"] = arguments
    return encode_message(message)


def encode_message(message: Mapping[str, Any]) -> bytes:
    """The same of a whole message."""
    return _encoder.encode(message) + b"\n"


class AgentSession:
    """What has come and is not a whole line yet."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises RemoteAgentError for an endless line."""
        self._pending += data
        messages: list[Message] = []
        while (end := self._pending.find(b"\n")) >= 0:
            line = bytes(self._pending[:end]).strip(b"\xff \t\r")
            del self._pending[: end + 1]
            message = _message(line) if line else None
            if message is not None:
                messages.append(message)
        if len(self._pending) > LINE_MAX:
            self._pending.clear()
            raise RemoteAgentError(f"the guest agent sent a line of more than {LINE_MAX} bytes")
        return messages


def _message(line: bytes) -> Message | None:
    """An answer or a refusal; None for what is neither, which a guest may send at any time."""
    try:
        value = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(value, dict):
        return None
    if "return" in value:
        return Answer(value["return"], value)
    error = value.get("error")
    if isinstance(error, dict):
        kind = str(error.get("class", "GenericError"))
        return Refusal(kind, str(error.get("desc") or _KINDS.get(kind, "unknown QEMU command error")))
    return None
