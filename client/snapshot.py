"""What exists now, asked of the drivers themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.event import KnownObject, key_bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of all drivers that answered; `unknown` names those that did not.

    Nothing may be concluded from the absence of an object of an unknown driver.
    """

    objects: Sequence[KnownObject]
    unknown: Sequence[str] = ()


def known_objects(source: str, records: Iterable[Mapping[str, Any]], scope: str | None = None) -> list[KnownObject]:
    """The objects in an answer to `actor_snapshot`, those of one scope when it is given.

    An object without a scope, such as a host device, belongs to all.
    """
    return [
        KnownObject(
            source=source,
            type=record["type"],
            key=key_bytes(record["key"]),
            name=record["name"],
            version=record.get("version") or 0,
            summary=record.get("summary") or {},
        )
        for record in records
        if scope is None or record.get("scope") in ("", None, scope)
    ]
