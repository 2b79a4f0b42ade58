"""ZeroMQ's wire protocol (ZMTP 3), as far as a DEALER and a ROUTER on the same host need it.

Pure: bytes in, values out. libzmq serves a socket from a thread of its own, and each message crosses to it and back; a
process that lives in an event loop speaks the protocol there, without a thread and at a third of the cost. Either side
can as well be libzmq's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

GREETING_LENGTH: Final = 64
COMMAND_MAX: Final = 4096
FRAMES_MAX: Final = 8  # no message has so many; of one that has, no more are kept

_SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
_MECHANISM: Final = b"NULL".ljust(20, b"\0")
_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_SHORT_MAX: Final = 255
_long_length = struct.Struct(">BQ")


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


def pack_three(first: bytes, second: bytes, third: bytes) -> bytes:
    """A message of three frames, the first two of which are short: what `pack_message` makes of them, in less time."""
    length = len(third)
    head = bytes((0, length)) if length <= _SHORT_MAX else _long_length.pack(_LONG, length)
    return b"".join((bytes((_MORE, len(first))), first, bytes((_MORE, len(second))), second, head, third))


def take_ready(data: bytes) -> tuple[bytes, bytes] | None:
    """Who the other side is, and what it said behind that; None when its READY is not complete yet.

    Raises ZmtpError when it says anything else first.
    """
    if len(data) < 2:
        return None
    if data[0] not in (_COMMAND, _COMMAND | _LONG):
        raise ZmtpError("a handshake begins with a command")
    if data[0] == _COMMAND:
        start, length = 2, data[1]
    elif len(data) < 9:
        return None
    else:
        start, length = 9, int.from_bytes(data[1:9], "big")
    if length > COMMAND_MAX:
        raise ZmtpError("a command that is too long")
    if len(data) < start + length:
        return None
    body = data[start : start + length]
    if body[:6] != b"\5READY":
        raise ZmtpError("a handshake without READY")
    return _properties(body[6:]).get(b"identity", b""), data[start + length :]


def _properties(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        middle = at + 1 + data[at]
        end = middle + 4 + int.from_bytes(data[middle : middle + 4], "big")
        if end > len(data):
            raise ZmtpError("a property that is cut off")
        found[data[at + 1 : middle].lower()] = data[middle + 4 : end]
        at = end
    return found


def answer_to_command(body: bytes) -> bytes | None:
    """The PONG that a PING wants (its context comes back, its two bytes of time to live do not)."""
    if body[:5] != b"\4PING":
        return None
    pong = b"\4PONG" + body[7:23]
    return bytes((_COMMAND, len(pong))) + pong


class FrameReader:
    """Takes bytes as they come, gives messages as they are complete.

    Commands go to `on_command`; without one, the first few are kept in `commands`, for the handshake.
    """

    __slots__ = ("_buffer", "_frames", "_held", "_need", "_on_command", "commands", "frame_max")

    def __init__(self, frame_max: int, on_command: Callable[[bytes], None] | None = None) -> None:
        self.frame_max = frame_max
        self._on_command = on_command
        self._held = 0  # bytes of frames whose message is not complete
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
        frames = self._frames
        at, end, need = 0, len(data), 0
        while end - at >= 2:
            flags = data[at]
            if flags & _LONG:
                start = at + 9
                if start > end:
                    break
                length = int.from_bytes(data[at + 1 : start], "big")
                if length > self.frame_max:
                    raise ZmtpError(f"a frame of {length} bytes, at most {self.frame_max} are allowed")
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
            if len(frames) < FRAMES_MAX:
                frames.append(data[start:stop])
            if not flags & _MORE:
                messages.append(frames)
                self._frames = frames = []
                self._held = 0
            elif length > _SHORT_MAX:
                self._held += length
                if self._held > self.frame_max:
                    raise ZmtpError(f"a message of more than {self.frame_max} bytes")
        if at < end:
            buffer += data[at:] if at else data
            self._need = need
        return messages

    def _command(self, body: bytes) -> None:
        if len(body) > COMMAND_MAX:
            raise ZmtpError("a command that is too long")
        if body[:6] == b"\5ERROR":
            raise ZmtpError(f"the other side refuses: {body[7:].decode('ascii', 'replace')}")
        if self._on_command is not None:
            self._on_command(body)
        elif len(self.commands) < 8:
            self.commands.append(body)
