"""A storage pool, as an object whose methods are calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from client.calling import CallOptions
from schema.enums.storage_pool import StoragePoolState
from schema.objects import StoragePoolRef

if TYPE_CHECKING:
    from client.connection import Connection


@dataclass(frozen=True, slots=True)
class StoragePoolInfo:
    """State and sizes of a pool, in bytes."""

    state: StoragePoolState
    capacity: int
    allocation: int
    available: int


class StoragePool:
    """A place that holds volumes. Every method raises NoSuchStoragePool when it is gone."""

    __slots__ = ("_conn", "ref")

    def __init__(self, conn: Connection, ref: StoragePoolRef) -> None:
        self._conn = conn
        self.ref = ref

    def __repr__(self) -> str:
        return f"<StoragePool {self.name!r} {self.uuid}>"

    @property
    def name(self) -> str:
        """The name."""
        return self.ref.name

    @property
    def uuid(self) -> UUID:
        """What identifies the pool for ever."""
        return UUID(bytes=self.ref.uuid)

    async def is_active(self, **options: Unpack[CallOptions]) -> bool:
        """Whether its volumes can be used now."""
        return bool((await self._ask("storage_pool_is_active", options)).active)

    async def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        """Whether its definition outlives it."""
        return bool((await self._ask("storage_pool_is_persistent", options)).persistent)

    async def autostart(self, **options: Unpack[CallOptions]) -> bool:
        """Whether it is started with the host."""
        return bool((await self._ask("storage_pool_get_autostart", options)).autostart)

    async def info(self, **options: Unpack[CallOptions]) -> StoragePoolInfo:
        """State and sizes."""
        told = await self._ask("storage_pool_get_info", options)
        return StoragePoolInfo(StoragePoolState(told.state), told.capacity, told.allocation, told.available)

    async def xml(self, flags: int = 0, **options: Unpack[CallOptions]) -> str:
        """The definition in force."""
        return str((await self._ask("storage_pool_get_xml_desc", options, flags=flags)).xml)

    async def _ask(self, procedure: str, options: CallOptions, **args: object) -> Any:
        return (await self._conn.called(procedure, {"pool": self.ref, **args}, options)).result
