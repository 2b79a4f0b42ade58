"""Opening, closing and asking about the connection itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.routes import Route, Specials
from schema.enums.admin import ClientTransport
from schema.enums.connect import ConnectFlags
from schema.errors import ErrorCode, ErrorDomain, InternalError, OperationFailed, VirtError

if TYPE_CHECKING:
    from gateway.connection import Connection

FEATURE_FD_PASSING: Final = 8
FEATURE_TYPED_PARAM_STRING: Final = 9
FEATURE_PROGRAM_KEEPALIVE: Final = 10
FEATURE_REMOTE_EVENT_CALLBACK: Final = 14
FEATURE_REMOTE_CLOSE_CALLBACK: Final = 15
FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER: Final = 16
_OURS: Final = {
    FEATURE_TYPED_PARAM_STRING: 1,
    FEATURE_REMOTE_EVENT_CALLBACK: 1,
    FEATURE_REMOTE_CLOSE_CALLBACK: 1,
    FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER: 1,
}


def add_to(specials: Specials) -> None:
    """Adds these answers to the table."""
    specials.awaits("connect_open", before_open=True)(_open)
    specials.awaits("connect_close", before_open=True)(_close)
    specials.answers("connect_get_uri")(_get_uri)
    specials.awaits("connect_supports_feature", before_open=True)(_supports_feature)
    specials.answers("connect_register_close_callback")(_register_close_callback)
    specials.answers("connect_unregister_close_callback")(_unregister_close_callback)


async def _open(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    if connection.scope is not None or connection.opening:
        raise InternalError("connection already open", domain=ErrorDomain.RPC)
    connection.opening = True
    try:
        # libvirt's client also sends what it was told about its own way here: whose daemon, and whether to start it.
        scope = await connection.gateway.scopes.open(args.name, args.flags & ConnectFlags.RO, connection.caller)
    finally:
        connection.opening = False
    if connection.link.closed:
        connection.gateway.scopes.close(scope, connection.caller)
        raise OperationFailed("the client is gone")
    if args.flags & ConnectFlags.RO:
        connection.make_read_only()
    connection.scope = scope
    return {}


async def _close(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    connection.release()
    connection.after_reply(connection.link.close)
    return {}


def _get_uri(connection: Connection, args: Any) -> Mapping[str, Any]:
    return {"uri": connection.need_scope().uri}


async def _supports_feature(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    feature = args.feature
    if feature == FEATURE_PROGRAM_KEEPALIVE:
        connection.wants_keepalive = True
        return {"supported": 1}
    scope = connection.need_scope()
    if feature == FEATURE_FD_PASSING:
        return {"supported": int(connection.transport is ClientTransport.UNIX)}
    if feature in _OURS:
        return {"supported": _OURS[feature]}
    try:
        result, _ = await connection.gateway.forwarder.ask(connection, scope, route, args)
    except VirtError as exc:
        if exc.code == ErrorCode.NO_SUPPORT:
            return {"supported": 0}
        raise
    return {"supported": result.supported}


def _register_close_callback(connection: Connection, args: Any) -> Mapping[str, Any]:
    if connection.wants_close_event:
        raise OperationFailed("A close callback is already registered")
    connection.set_close_event(True)
    return {}


def _unregister_close_callback(connection: Connection, args: Any) -> Mapping[str, Any]:
    if not connection.wants_close_event:
        raise OperationFailed("A different callback was requested")
    connection.set_close_event(False)
    return {}
