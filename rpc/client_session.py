"""The client's side of one libvirt connection: serials, replies, errors, events, streams, keepalive, and how it opens.

A session is asked for the bytes of what shall be sent, fed with what the socket gave, and asked for events. It opens
nothing and waits for nothing. `opening` is the order of the first calls as a generator: it yields what has to be
called and is sent (or thrown) what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from rpc.packet import (
    PING,
    PONG,
    PROGRAM_VERSION,
    STREAM_DATA_MAX,
    Packet,
    PacketReader,
    PacketType,
    Program,
    Status,
    pack_packet,
    pack_parts,
)
from rpc.sasl import Mechanism, SaslFault
from rpc.session import LocalProtocolError, RemoteProtocolError
from rpc.xdr import error_codec, hole_codec
from schema.error_root import CLASSES
from schema.errors import AuthFailed, AuthUnavailable, ErrorCode, ErrorDomain, VirtError, from_wire
from schema.objects import ErrorRecord

SERIAL_MAX: Final = 0x7FFFFFFF
AUTH_NONE: Final = 0
AUTH_SASL: Final = 1
AUTH_POLKIT: Final = 2
FEATURE_KEEPALIVE: Final = 10
FEATURE_EVENT_CALLBACK: Final = 14
FEATURE_CLOSE_CALLBACK: Final = 15
READ_ONLY: Final = 1
SASL_STEPS_MAX: Final = 16

Prove = Callable[[list[str]], Mechanism]
"""Chooses out of the SASL mechanisms that a daemon offers. Raises AuthUnavailable when it can do none of them."""

PROGRAMS: Final = {"remote": int(Program.REMOTE), "qemu": int(Program.QEMU), "lxc": int(Program.LXC)}
_SERVED: Final = frozenset(PROGRAMS.values())


class Replied(NamedTuple):
    """A call ended well."""

    serial: int
    payload: bytes
    fds: int = 0  # descriptors that came with it


class Failed(NamedTuple):
    """A call, or a stream whose call had ended well before, ended with an error."""

    serial: int
    error: VirtError
    of_stream: bool


class Told(NamedTuple):
    """The daemon tells of something that happened."""

    program: int
    procedure: int
    payload: bytes


class StreamData(NamedTuple):
    """A piece of a stream; an empty one says that the daemon has no more."""

    serial: int
    data: bytes


class StreamHole(NamedTuple):
    """A stretch of zeros in a stream."""

    serial: int
    length: int


class StreamEnded(NamedTuple):
    """The daemon confirms a finish or an abort; the stream is gone."""

    serial: int


class Pinged(NamedTuple):
    """The daemon wants to know whether this side is alive; a PONG is due."""


class Ponged(NamedTuple):
    """The daemon is alive."""


Event = Replied | Failed | Told | StreamData | StreamHole | StreamEnded | Pinged | Ponged


@dataclass(slots=True)
class _Open:
    program: int
    procedure: int
    has_stream: bool


class ClientSession:
    """The rules of one connection, as the one who asks."""

    __slots__ = ("_calls", "_reader", "_serial", "_streams")

    def __init__(self) -> None:
        self._reader = PacketReader()
        self._serial = 0
        self._calls: dict[int, _Open] = {}
        self._streams: dict[int, _Open] = {}

    @property
    def pending(self) -> int:
        """Calls that are not answered."""
        return len(self._calls)

    def call(
        self, program: int, procedure: int, payload: bytes, *, has_stream: bool = False, fds: int = 0
    ) -> tuple[int, bytes]:
        """The serial and the bytes of a call; `fds` descriptors have to be sent behind them.

        Raises PacketError when it is longer than a message may be.
        """
        serial = self._serial
        while serial in self._calls or serial in self._streams:
            serial = 0 if serial == SERIAL_MAX else serial + 1
        kind = PacketType.CALL_WITH_FDS if fds else PacketType.CALL
        data = pack_packet(Packet(program, PROGRAM_VERSION, procedure, kind, serial, Status.OK, payload, fds))
        self._serial = 0 if serial == SERIAL_MAX else serial + 1
        self._calls[serial] = _Open(program, procedure, has_stream)
        return serial, data

    # --- streams ---

    def stream_data(self, serial: int, data: bytes) -> bytes:
        """The bytes of a piece of a stream.

        Raises LocalProtocolError for an unknown stream, and for a piece that is empty or too long.
        """
        if not 0 < len(data) <= STREAM_DATA_MAX:
            raise LocalProtocolError(f"a piece of {len(data)} bytes, allowed are 1 to {STREAM_DATA_MAX}")
        return self._stream(serial, PacketType.STREAM, Status.CONTINUE, data)

    def stream_hole(self, serial: int, length: int) -> bytes:
        """The bytes of a stretch of zeros. Raises LocalProtocolError for an unknown stream."""
        payload = hole_codec().encode({"length": length, "flags": 0})
        return self._stream(serial, PacketType.STREAM_HOLE, Status.CONTINUE, payload)

    def stream_finish(self, serial: int) -> bytes:
        """The bytes that say that this side is done; StreamEnded or Failed follows.

        Raises LocalProtocolError for an unknown stream.
        """
        return self._stream(serial, PacketType.STREAM, Status.OK, b"")

    def stream_abort(self, serial: int) -> bytes:
        """The bytes that give a stream up; StreamEnded or Failed follows.

        Raises LocalProtocolError for an unknown stream.
        """
        return self._stream(serial, PacketType.STREAM, Status.ERROR, b"")

    def _stream(self, serial: int, type_: int, status: int, payload: bytes) -> bytes:
        known = self._streams.get(serial)
        if known is None:
            raise LocalProtocolError(f"no stream has serial {serial}")
        return pack_parts(known.program, PROGRAM_VERSION, known.procedure, type_, serial, status, payload)

    # --- what the daemon sends ---

    def feed(self, data: bytes) -> None:
        """Takes what the socket gave."""
        self._reader.feed(data)

    def next_event(self) -> Event | None:
        """What the daemon sent next; nothing when more bytes are needed first.

        Raises RemoteProtocolError, PacketError or XdrError when the connection cannot go on.
        """
        while (packet := self._reader.next_packet()) is not None:
            event = self._event_of(packet)
            if event is not None:
                return event
        return None

    def _event_of(self, packet: Packet) -> Event | None:
        type_ = packet.type
        if packet.program == Program.KEEPALIVE:
            if type_ == PacketType.MESSAGE and packet.procedure == PING:
                return Pinged()
            if type_ == PacketType.MESSAGE and packet.procedure == PONG:
                return Ponged()
            raise RemoteProtocolError("neither a PING nor a PONG")
        if type_ in (PacketType.REPLY, PacketType.REPLY_WITH_FDS):
            return self._reply(packet)
        if type_ == PacketType.MESSAGE:
            if packet.program not in _SERVED:
                return None  # of a program that nobody asked for, as libvirt's own client ignores it
            return Told(packet.program, packet.procedure, packet.payload)
        if type_ in (PacketType.STREAM, PacketType.STREAM_HOLE):
            return self._stream_event(packet)
        raise RemoteProtocolError(f"a daemon does not send messages of type {type_}")

    def _reply(self, packet: Packet) -> Event:
        serial = packet.serial
        known = self._calls.get(serial)
        if known is None or known.program != packet.program:
            raise RemoteProtocolError(f"a reply to serial {serial}, which is no call's")
        if packet.procedure != known.procedure:
            raise RemoteProtocolError(f"a reply of procedure {packet.procedure} to a call of {known.procedure}")
        del self._calls[serial]
        if packet.status == Status.ERROR:
            return Failed(serial, error_of(error_codec().decode(packet.payload)), of_stream=False)
        if packet.status != Status.OK:
            raise RemoteProtocolError(f"a reply with status {packet.status}")
        if known.has_stream:
            self._streams[serial] = known
        return Replied(serial, packet.payload, packet.fds)

    def _stream_event(self, packet: Packet) -> Event | None:
        serial = packet.serial
        known = self._streams.get(serial)
        if known is None or (known.program, known.procedure) != (packet.program, packet.procedure):
            return None  # what was on its way when the stream ended
        if packet.type == PacketType.STREAM_HOLE:
            return StreamHole(serial, hole_codec().decode(packet.payload)["length"])
        if packet.status == Status.CONTINUE:
            return StreamData(serial, packet.payload)
        del self._streams[serial]
        if packet.status == Status.ERROR:
            return Failed(serial, error_of(error_codec().decode(packet.payload)), of_stream=True)
        return StreamEnded(serial)


# --- errors ---


def error_of(record: ErrorRecord) -> VirtError:
    """The error that a daemon sent, every value as it was.

    Its class is the one of that code, where the code has one meaning only.
    """
    kind = _kinds().get(record.code, "VirtError")
    message = record.message or ""
    return from_wire(
        [
            kind,
            record.code,
            record.domain,
            message,
            record.str1,
            record.str2,
            record.str3,
            record.int1,
            record.int2,
            None,
        ]
    )


@cache
def _kinds() -> Mapping[int, str]:
    kinds: dict[int, str] = {}
    for name, cls in CLASSES.items():
        if cls.__module__ == "schema.errors" and "code" in cls.__dict__:
            kinds.setdefault(int(cls.code), name)
    return kinds


def is_unknown_procedure(error: VirtError) -> bool:
    """Whether an older daemon does not know the call at all, which libvirt's clients take for "not supported"."""
    return (
        error.code == ErrorCode.RPC
        and error.domain == ErrorDomain.RPC
        and error.message.startswith("unknown procedure")
    )


# --- how a connection opens ---


class Ask(NamedTuple):
    """A call that has to be made now."""

    procedure: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found out while a connection was opened."""

    has_keepalive: bool
    has_event_callbacks: bool
    has_close_callback: bool
    uri: str


def opening(
    name: str, *, read_only: bool = False, keepalive: bool = True, prove: Prove | None = None
) -> Generator[Ask, Any, Opened]:
    """The first calls, in libvirt's order. The caller sends each one's result in, and throws in its VirtError.

    Without `keepalive` the daemon is not asked for it, and then never asks whether this side is alive.
    Raises AuthUnavailable for an authentication that is not known here, AuthFailed when the daemon refuses it, and
    whatever the daemon refuses the name with.
    """
    types = list((yield Ask("auth_list", {})).types)
    if types and types[0] == AUTH_POLKIT:
        told = yield Ask("auth_polkit", {})
        if not told.complete:
            raise AuthFailed("polkit did not complete the authentication")
    elif types and types[0] == AUTH_SASL and prove is not None:
        yield from _proving(prove)
    elif types and types[0] != AUTH_NONE:
        raise AuthUnavailable(f"the daemon wants authentication of type {types[0]}, which is not supported here")
    has_keepalive = keepalive and (yield from _feature(FEATURE_KEEPALIVE))
    yield Ask("connect_open", {"name": name or None, "flags": READ_ONLY if read_only else 0})
    uri = name or str((yield Ask("connect_get_uri", {})).uri)
    callbacks = yield from _feature(FEATURE_EVENT_CALLBACK)
    close = yield from _feature(FEATURE_CLOSE_CALLBACK)
    return Opened(has_keepalive, callbacks, close, uri)


def mechanisms_in(told: str) -> list[str]:
    """The SASL mechanisms that a daemon names."""
    return told.replace(",", " ").split()


def _proving(prove: Prove) -> Generator[Ask, Any, None]:
    offered = mechanisms_in((yield Ask("auth_sasl_init", {})).mechlist)
    proof = prove(offered)
    try:
        told = yield Ask("auth_sasl_start", {"mech": proof.name, **_said(proof.first())})
        for _ in range(SASL_STEPS_MAX):
            if told.complete:
                break
            told = yield Ask("auth_sasl_step", _said(proof.answer(bytes(told.data))))
        else:
            raise AuthFailed("the daemon asks for ever more proofs")
        if not told.nil and told.data:
            proof.answer(bytes(told.data))
        proof.check()
    except SaslFault as exc:
        raise AuthFailed(f"the daemon does not prove itself by {proof.name}: {exc}") from exc


def _said(data: bytes | None) -> dict[str, Any]:
    return {"nil": int(data is None), "data": data or b""}


def _feature(number: int) -> Generator[Ask, Any, bool]:
    try:
        return bool((yield Ask("connect_supports_feature", {"feature": number})).supported)
    except VirtError:
        return False  # an error counts as a no
