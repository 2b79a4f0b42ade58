"""Reads of a judged client from the read model, where the policy allows them.

Who asks is the same as long as the connection lasts, so each verdict about an object is found once. What is not
answered here, for whatever reason, goes the long way, where a refusal is told and logged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.domains import YES, KnownDomain
from gateway.hosts import KnownObject
from gateway.reads import DOMAIN_LIST_MAX, find_domain, read_unknown
from gateway.replica import View
from gateway.routes import Route
from schema.access_policy import Judge, Thing
from schema.host_summaries import known_flags, selection
from schema.model import Permission
from schema.summaries import LIST_DOMAINS_FLAGS, domain_selection

VERDICTS_MAX: Final = 65536
_UUID: Final = 16
_word: Final = struct.Struct(">I")
_words: Final = struct.Struct(">iI")
_ZERO: Final = bytes(4)

Known = KnownDomain | KnownObject
Counts = Callable[[Any], bool]

_DOMAIN_KEYS: Final = {
    "domain_lookup_by_name": "by_name",
    "domain_lookup_by_uuid": "by_uuid",
    "domain_lookup_by_id": "by_id",
}
_HOST_LISTS: Final = {
    "connect_list_all_networks": "network",
    "connect_list_all_storage_pools": "storage_pool",
    "connect_list_all_interfaces": "interface",
    "connect_list_all_secrets": "secret",
    "connect_list_all_nwfilters": "nwfilter",
}
_HOST_COUNTS: Final[dict[str, tuple[str, Counts]]] = {
    "connect_num_of_networks": ("network", lambda summary: bool(summary["active"])),
    "connect_num_of_defined_networks": ("network", lambda summary: not summary["active"]),
}
_HOST_TYPES: Final = ("network", "storage_pool", "interface", "node_device", "secret", "nwfilter")


class GuardedReads:
    """The reads of one client."""

    def __init__(self, judge: Judge, number: int) -> None:
        self._judge = judge
        self._number = number
        self._verdicts: dict[tuple[str, str, Thing], bool] = {}

    def answer(self, view: View, route: Route, payload: bytes, *, is_unknown: bool = False) -> bytes | None:
        """The answer to a read, or nothing where it is not for the read model to give."""
        procedure = route.procedure
        conditional = [permission for permission in procedure.acl if permission.is_conditional]
        if conditional:
            values = msgspec.structs.asdict(route.args.decode(payload))
            if any(permission.applies(values.get("flags", 0), values) for permission in conditional):
                return None
        rules = [permission for permission in procedure.acl if not permission.is_conditional]
        known = self._object(procedure.name, view, payload)
        for rule in rules:
            if rule.object == "connect":
                if not self._may(rule.object, rule.name, Thing()):
                    return None
            elif known is None or not self._may(rule.object, rule.name, thing_of_known(rule.object, known)):
                return None
        if procedure.aclfilter:
            return self._listed(procedure.name, procedure.aclfilter[0], view, payload)
        if route.reader is None:
            return None
        return read_unknown(procedure.name, view, payload) if is_unknown else route.reader(view, payload)

    def _may(self, kind: str, permission: str, thing: Thing) -> bool:
        key = (kind, permission, thing)
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS_MAX:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._judge.may(kind, permission, thing)
        return verdict

    @staticmethod
    def _object(name: str, view: View, payload: bytes) -> Known | None:
        keys = _DOMAIN_KEYS.get(name)
        if keys is not None:
            found: KnownDomain | None = getattr(view.domains, keys).get(payload)
            return found
        if name.startswith("domain_"):
            return find_domain(view.domains, payload)[0]
        for type_ in _HOST_TYPES:
            if name.startswith(type_ + "_"):
                objects = view.hosts[type_]
                if name.endswith("_lookup_by_name"):
                    return objects.by_name.get(payload)
                if name.endswith("_lookup_by_uuid"):
                    return objects.by_key.get(payload)
                return objects.by_key.get(payload[-_UUID:])  # a reference: the name, then the uuid, and nothing more
        return None

    # --- lists ---

    def _listed(self, name: str, rule: Permission, view: View, payload: bytes) -> bytes | None:
        if name in ("connect_num_of_domains", "connect_num_of_defined_domains"):
            if payload:
                return None
            is_active = name == "connect_num_of_domains"
            chosen = (known for known in view.domains.by_uuid.values() if (known.active == YES) is is_active)
            return _word.pack(len(self._visible(rule, chosen)))
        if name in _HOST_COUNTS:
            type_, counts = _HOST_COUNTS[name]
            if payload:
                return None
            held = (known for known in view.hosts[type_].by_key.values() if counts(known.summary))
            return _word.pack(len(self._visible(rule, held)))
        if len(payload) != _words.size:
            return None
        need_results, flags = _words.unpack(payload)
        if name == "connect_list_all_domains":
            if flags & ~LIST_DOMAINS_FLAGS or (need_results and len(view.domains.by_uuid) > DOMAIN_LIST_MAX):
                return None

            def make() -> bytes:
                wanted = domain_selection(flags)
                found = (known for known in view.domains.by_uuid.values() if wanted(known.summary))
                return _list(need_results, self._visible(rule, found))

            return view.domains.kept_list(("guarded", self._number, payload), make)
        type_ = _HOST_LISTS.get(name, "")
        if not type_ or flags & ~known_flags(type_):
            return None
        wanted = selection(type_, flags)
        listed = (known for known in view.hosts[type_].by_key.values() if wanted(known.summary))
        refs = self._visible(rule, listed)
        return None if need_results and len(refs) > DOMAIN_LIST_MAX else _list(need_results, refs)

    def _visible(self, rule: Permission, objects: Iterable[Known]) -> list[bytes]:
        return [known.ref for known in objects if self._may(rule.object, rule.name, thing_of_known(rule.object, known))]


def _list(need_results: int, refs: list[bytes]) -> bytes:
    count = _word.pack(len(refs))
    return count + b"".join(refs) + count if need_results else _ZERO + count


def thing_of_known(kind: str, known: Known) -> Thing:
    """An object of the read model as rules see it."""
    if isinstance(known, KnownDomain):
        return Thing(known.name, str(UUID(bytes=known.uuid)), tuple(known.summary.get("tags", ())))
    if kind == "secret":
        return Thing(known.summary["usage_id"] or "", str(UUID(bytes=known.key)))
    length = int.from_bytes(known.name[:4], "big")
    name = known.name[4 : 4 + length].decode("utf-8", "surrogateescape")
    return Thing(name, str(UUID(bytes=known.key)) if kind in ("network", "storage_pool", "nwfilter") else "")
