"""The tags of guests as a judged client meets them: those that a guest has, and those that a call would give it.

They are in the read model with all else that is told of a guest. Where that may not be believed at the moment, and for
guests on other hosts, the driver is asked, so that a caller's own change of a tag counts from its next call on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from conf.document import parse_document
from conf.domain.tags import NAMESPACE, tags_of_domain, tags_of_element
from gateway.access.reads import thing_of_known
from gateway.access.things import thing_in_arguments, thing_of
from gateway.domains import DomainView, KnownDomain, xdr_text
from schema.access_policy import Thing
from schema.enums.domain import DomainMetadataType
from schema.errors import NoDomainMetadata, NoSuchDomain, UnsupportedCall, VirtError
from schema.model import Procedure
from schema.objects import DomainRef
from settings.drivers import REMOTE

if TYPE_CHECKING:
    from gateway.access.guard import GuardedConnection

AT_ONCE: Final = 32
MAKES_OTHER: Final = frozenset(
    {
        "domain_create_xml",
        "domain_create_xml_with_files",
        "domain_define_xml",
        "domain_define_xml_flags",
        "domain_managed_save_define_xml",
        "domain_rename",
        "domain_revert_to_snapshot",
        "domain_set_metadata",
    }
)
"""Calls after which a guest may have another name or other tags than before."""


class Tags:
    """What one client needs to know of them."""

    def __init__(self, connection: GuardedConnection) -> None:
        self._connection = connection

    async def on(self, kind: str, thing: Thing) -> Thing:
        """The thing with the tags that it has. Raises what the driver answers when it cannot tell them."""
        if kind != "domain" or not thing.uuid or not self._connection.needs_tags:
            return thing
        known = self._known(UUID(thing.uuid).bytes)
        if known is not None:
            return thing._replace(tags=thing_of_known(kind, known).tags)
        dom = DomainRef(thing.name, UUID(thing.uuid).bytes, -1)
        asked = {"dom": dom, "type": int(DomainMetadataType.ELEMENT), "uri": NAMESPACE, "flags": 0}
        try:
            found = await self._connection.ask("domain_get_metadata", asked)
        except (NoDomainMetadata, NoSuchDomain, UnsupportedCall):
            return thing._replace(tags=())
        return thing._replace(tags=tags_of_element(found.metadata))

    async def on_all(self, kind: str, things: Sequence[Thing]) -> Sequence[Thing]:
        """The same for many."""
        if kind != "domain" or not self._connection.needs_tags:
            return things
        found: list[Thing] = []
        for first in range(0, len(things), AT_ONCE):
            found += await asyncio.gather(*(self.on(kind, thing) for thing in things[first : first + AT_ONCE]))
        return found

    def told(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """The tags of the guest that an event is about; of one that is gone, those that it had."""
        summary = record["summary"]
        if summary is not None:
            return tuple(summary.get("tags", ()))
        view = self._connection.gateway.feed.replica(record["source"]).view(record["scope"])
        gone = view.domains.gone.get(record["object"][1])
        return () if gone is None else thing_of_known("domain", gone).tags

    async def described(self, procedure: Procedure, args: object) -> Thing | None:
        """The guest that a document would make another one, as it is; nothing where it makes a new one."""
        described = thing_in_arguments(procedure, "domain", args)
        if not described.name and not described.uuid:
            return None
        known = self._known(UUID(described.uuid).bytes) if described.uuid else self._named(described.name)
        if known is not None:
            return thing_of_known("domain", known)
        try:
            if described.uuid:
                found = await self._connection.ask("domain_lookup_by_uuid", {"uuid": UUID(described.uuid).bytes})
            else:
                found = await self._connection.ask("domain_lookup_by_name", {"name": described.name})
        except NoSuchDomain:
            return None
        return await self.on("domain", thing_of(found.dom))

    async def after(self, procedure: Procedure, args: object, before: Thing) -> list[Thing]:
        """What the guest may be after a call; nothing for a document that will be refused anyway."""
        try:
            if procedure.name == "domain_rename":
                return [before._replace(name=getattr(args, "new_name", None) or "")]
            if procedure.name == "domain_set_metadata":
                return _with_metadata(args, before)
            if procedure.name == "domain_revert_to_snapshot":
                found = await self._connection.ask(
                    "domain_snapshot_get_xml_desc", {"snap": getattr(args, "snap", None), "flags": 0}
                )
                moment = parse_document(found.xml)
                kept = (*moment.iterchildren("domain"), *moment.iterchildren("inactiveDomain"))
                return [before._replace(tags=tags_of_domain(one)) for one in kept]
            xml = next((getattr(args, name) for name in ("xml", "xml_desc", "dxml") if getattr(args, name, None)), None)
            return [] if xml is None else [before._replace(tags=tags_of_domain(parse_document(xml)))]
        except VirtError:
            if procedure.name == "domain_revert_to_snapshot":
                raise
            return []  # the driver will refuse it, and find the right words

    # --- the read model ---

    def _known(self, uuid: bytes) -> KnownDomain | None:
        return None if (view := self._believed()) is None else view.by_uuid.get(uuid)

    def _named(self, name: str) -> KnownDomain | None:
        return None if (view := self._believed()) is None else view.by_name.get(xdr_text(name))

    def _believed(self) -> DomainView | None:
        connection = self._connection
        view = connection.need_scope().view
        gateway = connection.gateway
        if view.replica.source == REMOTE or not view.replica.is_current(gateway.clock(), gateway.fresh_s):
            return None
        return view.domains


def _with_metadata(args: object, before: Thing) -> list[Thing]:
    kind, metadata, uri = (getattr(args, name) for name in ("type", "metadata", "uri"))
    if kind != DomainMetadataType.ELEMENT:
        return []
    if uri == NAMESPACE:
        return [before._replace(tags=tags_of_element(metadata) if metadata else ())]
    if metadata and NAMESPACE in metadata:
        return [before._replace(tags=tuple(sorted({*before.tags, *tags_of_element(metadata)})))]
    return []
