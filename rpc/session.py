"""The server's side of one libvirt connection: what a client may send when, and how many calls it may have open.

A session is fed bytes and asked for events. It stops giving out calls while too many are unanswered, and says then that
reading should pause. Keepalive and stream messages pass the calls that wait, so a client with slow calls is not dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from enum import Enum
from typing import Final, NamedTuple

from rpc.packet import (
    CALL,
    CALL_WITH_FDS,
    LENGTH_MIN,
    PING,
    PONG,
    PROGRAM_VERSION,
    Packet,
    PacketReader,
    PacketType,
    Program,
    Status,
    call_words,
    is_plain_call,
    pack_message_header,
    pack_packet,
    pack_parts,
)

BUFFER_WHILE_BLOCKED: Final = 65536
AUTH_CALLS: Final = frozenset((int(Program.REMOTE), number) for number in range(66, 71))
"""auth_list, auth_sasl_init, auth_sasl_start, auth_sasl_step, auth_polkit: what may be asked before all else."""
SERVED: Final = frozenset({int(Program.REMOTE), int(Program.QEMU), int(Program.LXC)})


class RemoteProtocolError(ValueError):
    """The client broke the rules; its connection has to be closed."""


class LocalProtocolError(ValueError):
    """This side tried to send what the rules forbid."""


class Auth(Enum):
    """Whether the client still has to prove who it is."""

    NEEDED = "needed"
    DONE = "done"


class CallReceived(NamedTuple):
    """The client asks for something."""

    program: int
    procedure: int
    serial: int
    payload: bytes
    fds: int


class CallRefused(NamedTuple):
    """The client asks for something that cannot be asked now, or of a program that is not served."""

    packet: Packet
    reason: str


class StreamReceived(NamedTuple):
    """Data of a stream (empty: its end), or its finish (OK) or its abort (ERROR)."""

    program: int
    procedure: int
    serial: int
    status: int
    data: bytes


class HoleReceived(NamedTuple):
    """A stretch of zeros in a sparse stream, not yet decoded."""

    program: int
    procedure: int
    serial: int
    payload: bytes


class PingReceived(NamedTuple):
    """The client wants to know whether this side is alive; a PONG is due."""


class PongReceived(NamedTuple):
    """The client is alive."""


Event = CallReceived | CallRefused | StreamReceived | HoleReceived | PingReceived | PongReceived

_CALLS: Final = (CALL, CALL_WITH_FDS)
_new_tuple = tuple.__new__
_PING: Final = PingReceived()
_PONG: Final = PongReceived()


class ServerSession:
    """The rules of one connection.

    `served` are the programs that are answered, `open_calls` the (program, procedure) pairs that are allowed before the
    client has proved who it is.
    """

    __slots__ = (
        "_blocked",
        "_blocked_bytes",
        "_open_calls",
        "_pending_max",
        "_reader",
        "_served",
        "auth",
        "pending",
        "streams",
    )

    def __init__(
        self,
        *,
        pending_max: int = 5,
        auth: Auth = Auth.DONE,
        served: Container[int] = SERVED,
        open_calls: Container[tuple[int, int]] = (),
    ) -> None:
        self._reader = PacketReader()
        self._blocked: deque[Packet] = deque()
        self._blocked_bytes = 0
        self._pending_max = pending_max
        self._served = served
        self._open_calls = open_calls
        self.auth = auth
        self.pending = 0
        self.streams: dict[int, tuple[int, int]] = {}

    def feed(self, data: bytes) -> None:
        """Takes what the socket gave."""
        self._reader.feed(data)

    @property
    def wants_pause(self) -> bool:
        """Whether the socket should not be read until a call is answered."""
        return self.pending >= self._pending_max and self.buffered > BUFFER_WHILE_BLOCKED

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not yet given out as events."""
        return self._reader.buffered + self._blocked_bytes

    def is_single_call(self, data: bytes) -> bool:
        """Whether these bytes are one whole call that may be answered at once, without being fed."""
        return (
            self._reader.is_between_messages
            and not self._blocked_bytes
            and self.pending < self._pending_max
            and self.auth is Auth.DONE
            and is_plain_call(data)
        )

    def take_single_call(self, data: bytes) -> CallReceived:
        """The call of which `is_single_call` holds, which is open from now on."""
        self.pending += 1
        program, procedure, serial = call_words(data)
        return _new_tuple(CallReceived, (program, procedure, serial, data[LENGTH_MIN:], 0))

    def next_event(self) -> Event | None:
        """What the client sent next; nothing when more bytes, or answers to its calls, are needed first.

        Raises RemoteProtocolError or PacketError when the connection cannot go on.
        """
        if self._blocked and self.pending < self._pending_max:
            packet: Packet | None = self._blocked.popleft()
            self._blocked_bytes -= LENGTH_MIN + len(packet.payload)  # type: ignore[union-attr]
        elif self._blocked_bytes > BUFFER_WHILE_BLOCKED:
            return None
        else:
            packet = self._next_unblocked()
        if packet is None:
            return None
        program = packet.program
        type_ = packet.type
        if program == Program.KEEPALIVE:
            return self._keepalive(packet)
        if type_ in _CALLS:
            self.pending += 1
            if program not in self._served:
                return CallRefused(packet, f"Cannot find program {program} version {packet.version}")
            if packet.version != PROGRAM_VERSION:
                return CallRefused(
                    packet,
                    f"program version mismatch in call (actual {packet.version:x}, expected {PROGRAM_VERSION:x})",
                )
            if packet.status != Status.OK:
                raise RemoteProtocolError(f"a call with status {packet.status}")
            if self.auth is Auth.NEEDED and (program, packet.procedure) not in self._open_calls:
                return CallRefused(packet, "authentication required")
            return CallReceived(program, packet.procedure, packet.serial, packet.payload, packet.fds)
        if type_ == PacketType.STREAM:
            return StreamReceived(program, packet.procedure, packet.serial, packet.status, packet.payload)
        if type_ == PacketType.STREAM_HOLE:
            return HoleReceived(program, packet.procedure, packet.serial, packet.payload)
        raise RemoteProtocolError(f"a client does not send messages of type {type_}")

    def _next_unblocked(self) -> Packet | None:
        """The next message; calls that are not yet due are put aside, so that what comes behind them is seen."""
        while True:
            packet = self._reader.next_packet()
            if packet is None or self.pending < self._pending_max or packet.type not in _CALLS:
                return packet
            self._blocked.append(packet)
            self._blocked_bytes += LENGTH_MIN + len(packet.payload)
            if self._blocked_bytes > BUFFER_WHILE_BLOCKED:
                return None

    @staticmethod
    def _keepalive(packet: Packet) -> Event:
        if packet.type == PacketType.MESSAGE and packet.version == PROGRAM_VERSION:
            if packet.procedure == PING:
                return _PING
            if packet.procedure == PONG:
                return _PONG
        raise RemoteProtocolError("neither a PING nor a PONG")

    def reply(self, program: int, procedure: int, serial: int, payload: bytes) -> bytes:
        """The bytes of a call's result. Raises LocalProtocolError when no call is open."""
        self._answer()
        return (
            pack_message_header(
                len(payload) + LENGTH_MIN, program, PROGRAM_VERSION, procedure, PacketType.REPLY, serial, Status.OK
            )
            + payload
        )

    def reply_with_fds(self, program: int, procedure: int, serial: int, payload: bytes, fds: int) -> bytes:
        """The bytes of a call's result behind which so many descriptors follow.

        Raises LocalProtocolError when no call is open.
        """
        self._answer()
        return pack_packet(
            Packet(program, PROGRAM_VERSION, procedure, PacketType.REPLY_WITH_FDS, serial, Status.OK, payload, fds)
        )

    def error(self, program: int, version: int, procedure: int, serial: int, payload: bytes) -> bytes:
        """The bytes of a call's failure. Raises LocalProtocolError when no call is open."""
        self._answer()
        return pack_parts(program, version, procedure, PacketType.REPLY, serial, Status.ERROR, payload)

    def _answer(self) -> None:
        if self.pending <= 0:
            raise LocalProtocolError("a reply without a call")
        self.pending -= 1

    # --- streams ---

    def open_stream(self, program: int, procedure: int, serial: int) -> None:
        """Remembers that the call of this serial opened a stream."""
        self.streams[serial] = (program, procedure)

    def close_stream(self, serial: int) -> None:
        """Forgets a stream."""
        self.streams.pop(serial, None)

    def stream_data(self, serial: int, data: bytes) -> bytes:
        """The bytes of a piece of a stream; an empty one is its end.

        Raises LocalProtocolError for an unknown stream.
        """
        return self._stream(serial, PacketType.STREAM, Status.CONTINUE, data)

    def stream_hole(self, serial: int, payload: bytes) -> bytes:
        """The bytes of a stretch of zeros. Raises LocalProtocolError for an unknown stream."""
        return self._stream(serial, PacketType.STREAM_HOLE, Status.CONTINUE, payload)

    def stream_finished(self, serial: int) -> bytes:
        """The bytes that confirm a finish or an abort; forgets the stream.

        Raises LocalProtocolError for an unknown one.
        """
        data = self._stream(serial, PacketType.STREAM, Status.OK, b"")
        self.close_stream(serial)
        return data

    def stream_failed(self, serial: int, payload: bytes) -> bytes:
        """The bytes that tell of a failure; forgets the stream.

        Raises LocalProtocolError for an unknown one.
        """
        data = self._stream(serial, PacketType.STREAM, Status.ERROR, payload)
        self.close_stream(serial)
        return data

    def _stream(self, serial: int, type_: int, status: int, payload: bytes) -> bytes:
        known = self.streams.get(serial)
        if known is None:
            raise LocalProtocolError(f"no stream has serial {serial}")
        return pack_parts(known[0], PROGRAM_VERSION, known[1], type_, serial, status, payload)
