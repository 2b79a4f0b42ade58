"""Both ends of a ticket: a socket over which bulk data goes past the broker, with the socket as flow control.

Frames are `type | length | payload` (docs/protocol.md, section 4). An end of file without END means that the other
process died; who can, asks for a new ticket. Descriptors travel beside a frame (SCM_RIGHTS).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from broker.wire import (
    FRAME_HEADER_LENGTH,
    STREAM_PAYLOAD_MAX,
    StreamKind,
    WireError,
    pack_frame,
    pack_value,
    unpack_frame_header,
    unpack_value,
)
from schema.errors import InvalidMessage, VirtError, from_wire, to_wire

READ_BYTES: Final = 65536
DESCRIPTORS_MAX: Final = 16
CONNECT_TIMEOUT_S: Final = 10.0
_hole: Final = struct.Struct(">Q")


class Stream:
    """One end of a connected ticket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._is_ended = False
        self._is_finished = False
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether this end let go of it."""
        return self._is_closed

    async def read(self) -> bytes:
        """The next piece of data; holes are read as zeros, b"" means that the other side is done.

        Raises the VirtError that the other side sent, ConnectionResetError when it vanished, WireError for what is no
        frame.
        """
        while True:
            item = await self.read_frame()
            if item is None:
                return b""
            if isinstance(item, bytes):
                if item:
                    return item
                continue
            if item > STREAM_PAYLOAD_MAX:
                self._put_back_hole(item - STREAM_PAYLOAD_MAX)
            return bytes(min(item, STREAM_PAYLOAD_MAX))

    async def read_frame(self) -> bytes | int | None:
        """Data, or the length of a hole, or None when the other side is done. Raises what `read` raises."""
        if self._is_ended:
            return None
        await self._fill(FRAME_HEADER_LENGTH)
        kind, length = unpack_frame_header(bytes(self._buffer[:FRAME_HEADER_LENGTH]))
        await self._fill(FRAME_HEADER_LENGTH + length)
        payload = bytes(self._buffer[FRAME_HEADER_LENGTH : FRAME_HEADER_LENGTH + length])
        del self._buffer[: FRAME_HEADER_LENGTH + length]
        if kind is StreamKind.DATA:
            return payload
        if kind is StreamKind.HOLE:
            if length != _hole.size:
                raise WireError(f"a hole's length has {length} bytes, not {_hole.size}")
            return int(_hole.unpack(payload)[0])
        self._is_ended = True
        if kind is StreamKind.ERROR:
            raise _sent_error(payload)
        return None

    async def write(self, data: bytes | memoryview) -> None:
        """Sends data, as fast as the other side reads. Raises ConnectionError when it vanished."""
        view = memoryview(data)
        while view:
            await self._send(pack_frame(StreamKind.DATA, bytes(view[:STREAM_PAYLOAD_MAX])))
            view = view[STREAM_PAYLOAD_MAX:]

    async def write_hole(self, length: int) -> None:
        """Sends that many zeros without sending them. Raises ConnectionError when the other side vanished."""
        await self._send(pack_frame(StreamKind.HOLE, _hole.pack(length)))

    async def write_descriptor(self, fd: int) -> None:
        """Sends an open descriptor; this side keeps its own. Raises ConnectionError when the other side vanished."""
        frame = pack_frame(StreamKind.DATA)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        while True:
            try:
                sent = self._socket.sendmsg([frame], rights)
            except BlockingIOError:
                await self._wait(writing=True)
                continue
            if sent < len(frame):
                await self._send(frame[sent:])
            return

    async def read_descriptor(self) -> int:
        """The next descriptor that the other side sent, for the caller to close. Raises ConnectionResetError."""
        while not self._descriptors:
            await self._receive()
        return self._descriptors.popleft()

    async def finish(self) -> None:
        """Says that this side is done; the other may go on. Raises ConnectionError when it vanished."""
        if not self._is_finished:
            self._is_finished = True
            await self._send(pack_frame(StreamKind.END))

    async def abort(self, error: VirtError) -> None:
        """Ends the stream with an error, which the other side's `read` raises. The other side may have vanished."""
        if not self._is_finished and not self._is_closed:
            self._is_finished = True
            with contextlib.suppress(OSError):
                await self._send(pack_frame(StreamKind.ERROR, pack_value(to_wire(error))))

    def close(self) -> None:
        """Lets go of it. Without `finish` or `abort` before, the other side sees that this process vanished."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._descriptors:
            _close_descriptor(self._descriptors.popleft())

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _put_back_hole(self, length: int) -> None:
        self._buffer[:0] = pack_frame(StreamKind.HOLE, _hole.pack(length))

    async def _fill(self, length: int) -> None:
        while len(self._buffer) < length:
            await self._receive()

    async def _receive(self) -> None:
        while True:
            try:
                data, descriptors = _receive_now(self._socket)
            except BlockingIOError:
                await self._wait(writing=False)
                continue
            self._descriptors.extend(descriptors)
            if not data:
                raise ConnectionResetError("the other end of the stream vanished")
            self._buffer += data
            return

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def _wait(self, *, writing: bool) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        add, remove = (
            (self._loop.add_writer, self._loop.remove_writer)
            if writing
            else (self._loop.add_reader, self._loop.remove_reader)
        )
        add(self._socket, _set_done, ready)
        try:
            await ready
        finally:
            if not self._is_closed:
                remove(self._socket)


async def open_ticket(ticket: Mapping[str, Any], *, timeout_s: float = CONNECT_TIMEOUT_S) -> Stream:
    """Takes up a ticket that a reply named.

    Raises ConnectionError when nobody waits for it any more, TimeoutError, and InvalidMessage for what is no ticket.
    """
    path, token = ticket.get("path"), ticket.get("token")
    if not isinstance(path, str) or not isinstance(token, bytes):
        raise InvalidMessage("a ticket has a path and a token")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            try:
                await loop.sock_connect(sock, path)
            except FileNotFoundError as exc:
                raise ConnectionRefusedError(f"nobody waits at '{path}' any more") from exc
            await loop.sock_sendall(sock, token)
    except BaseException:
        sock.close()
        raise
    return Stream(sock)


def _receive_now(sock: socket.socket) -> tuple[bytes, list[int]]:
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, list(descriptors)


def _close_descriptor(fd: int) -> None:

    with contextlib.suppress(OSError):
        os.close(fd)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _sent_error(payload: bytes) -> VirtError:
    values = unpack_value(payload)
    if not isinstance(values, list):
        raise WireError("a stream's error is a wire error")
    return from_wire(values)
