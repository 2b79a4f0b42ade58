"""Handlers for every call of libvirt's protocol: to the daemon that the call's scope names, and its answer back.

They are made from the table. A change is written down before it is sent, so that one whose driver died meanwhile is
not sent twice: its caller is told that nobody knows what became of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.remote.far_side import ask, ask_with_files
from actors.remote.files import join
from actors.remote.host import RemoteHost
from actors.remote.streaming import open_line
from actors.runtime.calls import Calls, Handler
from actors.runtime.files import call_file, call_files
from actors.runtime.mailbox import Lane
from remoting.objects import objects_in
from rpc.client_session import PROGRAMS
from schema.body import args_struct
from schema.model import Procedure
from schema.table import all_procedures

_OWN: Final = frozenset(("connect_open", "connect_close", "connect_get_uri"))
_OF_EACH_CONNECTION: Final = ("auth_", "qemu_connect_domain_monitor_event_")
"""A client's own affair with its daemon, which our gateway settles itself."""
_LOCAL_FILES: Final = frozenset(("lxc_domain_open_namespace",))
"""A namespace that is open here is one of this host."""

calls: Calls[RemoteHost] = Calls()


def is_forwarded(procedure: Procedure) -> bool:
    """Whether a call means the same to the far side as to this one."""
    name = procedure.name
    return (
        procedure.program in PROGRAMS
        and name not in _OWN
        and not name.startswith(_OF_EACH_CONNECTION)
        and "register" not in name
        and name not in _LOCAL_FILES
    )


def forwarder(procedure: Procedure) -> Handler:
    """The handler that sends a call on."""
    names = tuple(field.name for field in procedure.args)
    struct = args_struct(procedure)

    def make(*values: Any) -> Any:
        return struct(**dict(zip(names, values, strict=True)))

    if procedure.fds == "reply":
        function = _file_receiver(procedure, make)
    elif procedure.fds is not None:
        function = _file_forwarder(procedure, make)
    elif procedure.stream is not None:
        function = _stream_forwarder(procedure, make)
    elif procedure.is_read:
        function = _read_forwarder(procedure, make)
    else:
        function = _change_forwarder(procedure, make)
    function.__name__ = procedure.name
    return Handler(procedure, function, names, None, Lane.QUERY, None, is_plain=False)


Forward = Callable[..., Awaitable[Any]]


def _read_forwarder(procedure: Procedure, make: Callable[..., Any]) -> Forward:
    async def forward(host: RemoteHost, *values: Any) -> Any:
        return await host.side().read(procedure, make(*values))

    return forward


def _change_forwarder(procedure: Procedure, make: Callable[..., Any]) -> Forward:
    async def forward(host: RemoteHost, *values: Any) -> Any:
        side = host.side()
        args = make(*values)
        conn = await side.connection()
        async with host.intents.change("forward", {"procedure": procedure.name}) as intent:
            result = await ask(conn, procedure, args)
            if procedure.ret:
                intent.result(result)
        results = [getattr(result, field.name) for field in procedure.ret]
        await side.look_at(objects_in([*values, *results]))
        return result

    return forward


def _file_forwarder(procedure: Procedure, make: Callable[..., object]) -> Forward:
    async def forward(host: RemoteHost, *values: object) -> object:
        side = host.side()
        args = make(*values)
        conn = await side.connection()
        async with call_files() as fds, host.intents.change("forward", {"procedure": procedure.name}) as intent:
            result, _ = await ask_with_files(conn, procedure, args, fds)
            if procedure.ret:
                intent.result(result)
        results = [getattr(result, field.name) for field in procedure.ret]
        await side.look_at(objects_in([*values, *results]))
        return result

    return forward


def _file_receiver(procedure: Procedure, make: Callable[..., object]) -> Forward:
    async def forward(host: RemoteHost, *values: object) -> object:
        args = make(*values)
        conn = await host.side().connection()
        async with call_file() as fds:
            result, got = await ask_with_files(conn, procedure, args, ())
            await join(host.side(), fds, got)
        return result if procedure.ret else None

    return forward


def _stream_forwarder(procedure: Procedure, make: Callable[..., Any]) -> Forward:
    async def forward(host: RemoteHost, *values: object) -> object:
        return await open_line(host.side(), procedure, make(*values))

    return forward


for _procedure in all_procedures():
    if is_forwarded(_procedure):
        calls.add(forwarder(_procedure))
