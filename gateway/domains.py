"""The guests of one connection name, kept so that a read is a look-up of bytes and its answer are bytes made before.

Keys are the very bytes that libvirt's clients send: a name as XDR writes it, a uuid, an id in four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from schema.summaries import DomainSummary, domain_selection

_PAD: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_word: Final = struct.Struct(">I")
_int: Final = struct.Struct(">i")
_state: Final = struct.Struct(">ii")
_ulong: Final = struct.Struct(">Q")
YES: Final = _int.pack(1)
NO: Final = _int.pack(0)
XML_BYTES_MAX: Final = 64 * 1024 * 1024
LISTS_MAX: Final = 32
GONE_MAX: Final = 64


def xdr_text(text: str) -> bytes:
    """A text as XDR writes it."""
    raw = text.encode("utf-8", "surrogateescape")
    return _word.pack(len(raw)) + raw + _PAD[len(raw) & 3]


class KnownDomain:
    """A guest and the answers about it."""

    __slots__ = (
        "active",
        "autostart",
        "id",
        "managed_save",
        "max_memory",
        "name",
        "os_type",
        "persistent",
        "ref",
        "state",
        "summary",
        "uuid",
        "version",
        "xml",
    )

    def __init__(self, uuid: bytes, name: str, version: int, summary: DomainSummary) -> None:
        self.uuid = uuid
        self.name = name
        self.version = version
        self.summary = summary
        self.id = _int.pack(summary["id"])
        self.ref = xdr_text(name) + uuid + self.id
        self.state = _state.pack(summary["state"], summary["reason"])
        self.active = YES if summary["id"] != -1 else NO
        self.persistent = YES if summary["persistent"] else NO
        self.autostart = YES if summary["autostart"] else NO
        self.managed_save = YES if summary["managed_save"] else NO
        self.os_type = xdr_text(summary["os_type"])
        self.max_memory = _ulong.pack(summary["max_mem"])
        self.xml: dict[bytes, bytes] = {}  # flags as sent -> answer


class DomainView:
    """The guests by uuid, name and id."""

    __slots__ = ("_lists", "by_id", "by_name", "by_uuid", "gone", "xml_bytes")

    def __init__(self) -> None:
        self.by_uuid: dict[bytes, KnownDomain] = {}
        self.by_name: dict[bytes, KnownDomain] = {}
        self.by_id: dict[bytes, KnownDomain] = {}
        self.gone: dict[bytes, KnownDomain] = {}  # those that went last, for who is still told that they did
        self.xml_bytes = 0
        self._lists: dict[tuple[Any, ...], bytes] = {}

    def clear(self) -> None:
        """Forgets all."""
        self.by_uuid.clear()
        self.by_name.clear()
        self.by_id.clear()
        self._lists.clear()
        self.xml_bytes = 0

    def put(self, uuid: bytes, name: str, version: int, summary: Mapping[str, Any]) -> None:
        """Takes a guest as it is now."""
        self._lists.clear()
        old = self.by_uuid.get(uuid)
        new = KnownDomain(uuid, name, version, cast(DomainSummary, summary))
        if old is not None:
            self._unlink(old)
            if old.version == version and old.ref == new.ref:
                new.xml = old.xml
            else:
                self._forget_xml(old)
        self.by_uuid[uuid] = new
        self.by_name[xdr_text(name)] = new
        if summary["id"] != -1:
            self.by_id[new.id] = new

    def drop(self, uuid: bytes) -> None:
        """Forgets a guest that is gone."""
        old = self.by_uuid.pop(uuid, None)
        if old is not None:
            self._lists.clear()
            self._unlink(old)
            self._forget_xml(old)
            old.xml = {}
            self.gone[uuid] = old
            if len(self.gone) > GONE_MAX:
                del self.gone[next(iter(self.gone))]

    def _unlink(self, old: KnownDomain) -> None:
        name = xdr_text(old.name)
        if self.by_name.get(name) is old:
            del self.by_name[name]
        if self.by_id.get(old.id) is old:
            del self.by_id[old.id]

    # --- documents ---

    def keep_xml(self, domain: KnownDomain, flags: bytes, answer: bytes) -> None:
        """Keeps an answer for as long as the guest does not change; all are forgotten when they grow too many."""
        if self.xml_bytes + len(answer) > XML_BYTES_MAX:
            for known in self.by_uuid.values():
                known.xml.clear()
            self.xml_bytes = 0
        if self.by_uuid.get(domain.uuid) is domain and len(answer) <= XML_BYTES_MAX:
            domain.xml[flags] = answer
            self.xml_bytes += len(answer)

    def _forget_xml(self, old: KnownDomain) -> None:
        self.xml_bytes -= sum(map(len, old.xml.values()))

    # --- lists ---

    def refs(self, flags: int) -> tuple[int, bytes]:
        """How many guests these flags select, and their references one behind the other."""
        if not flags:
            return len(self.by_uuid), b"".join([known.ref for known in self.by_uuid.values()])
        wanted = domain_selection(flags)
        chosen = [known.ref for known in self.by_uuid.values() if wanted(known.summary)]
        return len(chosen), b"".join(chosen)

    def kept_list(self, key: tuple[Any, ...], make: Callable[[], bytes]) -> bytes:
        """An answer that holds until any guest changes."""
        answer = self._lists.get(key)
        if answer is None:
            if len(self._lists) >= LISTS_MAX:
                self._lists.clear()
            answer = self._lists[key] = make()
        return answer
