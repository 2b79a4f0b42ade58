"""Which guest a person means: the text is an id, a uuid or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from client.calling import CallOptions
from client.domain import Domain
from client.errors import NoSuchDomain

if TYPE_CHECKING:
    from client.connection import Connection

_ID_MAX = 2**31 - 1


async def find_domain(conn: Connection, which: str | int | UUID, options: CallOptions) -> Domain:
    """The guest of that id, uuid or name.

    Raises NoSuchDomain, with the text as the caller wrote it.
    """
    if isinstance(which, UUID):
        return await conn.domain_by_uuid(which, **options)
    if isinstance(which, int):
        return await conn.domain_by_id(which, **options)
    try:
        if which.isascii() and which.isdecimal() and int(which) <= _ID_MAX:
            return await conn.domain_by_id(int(which), **options)
        if (uuid := _uuid(which)) is not None:
            return await conn.domain_by_uuid(uuid, **options)
    except NoSuchDomain:
        pass  # a guest may be named like an id
    return await conn.domain_by_name(which, **options)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) in (32, 36) else None
    except ValueError:
        return None
