"""The library without `await`: the same objects and methods, each call run to its end on a private event loop.

No thread: between two calls nothing runs, which is fine, because the broker waits for nobody and an event stream reads
what it missed from the journal. A connection belongs to the thread that made it. `sync.pyi` tells type checkers what
is here; it is written from the asynchronous classes, and a test holds the two together.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from client import connection as _connection
from client import console as _console
from client import domain as _domain
from client import events as _events
from client import network as _network
from client import storage_pool as _storage_pool
from client.connecting import connect as _connect
from client.event import Event, Resync
from client.link import WAIT_S

if TYPE_CHECKING:
    from remoting.credentials import Asked


class Wrapped:
    """An object of the library whose coroutines are plain methods."""

    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self._runner = runner
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapped) and bool(self._inner == other._inner)

    def __hash__(self) -> int:
        return hash(self._inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._plain(value) if inspect.ismethod(value) else value

    def _plain(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: object, **kwargs: object) -> Any:
            given = {key: _unwrapped(value) for key, value in kwargs.items()}
            answer = method(*map(_unwrapped, args), **given)
            return self._wrapped(self._runner.run(answer) if inspect.iscoroutine(answer) else answer)

        return call

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrapped(item) for item in value]
        kind = _WRAPPERS.get(type(value))
        return value if kind is None else kind(self._runner, value)


class Domain(Wrapped):
    """A guest; see `client.domain.Domain`."""


class Network(Wrapped):
    """A virtual network; see `client.network.Network`."""


class StoragePool(Wrapped):
    """A storage pool; see `client.storage_pool.StoragePool`."""


class Console(Wrapped):
    """A guest's console; see `client.console.Console`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.aclose())


class EventStream(Wrapped):
    """What happens, as a plain iterator; see `client.events.EventStream`."""

    def __iter__(self) -> Iterator[Event | Resync]:
        return self

    def __next__(self) -> Event | Resync:
        try:
            item: Event | Resync = self._runner.run(self._inner.__anext__())
            return item
        except StopAsyncIteration:
            raise StopIteration from None

    def next_within(self, timeout: float) -> Event | Resync | None:
        """The next item, or None when nothing happens within `timeout` seconds; nothing is lost either way."""
        return self._runner.run(_next_within(self._inner, timeout))

    def __enter__(self) -> Self:
        self._runner.run(self._inner.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.aclose())


class Connection(Wrapped):
    """A connection; see `client.connection.Connection`. Close it, or use it as a context manager."""

    def close(self) -> None:
        """Ends the connection and its event loop."""
        try:
            self._runner.run(self._inner.aclose())
        finally:
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    uri: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    read_only: bool = False,
    program: str = "",
    wait_s: float = WAIT_S,
    auth: Asked | None = None,
) -> Connection:
    """Like `virtroupe.connect`, for programs without an event loop of their own."""
    runner = asyncio.Runner()
    try:
        conn = runner.run(_connected(uri, root, read_only, program, wait_s, auth))
    except BaseException:
        runner.close()
        raise
    return Connection(runner, conn)


async def _connected(
    uri: str | None,
    root: str | os.PathLike[str] | None,
    read_only: bool,
    program: str,
    wait_s: float,
    auth: Asked | None,
) -> _connection.Connection:
    return await _connect(uri, root=root, read_only=read_only, program=program, wait_s=wait_s, auth=auth)


async def _next_within(stream: _events.EventStream, timeout: float) -> Event | Resync | None:
    try:
        async with asyncio.timeout(timeout):
            return await anext(stream)
    except (TimeoutError, StopAsyncIteration):
        return None


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Wrapped):
        return value._inner
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_unwrapped(item) for item in value)
    return value


_WRAPPERS: dict[type, type[Wrapped]] = {
    _connection.Connection: Connection,
    _console.Console: Console,
    _domain.Domain: Domain,
    _events.EventStream: EventStream,
    _network.Network: Network,
    _storage_pool.StoragePool: StoragePool,
}
