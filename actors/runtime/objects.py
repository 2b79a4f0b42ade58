"""What this driver has: the objects whose summaries lists, lookups and states are answered from.

One object is known by (type, scope, key). Every change goes through `put` and `drop`, which number it, write it to the
ledger and publish it in one step without a pause, so that no answer can be ahead of its event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from actors.runtime.context import find_call
from schema import objects as refs
from schema.errors import NoSuchDomain

EventList = Sequence[tuple[str, Mapping[str, Any]]]
Identity = tuple[str, str, bytes | str]
CHANGED: Final[EventList] = (("changed", {}),)
TOMBSTONES_MAX: Final = 16384


@dataclass(slots=True, eq=False)
class Entry:
    """One object as it was last published."""

    type: str
    scope: str
    key: bytes | str
    name: str
    summary: dict[str, Any]
    version: int = 1
    digest: bytes = b""

    @property
    def identity(self) -> Identity:
        return (self.type, self.scope, self.key)

    @property
    def ref(self) -> Any:
        """The reference by which the API names it."""
        return _REFS[self.type](self)

    def equals(self, other: Entry) -> bool:
        """Whether an answer could tell them apart."""
        return self.name == other.name and self.has_definition_of(other) and self.summary == other.summary

    def has_definition_of(self, other: Entry) -> bool:
        """Whether both have the same definition, as far as that is known."""
        return not self.digest or not other.digest or self.digest == other.digest


@dataclass(slots=True)
class Shelf:
    """The objects of one type in one scope, by key, by name and by id."""

    by_key: dict[bytes | str, Entry] = field(default_factory=dict)
    by_name: dict[str, Entry] = field(default_factory=dict)
    by_id: dict[int, Entry] = field(default_factory=dict)


class Recorder(Protocol):
    """Where a change goes: the ledger and, from there, the broker."""

    def record(
        self, events: EventList, entry: Entry | None, *, gone: bool = False, origin: str | None = None
    ) -> None: ...


class Objects:
    """The live registry of one actor."""

    def __init__(self) -> None:
        self._shelves: dict[tuple[str, str], Shelf] = {}
        self._tombs: dict[Identity, int] = {}
        self._recorder: Recorder | None = None

    def attach(self, recorder: Recorder) -> None:
        """From here on changes are published."""
        self._recorder = recorder

    def put(
        self,
        type: str,
        key: bytes | str,
        name: str,
        summary: Mapping[str, Any],
        *,
        events: EventList | None = None,
        digest: bytes = b"",
        xml_changed: bool = True,
        origin: str | None = None,
    ) -> Entry:
        """The object is now like this; `events` tell how it came to be so (none given: one `changed`).

        While the actor starts it does what `restore` does: what to publish is decided when all objects are known.
        Raises InvalidMessage when an event's data does not fit the schema; nothing changed then.
        """
        scope = str(summary.get("scope", ""))
        old = self.find(type, key, scope)
        version = (old.version if old is not None else self._tombs.get((type, scope, key), 0)) + 1
        if old is not None and not digest and not xml_changed:
            digest = old.digest
        entry = Entry(type, scope, key, name, dict(summary), version, digest)
        self._record(entry, events, gone=False, origin=origin)
        self.place(entry)
        return entry

    def drop(
        self,
        type: str,
        key: bytes | str,
        *,
        events: EventList | None = None,
        scope: str | None = None,
        origin: str | None = None,
    ) -> Entry | None:
        """The object is gone. Gives it as it was; None, and no event, when there was none."""
        old = self.find(type, key, scope)
        if old is None:
            return None
        gone = Entry(old.type, old.scope, old.key, old.name, old.summary, old.version + 1, old.digest)
        self._record(gone, events, gone=True, origin=origin)
        self.remove(gone)
        return old

    def restore(
        self, type: str, key: bytes | str, name: str, summary: Mapping[str, Any], *, digest: bytes = b""
    ) -> Entry:
        """Says, while the actor starts, that this object is real; what to publish is decided when all are known."""
        entry = Entry(type, str(summary.get("scope", "")), key, name, dict(summary), 1, digest)
        self.place(entry)
        return entry

    def find(self, type: str, key: bytes | str, scope: str | None = None) -> Entry | None:
        """The object of that key. Without a scope: that of the current call, else whichever has it."""
        for shelf in self._search(type, scope):
            entry = shelf.by_key.get(key)
            if entry is not None:
                return entry
        return None

    def find_by_name(self, type: str, name: str, scope: str | None = None) -> Entry | None:
        """The object of that name."""
        for shelf in self._search(type, scope):
            entry = shelf.by_name.get(name)
            if entry is not None:
                return entry
        return None

    def find_domain_by_id(self, id: int, scope: str | None = None) -> Entry | None:
        """The running guest of that id."""
        for shelf in self._search("domain", scope):
            entry = shelf.by_id.get(id)
            if entry is not None:
                return entry
        return None

    def all(self, type: str, scope: str | None = None) -> list[Entry]:
        """Every object of a type, in the order in which they came. Without a scope: of the current call's, else all."""
        if scope is None:
            call = find_call()
            scope = "" if call is None else call.scope
        if scope:
            shelf = self._shelves.get((type, scope))
            return [] if shelf is None else list(shelf.by_key.values())
        return [entry for key, shelf in self._shelves.items() if key[0] == type for entry in shelf.by_key.values()]

    def everything(self) -> Iterator[Entry]:
        """Every object of every type."""
        for shelf in self._shelves.values():
            yield from shelf.by_key.values()

    def need_domain(self, dom: refs.DomainRef | bytes) -> Entry:
        """The guest that a reference or uuid names.

        Raises NoSuchDomain when there is none.
        """
        uuid = dom if isinstance(dom, bytes) else dom.uuid
        entry = self.find("domain", uuid)
        if entry is None:
            name = "" if isinstance(dom, bytes) else f" ({dom.name})"
            raise NoSuchDomain(f"no domain with matching uuid '{format_uuid(uuid)}'{name}")
        return entry

    def place(self, entry: Entry) -> None:
        """Puts an entry where lookups find it, without telling anybody."""
        shelf = self._shelves.setdefault((entry.type, entry.scope), Shelf())
        old = shelf.by_key.get(entry.key)
        if old is not None:
            _forget(shelf, old)
        shelf.by_key[entry.key] = entry
        shelf.by_name[entry.name] = entry
        number = entry.summary.get("id", -1)
        if number != -1:
            shelf.by_id[number] = entry
        self._tombs.pop(entry.identity, None)

    def remove(self, entry: Entry) -> None:
        """Takes an entry away without telling anybody; its version is remembered."""
        shelf = self._shelves.get((entry.type, entry.scope))
        old = None if shelf is None else shelf.by_key.pop(entry.key, None)
        if shelf is not None and old is not None:
            _forget(shelf, old)
            if not shelf.by_key:
                del self._shelves[entry.type, entry.scope]
        self.bury(entry.identity, entry.version)

    def bury(self, identity: Identity, version: int) -> None:
        """Remembers the version of an object that is gone: if it comes again, it goes on from there."""
        self._tombs[identity] = version
        if len(self._tombs) > TOMBSTONES_MAX:
            del self._tombs[next(iter(self._tombs))]

    @property
    def tombs(self) -> Mapping[Identity, int]:
        """The last versions of objects that are gone."""
        return self._tombs

    def _record(self, entry: Entry, events: EventList | None, *, gone: bool, origin: str | None) -> None:
        if self._recorder is not None:
            self._recorder.record(events or CHANGED, entry, gone=gone, origin=origin)

    def _search(self, type: str, scope: str | None) -> Iterator[Shelf]:
        if scope is None:
            call = find_call()
            if call is not None and call.scope:
                shelf = self._shelves.get((type, call.scope))
                if shelf is not None:
                    yield shelf
                return
            yield from (shelf for key, shelf in self._shelves.items() if key[0] == type)
            return
        shelf = self._shelves.get((type, scope))
        if shelf is not None:
            yield shelf


def _forget(shelf: Shelf, old: Entry) -> None:
    if shelf.by_name.get(old.name) is old:
        del shelf.by_name[old.name]
    number = old.summary.get("id", -1)
    if shelf.by_id.get(number) is old:
        del shelf.by_id[number]


def digest_of(data: bytes) -> bytes:
    """A short mark of a definition, by which a change of it is noticed."""
    return hashlib.blake2b(data, digest_size=8).digest()


def format_uuid(uuid: bytes) -> str:
    """A uuid with dashes."""
    text = uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _key_bytes(entry: Entry) -> bytes:
    return entry.key if isinstance(entry.key, bytes) else entry.key.encode()


def _domain_ref(entry: Entry) -> refs.DomainRef:
    return refs.DomainRef(entry.name, _key_bytes(entry), entry.summary.get("id", -1))


def _interface_ref(entry: Entry) -> refs.InterfaceRef:
    return refs.InterfaceRef(entry.name, entry.summary.get("mac", ""))


def _secret_ref(entry: Entry) -> refs.SecretRef:
    return refs.SecretRef(_key_bytes(entry), entry.summary.get("usage_type", 0), entry.summary.get("usage_id", ""))


_REFS: Final[dict[str, Callable[[Entry], Any]]] = {
    "domain": _domain_ref,
    "network": lambda e: refs.NetworkRef(e.name, _key_bytes(e)),
    "storage_pool": lambda e: refs.StoragePoolRef(e.name, _key_bytes(e)),
    "nwfilter": lambda e: refs.NWFilterRef(e.name, _key_bytes(e)),
    "node_device": lambda e: refs.NodeDeviceRef(e.name),
    "interface": _interface_ref,
    "secret": _secret_ref,
}
