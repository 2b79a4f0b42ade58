"""Migration from driver to driver: the side that the guest leaves makes all calls of the other side itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from actors.qemu.migration.parameters import MigrationParameters, write_migration_parameters
from remoting.connection import DaemonConnection, connect_daemon
from remoting.stream import DaemonStream
from rpc.uri import UriError, parse_remote_uri
from schema.body import args_struct
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainState
from schema.errors import HostSystemError, InvalidArguments, NoSuchDomain, OperationUnsupported
from schema.objects import DomainRef
from schema.table import need_procedure

_MIGRATION_PARAMS: Final = 13
_P2P: Final = 4
_LONG_S: Final = 600.0
NOT_OVER_THERE: Final = int(Flags.ABORT_ON_ERROR | Flags.AUTO_CONVERGE)
"""Flags that are the business of the side that the guest leaves."""


class Peer:
    """The other side's daemon."""

    def __init__(self, conn: DaemonConnection) -> None:
        self._conn = conn

    async def check(self, *, offline: bool) -> None:
        """Raises OperationUnsupported when the other side cannot take part."""
        for feature in (_P2P, _MIGRATION_PARAMS):
            if not (await self._conn.call("connect_supports_feature", feature=feature)).supported:
                raise OperationUnsupported("Destination libvirt does not support peer-to-peer migration protocol")

    async def prepare(
        self, name: str, xml: str, params: MigrationParameters, cookie: bytes, flags: int
    ) -> tuple[bytes, str | None]:
        """The other side makes a process that waits. Raises what it raises."""
        told = _for_destination(params, name)
        told.dest_xml = xml
        answer = await self._conn.call(
            "domain_migrate_prepare3_params",
            params=write_migration_parameters(told),
            cookie_in=cookie,
            flags=flags,
            timeout=_LONG_S,
        )
        return bytes(answer.cookie_out), answer.uri_out

    async def prepare_tunnel(
        self, name: str, xml: str, params: MigrationParameters, cookie: bytes, flags: int
    ) -> tuple[bytes, DaemonStream]:
        """The same where memory goes through this connection: the stream that takes it. Raises what it raises."""
        told = _for_destination(params, name)
        told.dest_xml, told.uri = xml, None
        procedure = need_procedure("domain_migrate_prepare_tunnel3_params")
        values = args_struct(procedure)(params=write_migration_parameters(told), cookie_in=cookie, flags=flags)
        answer, stream = await self._conn.open_stream(procedure, values, timeout=_LONG_S)
        return bytes(answer.cookie_out), stream

    async def finish(
        self, name: str, params: MigrationParameters, cookie: bytes, flags: int, *, cancelled: bool
    ) -> tuple[DomainRef, bytes]:
        """The guest goes on over there, or is given up. Raises what the other side raises."""
        told = write_migration_parameters(_for_destination(params, name))
        answer: Any = await self._conn.call(
            "domain_migrate_finish3_params",
            params=told,
            cookie_in=cookie,
            flags=flags,
            cancelled=int(cancelled),
            timeout=_LONG_S,
        )
        return answer.dom, bytes(answer.cookie_out)

    async def has_running(self, key: bytes) -> bool:
        """Whether the guest runs over there. Raises what the other side raises, but that it does not know it."""
        try:
            found = await self._conn.call("domain_lookup_by_uuid", uuid=key)
            told = await self._conn.call("domain_get_state", dom=found.dom, flags=0)
        except NoSuchDomain:
            return False
        return int(told.state) == DomainState.RUNNING

    async def close(self) -> None:
        """Takes leave."""
        await self._conn.aclose()


def _for_destination(params: MigrationParameters, name: str) -> MigrationParameters:
    told = MigrationParameters(**{field: getattr(params, field) for field in params.__dataclass_fields__})
    told.dname, told.dest_xml, told.persist_xml = name, None, None
    return told


@contextlib.asynccontextmanager
async def peer_of(uri: str) -> AsyncIterator[Peer]:
    """The daemon of a URI, while the block runs.

    Raises InvalidArguments for what is no such URI, HostSystemError and RpcError when it cannot be reached, and what
    it refuses.
    """
    try:
        parsed = parse_remote_uri(uri)
    except UriError as exc:
        raise InvalidArguments(str(exc)) from exc
    if parsed.transport == "unix" and parsed.socket and not Path(parsed.socket).exists():
        raise HostSystemError(2, f"Failed to connect socket to '{parsed.socket}'")
    peer = Peer(await connect_daemon(uri))
    try:
        yield peer
    finally:
        await asyncio.shield(asyncio.ensure_future(peer.close()))
