"""SASL on libvirt's sockets: a client's proof step by step, and the link that encrypts once it is complete.

On a unix socket and inside TLS any mechanism does that the host offers. On bare TCP only those that encrypt are
offered, and everything behind the reply that completes the proof is encrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, TypeVar

from gateway.auth.sasl_library import SaslLibrary, ServerSession
from gateway.link import ReadBuffer, WrappedLink
from schema.errors import AuthFailed
from settings.config import GatewaySettings
from util.sasl import LEAST_STRENGTH, MOST_STRENGTH, SaslError
from util.structured_log import StructuredLog

FAILURES_MAX: Final = 3
"""A client that failed so often has to connect again."""
_LOG_FAILURES: Final = 2
_REFUSED: Final = "authentication failed"
_T = TypeVar("_T")


class Way(NamedTuple):
    """How a client came: both ends of its connection where there is a network, and how strongly TLS encrypts it."""

    local: str | None
    remote: str | None
    is_private: bool
    strength: int


class SaslHost:
    """The library and the thread in which it is called; both are made when the first client needs them."""

    def __init__(self, settings: GatewaySettings, log: StructuredLog) -> None:
        self.allowed = settings.sasl_allowed_names
        self.log = log
        self._settings = settings
        self._library: SaslLibrary | None = None
        self._thread = ThreadPoolExecutor(1, "sasl")

    def _options(self) -> dict[str, str]:
        options = {}
        if self._settings.sasl_mechanisms:
            options["mech_list"] = " ".join(self._settings.sasl_mechanisms)
        if self._settings.sasl_database:
            options |= {"pwcheck_method": "auxprop", "auxprop_plugin": "sasldb"}
            options["sasldb_path"] = self._settings.sasl_database
        if self._settings.sasl_keytab:
            options["keytab"] = self._settings.sasl_keytab
        return options

    def _say(self, level: int, message: str) -> None:
        if level <= _LOG_FAILURES:
            self.log.info("sasl", message=message)

    async def call(self, function: Callable[[], _T]) -> _T:
        """What a function of the library gives. Raises SaslError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def call_in_thread(self, function: Callable[[], None]) -> None:
        """Has a function called after what is under way; nobody waits for it."""
        with contextlib.suppress(RuntimeError):  # the gateway ends
            self._thread.submit(function)

    def new_session(self, way: Way) -> ServerSession:
        """A session with a client that came this way. Called in the thread. Raises SaslError."""
        if self._library is None:
            self._library = SaslLibrary(self._options(), self._say)
        session = self._library.session(way.local, way.remote)
        try:
            if way.strength:
                session.encrypted_by(way.strength)
            least, most = (0, 0) if way.is_private else (LEAST_STRENGTH, MOST_STRENGTH)
            session.secure(least, most, is_private=way.is_private)
        except SaslError:
            session.close()
            raise
        return session

    def close(self) -> None:
        """Ends the thread, after what is under way."""
        if self._library is not None:
            self.call_in_thread(self._library.close)
        self._thread.shutdown(wait=False)


class Progress(NamedTuple):
    """One step: whether the client is known now, and what it is sent (nothing is another thing than empty)."""

    complete: bool
    data: bytes | None


class SaslProof:
    """What one client has proved so far."""

    kind: Literal["sasl"] = "sasl"

    def __init__(self, host: SaslHost, way: Way) -> None:
        self._host = host
        self._way = way
        self._session: ServerSession | None = None
        self._is_busy = False
        self._is_over = False
        self._started = False
        self.failures = 0
        self.user = ""
        self.layer: ServerSession | None = None
        """What encrypts the connection from now on, once the client is known; nothing where something else does."""

    async def mechanisms(self) -> str:
        """Begins; the mechanisms that the client may choose from. Raises AuthFailed."""
        return await self._step(self._begin)

    async def start(self, mechanism: str, data: bytes | None) -> Progress:
        """The client has chosen. Raises AuthFailed."""
        if self._started:
            raise self._refusal("the client starts twice")
        self._started = True
        return await self._step(lambda: self._moved(self._need().start(mechanism, data)))

    async def step(self, data: bytes | None) -> Progress:
        """The client goes on. Raises AuthFailed."""
        if not self._started:
            raise self._refusal("the client goes on before it has started")
        return await self._step(lambda: self._moved(self._need().step(data)))

    async def _step(self, function: Callable[[], _T]) -> _T:
        if self._is_busy or self._is_over:
            raise self._refusal("the client does not wait for its answer")
        self._is_busy = True
        try:
            return await self._host.call(function)
        except SaslError as exc:
            raise self._refusal(str(exc)) from exc
        finally:
            self._is_busy = False

    def _refusal(self, reason: str) -> AuthFailed:
        self.failures += 1
        self._started = False
        self._host.log.warning("a client did not prove who it is", reason=reason, address=self._way.remote or "")
        return AuthFailed(_REFUSED)

    # --- in the thread ---

    def _begin(self) -> str:
        if self._session is not None:
            self._session.close()
        self._session = self._host.new_session(self._way)
        self._started = False
        return self._session.mechanisms()

    def _need(self) -> ServerSession:
        if self._session is None:
            raise SaslError("the client has not asked for mechanisms")
        return self._session

    def _moved(self, told: tuple[bool, bytes | None]) -> Progress:
        complete, data = told
        if complete:
            session = self._need()
            strength = session.strength()
            if not self._way.is_private and strength < LEAST_STRENGTH:
                raise SaslError(f"encryption of strength {strength}, at least {LEAST_STRENGTH} is needed")
            user = session.user()
            if self._host.allowed and not any(fnmatchcase(user, pattern) for pattern in self._host.allowed):
                raise SaslError(f"'{user}' is not one of those who may connect")
            self.user = user
            self.layer = session if strength and not self._way.is_private else None
        return Progress(complete, data)

    def close(self) -> None:
        """The client is gone."""
        if not self._is_over:
            self._is_over = True
            self._host.call_in_thread(self._end)

    def _end(self) -> None:
        self.layer = None
        if self._session is not None:
            self._session.close()
            self._session = None


class SaslLink(WrappedLink):
    """A link whose bytes are encrypted by SASL once there is a session that does so."""

    __slots__ = ("_layer",)

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, buffer: ReadBuffer, **callbacks: Callable[..., None]
    ) -> None:
        self._layer: ServerSession | None = None
        super().__init__(loop, sock, buffer, **callbacks)

    def encrypt_by(self, session: ServerSession) -> None:
        """From the next byte on, in both directions."""
        self._layer = session

    def _unwrap(self, data: bytes) -> None:
        if self._layer is not None:
            try:
                data = self._layer.decode(data)
            except SaslError:
                self.abort()
                return
            if not data:
                return
        self._plain(data)

    def write(self, data: bytes) -> None:
        """Sends, encrypted if that is agreed. `buffered` counts what encryption made of it."""
        if self._layer is not None and not self.closed:
            try:
                data = self._layer.encode(data)
            except SaslError:
                self.abort()
                return
        super().write(data)
