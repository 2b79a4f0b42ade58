"""ZeroMQ's wire protocol (ZMTP 3), as far as a DEALER needs it towards a ROUTER on the same host.

Pure: bytes in, values out. libzmq serves a socket from a thread of its own, and each message crosses to it and back; a
peer that lives in an event loop speaks the protocol there, without a thread and at a third of the cost. The broker's
side is libzmq's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GREETING_LENGTH: Final = 64
COMMAND_MAX: Final = 4096

_SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
_MECHANISM: Final = b"NULL".ljust(20, b"\0")
_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_SHORT_MAX: Final = 255


class ZmtpError(ValueError):
    """The other side does not speak ZMTP 3 as it should; the text says what is wrong."""


def greeting() -> bytes:
    """What each side says first: version 3.0, no security mechanism (the door did that)."""
    return _SIGNATURE + b"\3\0" + _MECHANISM + b"\0" + bytes(31)


def check_greeting(data: bytes) -> None:
    """Raises ZmtpError when these 64 bytes are not the greeting of a peer that can be talked to."""
    if len(data) != GREETING_LENGTH or data[0] != 0xFF or data[9] & 1 == 0:
        raise ZmtpError("not a ZMTP greeting")
    if data[10] < 3 or data[12:32] != _MECHANISM:
        raise ZmtpError("the other side wants another version or mechanism of ZMTP")


def ready_command(socket_type: bytes, identity: bytes) -> bytes:
    """The handshake's only command; `identity` is the routing id under which a ROUTER will know this side."""
    body = b"\5READY"
    for name, value in ((b"Socket-Type", socket_type), (b"Identity", identity)):
        body += bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value
    if len(body) > _SHORT_MAX:
        return bytes((_COMMAND | _LONG,)) + len(body).to_bytes(8, "big") + body
    return bytes((_COMMAND, len(body))) + body


def pack_message(frames: Sequence[bytes]) -> bytes:
    """A message of any frames."""
    parts: list[bytes] = []
    last = len(frames) - 1
    for index, frame in enumerate(frames):
        more = _MORE if index < last else 0
        length = len(frame)
        if length > _SHORT_MAX:
            parts += (bytes((more | _LONG,)), length.to_bytes(8, "big"), frame)
        else:
            parts += (bytes((more, length)), frame)
    return b"".join(parts)


class FrameReader:
    """Takes bytes as they come, gives messages as they are complete; `commands` keeps those of the handshake."""

    __slots__ = ("_buffer", "_frame_max", "_frames", "_need", "commands")

    def __init__(self, frame_max: int) -> None:
        self._frame_max = frame_max
        self._buffer = bytearray()
        self._need = 0  # bytes until the frame that has begun is whole
        self._frames: list[bytes] = []
        self.commands: list[bytes] = []

    def receive(self, data: bytes) -> list[list[bytes]]:
        """Raises ZmtpError for a frame that is too long."""
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        messages: list[list[bytes]] = []
        at, end, need = 0, len(data), 0
        while end - at >= 2:
            flags = data[at]
            if flags & _LONG:
                start = at + 9
                if start > end:
                    break
                length = int.from_bytes(data[at + 1 : start], "big")
                if length > self._frame_max:
                    raise ZmtpError(f"a frame of {length} bytes, at most {self._frame_max} are allowed")
            else:
                start = at + 2
                length = data[at + 1]
            stop = start + length
            if stop > end:
                need = stop - at
                break
            at = stop
            if flags & _COMMAND:
                self._command(data[start:stop])
                continue
            self._frames.append(data[start:stop])
            if not flags & _MORE:
                messages.append(self._frames)
                self._frames = []
        if at < end:
            buffer += data[at:] if at else data
            self._need = need
        return messages

    def _command(self, body: bytes) -> None:
        if len(body) > COMMAND_MAX:
            raise ZmtpError("a command that is too long")
        if body[:6] == b"\5ERROR":
            raise ZmtpError(f"the other side refuses: {body[7:].decode('ascii', 'replace')}")
        if len(self.commands) < 8:
            self.commands.append(body)
