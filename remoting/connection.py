"""One connection to a libvirt daemon: calls by their name in the schema, events, streams, keepalive.

At most CALLS_MAX calls are on their way at once (a daemon stops reading from a client that has more unanswered); those
of high priority have a place of their own, so that a guest can be destroyed while others hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from remoting.credentials import Asked, Prover
from remoting.endpoint import Channel, open_channel
from remoting.sasl_client import sasl_thread
from remoting.stream import DaemonStream
from rpc.client_session import (
    PROGRAMS,
    ClientSession,
    Failed,
    Opened,
    Pinged,
    Ponged,
    Replied,
    StreamData,
    StreamEnded,
    StreamHole,
    Told,
    is_unknown_procedure,
    mechanisms_in,
    opening,
)
from rpc.client_session import Event as SessionEvent
from rpc.packet import PING_BYTES, PONG_BYTES, PacketError
from rpc.session import RemoteProtocolError
from rpc.uri import RemoteUri, UriError, parse_remote_uri
from rpc.xdr import XdrError, args_codec, event_codec, result_codec
from schema.body import args_struct
from schema.errors import (
    ArgumentUnsupported,
    DeadlinePassed,
    ErrorDomain,
    HypervisorGone,
    InvalidArguments,
    RpcError,
    UnsupportedCall,
    VirtError,
)
from schema.model import Event, Procedure
from schema.table import all_events, need_procedure
from util.sasl import SaslError

CALLS_MAX: Final = 4
READ_BYTES: Final = 262144
KEEPALIVE_S: Final = 5.0
KEEPALIVE_COUNT: Final = 5

OnEvent = Callable[[Event, dict[str, Any]], None]


class DaemonConnection:
    """An open connection. Made by `connect_daemon`; it ends once and is not opened again."""

    def __init__(self, uri: RemoteUri, channel: Channel, keepalive_s: float) -> None:
        self.uri = uri
        self.opened = Opened(has_keepalive=False, has_event_callbacks=False, has_close_callback=False, uri=uri.name)
        self.on_event: OnEvent | None = None
        """Called for each event, in their order, before the reply that follows it."""
        self.closed: asyncio.Future[VirtError] = asyncio.get_running_loop().create_future()
        """Done when the connection ended, with why."""
        self._channel = channel
        self._session = ClientSession()
        self._calls: dict[int, tuple[Procedure, asyncio.Future[Any]]] = {}
        self._gated: set[int] = set()
        self._prover: Prover | None = None
        self._streams: dict[int, DaemonStream] = {}
        self._files: dict[int, list[int]] = {}  # that came with replies, until their callers take them
        self._gate = asyncio.Semaphore(CALLS_MAX)
        self._keepalive_s = keepalive_s
        self._heard = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._read(), name="daemon connection")]

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return not self.closed.done()

    # --- calls ---

    async def call(
        self, name: str, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = 60.0, **more: Any
    ) -> Any:
        """Calls a procedure; the result has the schema's fields as attributes.

        Raises the daemon's own error, HypervisorGone when the connection ends meanwhile, DeadlinePassed (the daemon may
        still do it), and InvalidArguments before anything is sent.
        """
        procedure = need_procedure(name)
        try:
            values = args_struct(procedure)(**{**(args or {}), **more})
        except TypeError as exc:
            raise InvalidArguments(f"{name}: {exc}") from exc
        return await self.ask(procedure, values, timeout=timeout)

    async def ask(self, procedure: Procedure, values: Any, *, timeout: float | None = 60.0) -> Any:
        """As `call`, with the arguments as the procedure's `args_struct`."""
        if procedure.fds is not None:
            raise UnsupportedCall(procedure.function)
        result, _ = await self._ask(procedure, values, timeout, has_stream=False)
        return result

    async def ask_with_files(
        self, procedure: Procedure, values: object, fds: Sequence[int] = (), *, timeout: float | None = 60.0
    ) -> tuple[Any, list[int]]:
        """As `ask`, with copies of open files for the daemon; the result, and the files that the daemon gave.

        Raises ArgumentUnsupported where files cannot be passed, as libvirt's client does.
        """
        if self._channel.files is None:
            raise ArgumentUnsupported("fd passing is not supported by this connection", domain=ErrorDomain.DOMAIN)
        result, serial = await self._ask(procedure, values, timeout, has_stream=False, fds=fds)
        return result, self._files.pop(serial, [])

    async def open_stream(
        self, procedure: Procedure, values: Any, *, timeout: float | None = 60.0
    ) -> tuple[Any, DaemonStream]:
        """A call that opens a stream: its result and the stream."""
        result, serial = await self._ask(procedure, values, timeout, has_stream=True)
        return result, self._streams[serial]

    async def _ask(
        self, procedure: Procedure, values: object, timeout: float | None, *, has_stream: bool, fds: Sequence[int] = ()
    ) -> tuple[Any, int]:
        program = PROGRAMS.get(procedure.program)
        if program is None:
            raise UnsupportedCall(procedure.function)
        for field in procedure.args:
            if field.type == "string" and "\0" in (getattr(values, field.name) or ""):
                raise InvalidArguments(f"{procedure.name}: '{field.name}' has a NUL in it")
        try:
            payload = args_codec(procedure).encode(values)
        except XdrError as exc:
            raise InvalidArguments(str(exc)) from exc
        try:
            async with asyncio.timeout(timeout):
                if not procedure.high_priority:
                    await self._gate.acquire()
                return await self._sent(procedure, program, payload, has_stream, fds)
        except TimeoutError as exc:
            raise DeadlinePassed(f"{procedure.name}: '{self.uri.text}' did not answer in time") from exc

    async def _sent(
        self, procedure: Procedure, program: int, payload: bytes, has_stream: bool, fds: Sequence[int]
    ) -> tuple[Any, int]:
        is_gated = not procedure.high_priority
        try:
            if not self.is_open:
                raise _copy(self.closed.result())
            serial, data = self._session.call(program, procedure.number, payload, has_stream=has_stream, fds=len(fds))
        except (VirtError, PacketError) as exc:
            if is_gated:
                self._gate.release()
            if isinstance(exc, PacketError):
                raise InvalidArguments(f"{procedure.name}: {exc}") from exc
            raise
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[serial] = (procedure, answer)
        if is_gated:
            self._gated.add(serial)  # its place is free when it is answered, not when its caller gives up
        if has_stream:
            self._streams[serial] = DaemonStream(self, serial)
        self._channel.write(data)
        if fds:
            self._send_files(fds)
        try:
            return await answer, serial
        except BaseException:
            self._streams.pop(serial, None)
            self._drop_files(serial)
            raise

    def _send_files(self, fds: Sequence[int]) -> None:
        assert self._channel.files is not None
        try:
            for fd in fds:
                self._channel.files.write_file(fd)
        except OSError as exc:
            # the daemon waits for files that do not come: nothing else can follow
            self._end(HypervisorGone(f"the connection to '{self.uri.text}' was given up: {exc.strerror}"))

    def _drop_files(self, serial: int) -> None:
        for fd in self._files.pop(serial, ()):
            os.close(fd)

    # --- what streams need ---

    async def send(self, data: bytes) -> None:
        """Writes bytes of the session, as fast as the daemon reads. Raises HypervisorGone."""
        if not self.is_open:
            raise _copy(self.closed.result())
        self._channel.write(data)
        try:
            await self._channel.writer.drain()
        except OSError as exc:
            raise HypervisorGone(f"the connection to '{self.uri.text}' broke: {exc}") from exc

    @property
    def session(self) -> ClientSession:
        """The rules of this connection."""
        return self._session

    # --- life ---

    async def open(self, *, read_only: bool, ask: Asked | None = None) -> None:
        """Makes the first calls. Raises what the daemon refuses the name with, and AuthFailed and its kin."""
        self._prover = prover = Prover(self.uri, ask, self._channel.ends)
        loop = asyncio.get_running_loop()
        steps = opening(self.uri.name, read_only=read_only, keepalive=self._keepalive_s > 0, prove=prover)
        try:
            step = next(steps)
            while True:
                try:
                    result = await self.call(step.procedure, step.args, timeout=30.0)
                except VirtError as exc:
                    step = steps.throw(exc)
                else:
                    if step.procedure == "auth_sasl_init":
                        prover.prepare(mechanisms_in(result.mechlist))
                    is_proof = prover.uses_library and step.procedure.startswith("auth_sasl_")
                    if is_proof:  # it may wait for a key server
                        step = await loop.run_in_executor(sasl_thread(), steps.send, result)
                        if getattr(result, "complete", 0):
                            self._channel.layer = prover.layer
                    else:
                        step = steps.send(result)
        except StopIteration as done:
            self.opened = done.value
        if self.opened.has_keepalive and self._keepalive_s > 0:
            self._tasks.append(asyncio.create_task(self._keep_alive(), name="daemon keepalive"))

    async def aclose(self) -> None:
        """Takes leave of the daemon and ends the connection."""
        if self.is_open:
            with contextlib.suppress(VirtError):
                await self.call("connect_close", timeout=2.0)
        self._end(HypervisorGone(f"the connection to '{self.uri.text}' was closed here"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._channel.layer = None
        if self._prover is not None:
            self._prover.close()
        await self._channel.aclose()

    async def _read(self) -> None:
        why = "the daemon closed it"
        try:
            while data := await self._channel.read(READ_BYTES):
                self._heard = asyncio.get_running_loop().time()
                self._session.feed(data)
                while (event := self._session.next_event()) is not None:
                    self._take(event)
                if any(stream.is_full for stream in self._streams.values()):
                    await self._wait_for_streams()
        except OSError as exc:
            why = exc.strerror or str(exc)
        except (RemoteProtocolError, PacketError, XdrError, SaslError) as exc:
            why = f"the daemon broke the protocol: {exc}"
        said = await self._channel.last_words()
        self._end(HypervisorGone(f"the connection to '{self.uri.text}' ended: {why}{f' ({said})' if said else ''}"))

    async def _wait_for_streams(self) -> None:
        # Whoever does not read a stream holds up its connection, which is libvirt's own flow control.
        for stream in list(self._streams.values()):
            await stream.wait_for_room()

    def _take(self, event: SessionEvent) -> None:
        if isinstance(event, Replied):
            self._replied(event)
        elif isinstance(event, Failed):
            self._failed(event)
        elif isinstance(event, Told):
            self._told(event)
        elif isinstance(event, Pinged):
            self._channel.write(PONG_BYTES)
        elif isinstance(event, StreamData | StreamHole | StreamEnded):
            stream = self._streams.get(event.serial)
            if stream is not None:
                stream.take(event)
                if isinstance(event, StreamEnded):
                    del self._streams[event.serial]
        else:
            assert isinstance(event, Ponged)

    def _answered(self, serial: int) -> tuple[Procedure, asyncio.Future[Any]]:
        if serial in self._gated:
            self._gated.discard(serial)
            self._gate.release()
        return self._calls.pop(serial)

    def _replied(self, event: Replied) -> None:
        procedure, answer = self._answered(event.serial)
        if event.fds and self._channel.files is not None:
            self._files[event.serial] = self._channel.files.take_files(event.fds)
        if answer.done():
            self._drop_files(event.serial)
            if event.serial not in self._streams and procedure.stream is not None:
                self._channel.write(self._session.stream_abort(event.serial))
            return
        try:
            answer.set_result(result_codec(procedure).decode(event.payload))
        except XdrError as exc:
            self._drop_files(event.serial)
            answer.set_exception(RpcError(str(exc)))

    def _failed(self, event: Failed) -> None:
        if event.of_stream:
            stream = self._streams.pop(event.serial, None)
            if stream is not None:
                stream.fail(event.error)
            return
        procedure, answer = self._answered(event.serial)
        if not answer.done():
            unknown = is_unknown_procedure(event.error)
            answer.set_exception(UnsupportedCall(procedure.function) if unknown else event.error)

    def _told(self, event: Told) -> None:
        kind = _EVENTS.get((event.program, event.procedure))
        if kind is not None and self.on_event is not None:
            payload = event.payload[4:] if kind.has_callback else event.payload
            self.on_event(kind, dict(event_codec(kind).decode(payload)))

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        unanswered = 0
        asked_at = loop.time()
        while self.is_open:
            await asyncio.sleep(self._keepalive_s)
            if self._heard >= asked_at:
                unanswered = 0
            if loop.time() - self._heard < self._keepalive_s:
                continue
            if unanswered >= KEEPALIVE_COUNT:
                self._end(HypervisorGone(f"'{self.uri.text}' does not answer any more"))
                return
            unanswered += 1
            asked_at = loop.time()
            self._channel.write(PING_BYTES)

    def _end(self, why: VirtError) -> None:
        if self.closed.done():
            return
        self.closed.set_result(why)
        for _, answer in self._calls.values():
            if not answer.done():
                answer.set_exception(_copy(why))
        self._calls.clear()
        for _ in self._gated:
            self._gate.release()
        self._gated.clear()
        for stream in self._streams.values():
            stream.fail(_copy(why))
        self._streams.clear()
        self._channel.close()


_EVENTS: Final = {(PROGRAMS[event.program], event.number): event for event in all_events() if event.program in PROGRAMS}


def _copy(error: VirtError) -> VirtError:
    """An error of its own for each waiter: one that is raised twice would collect tracebacks."""
    return type(error)(error.str2)


async def connect_daemon(
    text: str,
    *,
    read_only: bool = False,
    timeout_s: float = 15.0,
    keepalive_s: float = KEEPALIVE_S,
    ask: Asked | None = None,
) -> DaemonConnection:
    """A connection to the daemon that a URI names, opened.

    `keepalive_s` 0 leaves both sides without questions whether the other is alive. `ask` is asked for the name and
    password that libvirt's authentication file does not have.

    Raises InvalidArguments for a text that is no such URI, RpcError when it cannot be reached, AuthFailed, and whatever
    the daemon refuses the name with.
    """
    try:
        uri = parse_remote_uri(text)
    except UriError as exc:
        raise InvalidArguments(str(exc)) from exc
    channel = await open_channel(uri, timeout_s=timeout_s)
    conn = DaemonConnection(uri, channel, keepalive_s)
    try:
        await conn.open(read_only=read_only, ask=ask)
    except BaseException:
        await conn.aclose()
        raise
    return conn
