"""A virtual network, as an object whose methods are calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from client.calling import CallOptions
from schema.objects import NetworkRef

if TYPE_CHECKING:
    from client.connection import Connection


class Network:
    """A virtual network. Every method raises NoSuchNetwork when it is gone."""

    __slots__ = ("_conn", "ref")

    def __init__(self, conn: Connection, ref: NetworkRef) -> None:
        self._conn = conn
        self.ref = ref

    def __repr__(self) -> str:
        return f"<Network {self.name!r} {self.uuid}>"

    @property
    def name(self) -> str:
        """The name."""
        return self.ref.name

    @property
    def uuid(self) -> UUID:
        """What identifies the network for ever."""
        return UUID(bytes=self.ref.uuid)

    async def is_active(self, **options: Unpack[CallOptions]) -> bool:
        """Whether guests can be connected to it now."""
        return bool((await self._ask("network_is_active", options)).active)

    async def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        """Whether its definition outlives it."""
        return bool((await self._ask("network_is_persistent", options)).persistent)

    async def autostart(self, **options: Unpack[CallOptions]) -> bool:
        """Whether it is started with the host."""
        return bool((await self._ask("network_get_autostart", options)).autostart)

    async def bridge(self, **options: Unpack[CallOptions]) -> str:
        """The host's bridge behind it."""
        return str((await self._ask("network_get_bridge_name", options)).name)

    async def xml(self, flags: int = 0, **options: Unpack[CallOptions]) -> str:
        """The definition in force."""
        return str((await self._ask("network_get_xml_desc", options, flags=flags)).xml)

    async def _ask(self, procedure: str, options: CallOptions, **args: object) -> Any:
        return (await self._conn.called(procedure, {"net": self.ref, **args}, options)).result
