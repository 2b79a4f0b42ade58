"""libvirt's messages as bytes: the length, the six-word header, the limits, and how a stream of bytes splits into them.

Descriptors travel beside the bytes: after a message that announces `n` of them, `n` single bytes follow which no length
counts. The reader skips those bytes; who owns the socket collects the descriptors.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

LENGTH_MIN: Final = 28
PAYLOAD_MAX: Final = 33554408
LENGTH_MAX: Final = PAYLOAD_MAX + LENGTH_MIN
FDS_MAX: Final = 32
STREAM_DATA_MAX: Final = 262120
EVENT_SERIAL: Final = 1  # a daemon's events carry it; clients ignore it

_message = struct.Struct(">IIIiiIi")
_new_tuple = tuple.__new__
_word = struct.Struct(">I")
pack_message_header = _message.pack


class PacketType(IntEnum):
    """What a message is."""

    CALL = 0
    REPLY = 1
    MESSAGE = 2
    STREAM = 3
    CALL_WITH_FDS = 4
    REPLY_WITH_FDS = 5
    STREAM_HOLE = 6


class Status(IntEnum):
    """How a message went, or whether its stream goes on."""

    OK = 0
    ERROR = 1
    CONTINUE = 2


class Program(IntEnum):
    """The programs that share a connection, by their number on the wire."""

    REMOTE = 0x20008086
    QEMU = 0x20008087
    LXC = 0x00068000
    ADMIN = 0x06900690
    KEEPALIVE = 0x6B656570


PROGRAM_VERSION: Final = 1
PING: Final = 1
PONG: Final = 2

CALL: Final = int(PacketType.CALL)
CALL_WITH_FDS: Final = int(PacketType.CALL_WITH_FDS)


class PacketError(ValueError):
    """The bytes are no message of libvirt's protocol; the connection cannot go on."""


class Packet(NamedTuple):
    """One message; `fds` is how many descriptors belong to it."""

    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int
    payload: bytes
    fds: int = 0


def pack_packet(packet: Packet) -> bytes:
    """The message's bytes, without the bytes that carry descriptors.

    Raises PacketError for a payload beyond the limit.
    """
    payload = packet.payload
    if packet.type in (PacketType.CALL_WITH_FDS, PacketType.REPLY_WITH_FDS):
        payload = _word.pack(packet.fds) + payload
    return pack_parts(*packet[:6], payload)


def pack_parts(
    program: int, version: int, procedure: int, type_: int, serial: int, status: int, payload: bytes
) -> bytes:
    """As `pack_packet`, from parts.

    Raises PacketError for a payload beyond the limit.
    """
    if len(payload) > PAYLOAD_MAX:
        raise PacketError(f"payload of {len(payload)} bytes, at most {PAYLOAD_MAX} are allowed")
    return _message.pack(len(payload) + LENGTH_MIN, program, version, procedure, type_, serial, status) + payload


def keepalive(procedure: int) -> bytes:
    """A PING or PONG."""
    return _message.pack(LENGTH_MIN, Program.KEEPALIVE, PROGRAM_VERSION, procedure, PacketType.MESSAGE, 0, Status.OK)


PING_BYTES: Final = keepalive(PING)
PONG_BYTES: Final = keepalive(PONG)


_CALL_SHAPE = struct.Struct(">I12xi4xi")  # length, type, status
_CALL_WORDS = struct.Struct(">4xI4xi4xI")
_REPLY: Final = _word.pack(PacketType.REPLY)


def is_plain_call(data: bytes) -> bool:
    """Whether the bytes are exactly one call, without descriptors."""
    size = len(data)
    return size >= LENGTH_MIN and _CALL_SHAPE.unpack_from(data) == (size, CALL, 0)


def call_words(data: bytes) -> tuple[int, int, int]:
    """Program, procedure and serial of a plain call."""
    program, procedure, serial = _CALL_WORDS.unpack_from(data)
    return program, procedure, serial


def answer_to(call: bytes, payload: bytes) -> bytes:
    """The bytes of a plain call's result, made from the call's own header."""
    return _word.pack(LENGTH_MIN + len(payload)) + call[4:16] + _REPLY + call[20:28] + payload


def _check_length(length: int) -> None:
    if not LENGTH_MIN <= length <= LENGTH_MAX:
        raise PacketError(f"message length {length}, allowed are {LENGTH_MIN} to {LENGTH_MAX}")


class PacketReader:
    """Splits a stream of bytes into messages; holds no more than one message beyond what it was fed."""

    __slots__ = ("_buffer", "_pos")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._pos = 0

    def feed(self, data: bytes) -> None:
        """Takes what the socket gave."""
        if not self._buffer:
            self._buffer = data
            return
        rest = len(self._buffer) - self._pos
        if rest == 0:
            self._buffer = data
            self._pos = 0
            return
        # A bytearray grows in place: a message of 32 MiB that comes in small pieces is not copied at each of them.
        buffer = self._buffer
        if type(buffer) is bytearray:
            if self._pos:
                del buffer[: self._pos]
            buffer += data
        else:
            self._buffer = bytearray(memoryview(buffer)[self._pos :])
            self._buffer += data
        self._pos = 0

    @property
    def buffered(self) -> int:
        """Bytes not yet given out."""
        return len(self._buffer) - self._pos

    @property
    def is_between_messages(self) -> bool:
        """Whether the next byte that is fed begins a message."""
        return self._pos == len(self._buffer)

    def next_packet(self) -> Packet | None:
        """The next message, if it is there as a whole, with the bytes that carry its descriptors.

        Raises PacketError when the bytes cannot be one.
        """
        buffer = self._buffer
        pos = self._pos
        have = len(buffer) - pos
        if have < LENGTH_MIN:
            if have >= 4:
                _check_length(*_word.unpack_from(buffer, pos))
            return None
        length, program, version, procedure, type_, serial, status = _message.unpack_from(buffer, pos)
        if have == length and type_ == CALL and status == 0 and type(buffer) is bytes and length <= LENGTH_MAX:
            # nearly every message: a call that is all there is
            self._buffer = b""
            self._pos = 0
            return _new_tuple(
                Packet, (program, version, procedure, type_, serial, status, buffer[pos + LENGTH_MIN :], 0)
            )
        if not LENGTH_MIN <= length <= LENGTH_MAX:
            _check_length(length)
        if have < length:
            return None
        stop = pos + length
        if not 0 <= type_ <= 6:
            raise PacketError(f"unknown message type {type_}")
        if not 0 <= status <= 2:
            raise PacketError(f"unknown message status {status}")
        start = pos + LENGTH_MIN
        fds = 0
        if type_ >= CALL_WITH_FDS and type_ <= PacketType.REPLY_WITH_FDS:
            if length < LENGTH_MIN + 4:
                raise PacketError("a message with descriptors does not say how many")
            (fds,) = _word.unpack_from(buffer, start)
            if fds > FDS_MAX:
                raise PacketError(f"{fds} descriptors with one message, at most {FDS_MAX} are allowed")
            if have < length + fds:
                return None
            start += 4
        payload = buffer[start:stop] if type(buffer) is bytes else bytes(buffer[start:stop])
        stop += fds
        if stop == len(buffer):
            self._buffer = b""
            self._pos = 0
        else:
            self._pos = stop
            if type(buffer) is bytearray and stop > 1 << 20:
                del buffer[:stop]
                self._pos = 0
        # as Packet(...) does, without its own function around it
        return _new_tuple(Packet, (program, version, procedure, type_, serial, status, payload, fds))
