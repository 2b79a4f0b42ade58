"""What the admin program is told about this gateway, and what it may change while it runs.

Two servers, as libvirt's daemon has them: `libvirtd` with everybody who uses guests, `admin` with who uses this
program. There are no worker threads; figures about them are nought and cannot be set, but calls under way are counted.
"""

from __future__ import annotations

import grp
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from schema.enums.admin import ClientTransport
from schema.errors import (
    ErrorDomain,
    InternalError,
    InvalidArguments,
    NoSuchClient,
    NoSuchServer,
    OperationFailed,
    OperationUnsupported,
)
from schema.model import LIB_VERSION
from schema.objects import AdminClientRef, AdminServerRef, TypedParam

if TYPE_CHECKING:
    from gateway.server import Gateway

SERVER: Final = "libvirtd"
ADMIN: Final = "admin"
SERVERS: Final = (ADMIN, SERVER)
LOG_LEVELS: Final = {"debug": 1, "info": 2, "warning": 3, "error": 4}
ADMIN_CLIENTS_MAX: Final = 20
_INT: Final = 1
_UINT: Final = 2
_BOOLEAN: Final = 6
_STRING: Final = 7
_RPC: Final = ErrorDomain.RPC

Answer = Mapping[str, Any]


class Client(Protocol):
    """Somebody who is connected."""

    number: int
    since: float
    transport: ClientTransport
    caller: dict[str, Any]
    read_only: bool

    def disconnect(self) -> None:
        """Closes the connection now."""


class AdminAnswers:
    """One method for each procedure, named like it."""

    def __init__(self, gateway: Gateway, log_level: str) -> None:
        self._gateway = gateway
        self._log_level = log_level

    def find(self, procedure: str) -> Callable[[Any], Answer]:
        """What answers a procedure of the admin program."""
        answer: Callable[[Any], Answer] = getattr(self, procedure)
        return answer

    # --- the daemon ---

    def admin_connect_open(self, args: Any) -> Answer:
        _no_flags(args)
        return {}

    def admin_connect_close(self, args: Any) -> Answer:
        return {}

    def admin_connect_get_lib_version(self, args: Any) -> Answer:
        return {"libVer": LIB_VERSION}

    def admin_connect_list_servers(self, args: Any) -> Answer:
        _no_flags(args)
        return {"servers": [AdminServerRef(name) for name in SERVERS] if args.need_results else [], "ret": len(SERVERS)}

    def admin_connect_lookup_server(self, args: Any) -> Answer:
        _no_flags(args)
        return {"srv": AdminServerRef(_known(args.name))}

    def admin_connect_set_daemon_timeout(self, args: Any) -> Answer:
        _no_flags(args)
        if args.timeout:
            raise OperationUnsupported("the gateway does not end by itself when it is idle", domain=_RPC)
        return {}

    # --- its log ---

    def admin_connect_get_logging_outputs(self, args: Any) -> Answer:
        _no_flags(args)
        return {"outputs": f"{LOG_LEVELS[self._gateway.log.level]}:stderr", "noutputs": 1}

    def admin_connect_get_logging_filters(self, args: Any) -> Answer:
        _no_flags(args)
        return {"filters": None, "nfilters": 0}

    def admin_connect_set_logging_outputs(self, args: Any) -> Answer:
        _no_flags(args)
        self._gateway.log.level = _level_of(args.outputs) if args.outputs else self._log_level
        return {}

    def admin_connect_set_logging_filters(self, args: Any) -> Answer:
        _no_flags(args)
        if args.filters:
            raise OperationUnsupported("the gateway's log has no filters by module", domain=_RPC)
        return {}

    # --- its servers ---

    def admin_server_get_threadpool_parameters(self, args: Any) -> Answer:
        _no_flags(args)
        workers = ("minWorkers", "maxWorkers", "nWorkers", "freeWorkers", "prioWorkers")
        waiting = self._gateway.calls_under_way if _known(args.srv.name) == SERVER else 0
        return {
            "params": [*(TypedParam(name, _UINT, 0) for name in workers), TypedParam("jobQueueDepth", _UINT, waiting)]
        }

    def admin_server_set_threadpool_parameters(self, args: Any) -> Answer:
        _no_flags(args)
        _known(args.srv.name)
        raise OperationUnsupported("the gateway has no worker threads", domain=_RPC)

    def admin_server_get_client_limits(self, args: Any) -> Answer:
        _no_flags(args)
        gateway = self._gateway
        if _known(args.srv.name) == SERVER:
            unproved = gateway.greetings + len(gateway.unproved)
            values = (gateway.max_clients, len(gateway.connections), gateway.max_greetings, unproved)
        else:
            values = (ADMIN_CLIENTS_MAX, len(gateway.admin_clients), ADMIN_CLIENTS_MAX, 0)
        names = ("nclients_max", "nclients", "nclients_unauth_max", "nclients_unauth")
        return {"params": [TypedParam(name, _UINT, value) for name, value in zip(names, values, strict=True)]}

    def admin_server_set_client_limits(self, args: Any) -> Answer:
        _no_flags(args)
        if _known(args.srv.name) != SERVER:
            raise OperationUnsupported("the limits of the admin server are fixed", domain=_RPC)
        gateway = self._gateway
        most = {"nclients_max": gateway.max_clients, "nclients_unauth_max": gateway.max_greetings}
        for param in args.params:
            if param.field not in most or param.type != _UINT:
                raise InvalidArguments(f"parameter '{param.field}' is not supported", domain=_RPC)
            most[param.field] = int(param.value)
        if not 0 < most["nclients_unauth_max"] <= most["nclients_max"]:
            detail = "max_clients must be equal to or greater than max_anonymous_clients"
            raise InvalidArguments(detail, domain=_RPC)
        gateway.max_clients = most["nclients_max"]
        gateway.max_greetings = most["nclients_unauth_max"]
        gateway.log.info("client limits are changed", **most)
        return {}

    def admin_server_update_tls_files(self, args: Any) -> Answer:
        _no_flags(args)
        if _known(args.srv.name) != SERVER or self._gateway.reload_tls is None:
            raise OperationFailed("the server does not listen for TLS", domain=_RPC)
        try:
            self._gateway.reload_tls()
        except OSError as exc:
            raise OperationFailed(f"the certificates cannot be used: {exc}", domain=_RPC) from exc
        return {}

    # --- its clients ---

    def admin_server_list_clients(self, args: Any) -> Answer:
        _no_flags(args)
        name = _known(args.srv.name)
        clients = sorted(self._clients(name), key=lambda client: client.number)
        return {
            "clients": [_reference(name, client) for client in clients] if args.need_results else [],
            "ret": len(clients),
        }

    def admin_server_lookup_client(self, args: Any) -> Answer:
        _no_flags(args)
        name = _known(args.srv.name)
        return {"clnt": _reference(name, self._need_client(name, args.id))}

    def admin_client_get_info(self, args: Any) -> Answer:
        _no_flags(args)
        client = self._need_client(_known(args.clnt.srv.name), args.clnt.id)
        return {"params": [*_facts(client)]}

    def admin_client_close(self, args: Any) -> Answer:
        _no_flags(args)
        client = self._need_client(_known(args.clnt.srv.name), args.clnt.id)
        self._gateway.log.info("a client is disconnected by the administrator", client=client.number)
        self._gateway.loop.call_soon(client.disconnect)  # who disconnects itself is answered first
        return {}

    def _clients(self, server: str) -> Iterable[Client]:
        return self._gateway.connections if server == SERVER else self._gateway.admin_clients

    def _need_client(self, server: str, number: int) -> Client:
        for client in self._clients(server):
            if client.number == number:
                return client
        raise NoSuchClient(f"No client with matching ID '{number}'", domain=_RPC)


def _no_flags(args: Any) -> None:
    if args.flags:
        raise InvalidArguments(f"unsupported flags (0x{args.flags:x})", domain=_RPC)


def _known(server: str) -> str:
    if server not in SERVERS:
        raise NoSuchServer(f"No server named '{server}'", domain=_RPC)
    return server


def _reference(server: str, client: Client) -> AdminClientRef:
    return AdminClientRef(AdminServerRef(server), client.number, int(client.since), int(client.transport))


def _level_of(outputs: str) -> str:
    """Our level for libvirt's words. Raises what keeps them from being obeyed."""
    level, _, place = outputs.strip().partition(":")
    names = {str(number): name for name, number in LOG_LEVELS.items()}
    if level not in names:
        raise InternalError(f"Invalid priority '{level}' for output '{outputs}'", domain=_RPC)
    if place != "stderr":
        raise OperationUnsupported("the gateway logs to its standard error only, which supervisord files", domain=_RPC)
    return names[level]


def _facts(client: Client) -> Iterable[TypedParam]:
    caller = client.caller
    yield TypedParam("readonly", _BOOLEAN, int(client.read_only))
    if client.transport is ClientTransport.UNIX:
        yield TypedParam("unix_user_id", _INT, _signed(caller["uid"]))
        yield TypedParam("unix_user_name", _STRING, caller["user"])
        yield TypedParam("unix_group_id", _INT, _signed(caller["gid"]))
        try:
            group = grp.getgrgid(caller["gid"]).gr_name
        except KeyError:
            group = str(caller["gid"])
        yield TypedParam("unix_group_name", _STRING, group)
        yield TypedParam("unix_process_id", _INT, caller["pid"])
        return
    yield TypedParam("sock_addr", _STRING, caller["address"])
    if client.transport is ClientTransport.TLS:
        yield TypedParam("tls_x509_dname", _STRING, caller["x509"])
    if "sasl" in caller:
        yield TypedParam("sasl_user_name", _STRING, caller["sasl"])


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
