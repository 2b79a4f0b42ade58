"""Which calls are answered from the read model, and how: from the bytes of the arguments to the bytes of the answer.

A reader gives None for what it cannot answer (an unknown guest, a flag it does not know): the driver is asked then, and
finds the right words.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from gateway.domains import DomainView, KnownDomain
from gateway.hosts import HOST_READERS
from gateway.replica import View
from schema.enums.domain_state import DomainState
from schema.model import LIB_VERSION
from schema.summaries import LIST_DOMAINS_FLAGS

Reader = Callable[[View, bytes], bytes | None]

DOMAIN_LIST_MAX: Final = 16384
_ZERO: Final = bytes(4)
_word: Final = struct.Struct(">I")
_words: Final = struct.Struct(">iI")
_from_bytes: Final = int.from_bytes
XML_SECURE: Final = 1
_LIB_VERSION: Final = struct.pack(">Q", LIB_VERSION)


def find_domain(view: DomainView, payload: bytes) -> tuple[KnownDomain | None, int]:
    """The guest that a reference at the beginning of the arguments names, and where the arguments go on."""
    length = _from_bytes(payload[:4], "big")
    start = 4 + length + (-length & 3)
    return view.by_uuid.get(payload[start : start + 16]), start + 20


def _lookup_by_name(view: View, payload: bytes) -> bytes | None:
    known = view.domains.by_name.get(payload)
    return None if known is None else known.ref


def _lookup_by_uuid(view: View, payload: bytes) -> bytes | None:
    known = view.domains.by_uuid.get(payload)
    return None if known is None else known.ref


def _lookup_by_id(view: View, payload: bytes) -> bytes | None:
    known = view.domains.by_id.get(payload)
    return None if known is None else known.ref


def _get_state(view: View, payload: bytes) -> bytes | None:
    known, end = find_domain(view.domains, payload)
    return None if known is None or payload[end:] != _ZERO else known.state


def _has_managed_save(view: View, payload: bytes) -> bytes | None:
    known, end = find_domain(view.domains, payload)
    return None if known is None or payload[end:] != _ZERO else known.managed_save


def _plain(name: str) -> Reader:
    def read(view: View, payload: bytes) -> bytes | None:
        known, end = find_domain(view.domains, payload)
        if known is None or len(payload) != end:
            return None
        answer: bytes = getattr(known, name)
        return answer

    return read


def _get_xml_desc(view: View, payload: bytes) -> bytes | None:
    known, end = find_domain(view.domains, payload)
    return None if known is None else known.xml.get(payload[end:])


def _list_all(view: View, payload: bytes) -> bytes | None:
    if len(payload) != 8:
        return None
    need_results, flags = _words.unpack(payload)
    if flags & ~LIST_DOMAINS_FLAGS:
        return None

    def make() -> bytes:
        count, refs = view.domains.refs(flags)
        if not need_results:
            return _ZERO + _word.pack(count)
        return _word.pack(count) + refs + _word.pack(count)

    if need_results and len(view.domains.by_uuid) > DOMAIN_LIST_MAX:
        return None
    return view.domains.kept_list(("all", payload), make)


def _number_active(view: View, payload: bytes) -> bytes | None:
    return None if payload else _word.pack(len(view.domains.by_id))


def _number_inactive(view: View, payload: bytes) -> bytes | None:
    return None if payload else _word.pack(len(view.domains.by_uuid) - len(view.domains.by_id))


def _lib_version(view: View, payload: bytes) -> bytes | None:
    return None if payload else _LIB_VERSION


READERS: Final[dict[str, Reader]] = {
    "domain_lookup_by_name": _lookup_by_name,
    "domain_lookup_by_uuid": _lookup_by_uuid,
    "domain_lookup_by_id": _lookup_by_id,
    "domain_get_state": _get_state,
    "domain_has_managed_save_image": _has_managed_save,
    "domain_is_active": _plain("active"),
    "domain_is_persistent": _plain("persistent"),
    "domain_get_autostart": _plain("autostart"),
    "domain_get_os_type": _plain("os_type"),
    "domain_get_max_memory": _plain("max_memory"),
    "domain_get_xml_desc": _get_xml_desc,
    "connect_list_all_domains": _list_all,
    "connect_get_lib_version": _lib_version,
    "connect_num_of_domains": _number_active,
    "connect_num_of_defined_domains": _number_inactive,
    **HOST_READERS,
}
"""By procedure."""

_NOSTATE: Final = struct.pack(">ii", DomainState.NOSTATE, 0)


def read_unknown(name: str, view: View, payload: bytes) -> bytes | None:
    """The answer while the driver is given up: what was last known, but no state, for that is not known."""
    answer = READERS[name](view, payload)
    return _NOSTATE if answer is not None and name == "domain_get_state" else answer
