"""Long lists from a driver, translated item by item: an item that is the same as last time is not translated again.

Bulk statistics of ten thousand guests are asked for every few seconds, and of most guests the same is told each time.
What libvirt's bytes of an item are depends on the item's own bytes alone, so nothing that is kept here can be out of
date. The younger half of what was asked for lately is kept, within a bound.
"""

from __future__ import annotations

from typing import Final

from rpc.xdr import XdrCodec, result_codec
from schema.body import join_parts, split_parts, unpack_result
from schema.model import Procedure

KEPT_BYTES_MAX: Final = 8 << 20
_COUNT: Final = 4
PROCEDURES: Final = frozenset({"connect_get_all_domain_stats"})
"""Whose results are one list, of items that seldom change."""


class Parts:
    """Translates the results of one procedure."""

    __slots__ = ("_bytes", "_codec", "_old", "_procedure", "_young")

    def __init__(self, procedure: Procedure) -> None:
        self._procedure = procedure
        self._codec: XdrCodec = result_codec(procedure)
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._bytes = 0

    def translate(self, body: bytes | memoryview) -> bytes:
        """The bytes of a result for libvirt's client.

        Raises InvalidMessage for what is no such result, XdrError for what libvirt's protocol cannot carry.
        """
        items = split_parts(self._procedure, body)
        found = [len(items).to_bytes(_COUNT, "big")]
        young, old = self._young, self._old
        for item in items:
            key = bytes(item)
            known = young.get(key)
            if known is None:
                known = old.get(key)
                if known is None:
                    result = unpack_result(self._procedure, join_parts(self._procedure, [item]))
                    known = self._codec.encode(result)[_COUNT:]
                young[key] = known
                self._bytes += len(key) + len(known)
            found.append(known)
        if self._bytes > KEPT_BYTES_MAX:
            self._old, self._young, self._bytes = young, {}, 0
        return b"".join(found)
