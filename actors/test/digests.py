"""Marks of documents, by which a start notices what was written but not told: a definition, or anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from actors.runtime.differences import Events, differences
from actors.runtime.objects import Entry, digest_of
from actors.test.records import DomainRecord, NetworkRecord, PoolRecord

_DEFINITION_BYTES: Final = 8


def digest_of_record(record: msgspec.Struct, data: bytes) -> bytes:
    """The mark of a document: of the definition in it, then of all of it (`data`)."""
    return digest_of(_definition(record).encode()) + digest_of(data)


def changes(old: Entry | None, new: Entry | None) -> Events:
    """What to tell of an object that became another; only another definition counts as defined anew."""
    if old is not None and new is not None and old.digest[:_DEFINITION_BYTES] == new.digest[:_DEFINITION_BYTES]:
        old = replace(old, digest=new.digest)
    return differences(old, new)


def _definition(record: msgspec.Struct) -> str:
    if isinstance(record, DomainRecord):
        return record.config or ""
    if isinstance(record, NetworkRecord):
        return record.next_xml or record.xml
    return record.xml if isinstance(record, PoolRecord) else ""
