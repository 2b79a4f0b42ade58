"""Fetches the documents of guests into the read model before anybody asks, so that they can be told when nobody can.

While a driver is given up, its guests' XML is answered as it was last known; what nobody had read would not be known.
So a guest that did not change for a while has its document fetched, one at a time and slowly, into half of the room
that the read model has for documents. While guests are being changed one after the other that waits, for it would slow
down the changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.domains import XML_BYTES_MAX, KnownDomain, xdr_text
from gateway.replica import View
from gateway.scopes import Calling
from schema.body import pack_args, unpack_result
from schema.errors import VirtError
from schema.objects import DomainRef
from schema.table import need_procedure

PACE_S: Final = 0.005
DEADLINE_S: Final = 5.0
QUIET_S: Final = 0.5
"""Nothing is fetched before so long after the last change,"""
OVERDUE_S: Final = 60.0
"""unless a document has been due for so long."""
PLAIN: Final = bytes(4)  # flags 0, as a client sends them


class Documents:
    """The guests whose documents are to be fetched, those first that changed first."""

    def __init__(self, peer: Calling, clock: Callable[[], float], settle_s: float) -> None:
        self._peer = peer
        self._clock = clock
        self._settle_s = settle_s
        self._pending: dict[tuple[str, str, bytes], tuple[View, float]] = {}
        self._news = asyncio.Event()
        self._quiet_s = min(QUIET_S, settle_s)
        self._changed_at = clock() - QUIET_S

    def changed(self, view: View, uuid: bytes) -> None:
        """A guest is there, or is not what it was."""
        if self._settle_s > 0:
            key = view.replica.source, view.scope, uuid
            self._pending.pop(key, None)
            self._pending[key] = view, self._clock() + self._settle_s
            self._changed_at = self._clock()
            self._news.set()

    async def run(self) -> None:
        """Fetches until it is cancelled."""
        while True:
            if not self._pending:
                self._news.clear()
                await self._news.wait()
            key, (view, due) = next(iter(self._pending.items()))
            now = self._clock()
            wait = due - now
            if wait > -OVERDUE_S:
                wait = max(wait, self._changed_at + self._quiet_s - now)
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            del self._pending[key]
            known = view.domains.by_uuid.get(key[2])
            if known is not None and PLAIN not in known.xml and view.domains.xml_bytes < XML_BYTES_MAX // 2:
                await self._fetch(view, known)
                await asyncio.sleep(PACE_S)

    async def _fetch(self, view: View, known: KnownDomain) -> None:
        row = need_procedure("domain_get_xml_desc")
        dom = DomainRef(known.name, known.uuid, known.summary["id"])
        try:
            reply = await self._peer.call(
                view.replica.source,
                row.name,
                pack_args(row, {"dom": dom, "flags": 0}),
                scope=view.scope,
                key=known.uuid,
                deadline_s=DEADLINE_S,
            )
        except VirtError:
            return  # it is gone, or its driver is: the next change or the next reader finds out
        if view.replica.seq >= reply.seq and reply.source == view.replica.source:
            view.domains.keep_xml(known, PLAIN, xdr_text(unpack_result(row, reply.body).xml))
