"""The objects of the host under one connection name (networks, pools, devices, ...), as answers in bytes.

Like `domains`, but for objects of which less is asked: they are found by name or uuid, and have a few facts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.domains import LISTS_MAX, NO, YES, xdr_text
from schema.host_summaries import known_flags, pool_is_active, selection

if TYPE_CHECKING:
    from gateway.replica import View

HOST_TYPES: Final = ("network", "storage_pool", "interface", "node_device", "secret", "nwfilter")
_word: Final = struct.Struct(">I")
_int: Final = struct.Struct(">i")
_words: Final = struct.Struct(">iI")
_LIST_MAX: Final = 16384

HostReader = Callable[["View", bytes], bytes | None]


class KnownObject:
    """An object and its reference."""

    __slots__ = ("key", "name", "ref", "summary")

    def __init__(self, type_: str, key: bytes, name: str, summary: Mapping[str, Any]) -> None:
        self.key = key
        self.name = xdr_text(name)
        self.summary = summary
        if type_ == "interface":
            self.ref = self.name + xdr_text(summary["mac"])
        elif type_ == "node_device":
            self.ref = self.name
        elif type_ == "secret":
            self.ref = key + _int.pack(summary["usage_type"]) + xdr_text(summary["usage_id"])
        else:
            self.ref = self.name + key


class ObjectView:
    """The objects of one type."""

    __slots__ = ("_lists", "by_key", "by_name", "type")

    def __init__(self, type_: str) -> None:
        self.type = type_
        self.by_key: dict[bytes, KnownObject] = {}
        self.by_name: dict[bytes, KnownObject] = {}
        self._lists: dict[bytes, bytes] = {}

    def clear(self) -> None:
        """Forgets all."""
        self.by_key.clear()
        self.by_name.clear()
        self._lists.clear()

    def put(self, key: bytes, name: str, summary: Mapping[str, Any]) -> None:
        """Takes an object as it is now."""
        self.drop(key)
        known = self.by_key[key] = KnownObject(self.type, key, name, summary)
        self.by_name[known.name] = known

    def drop(self, key: bytes) -> None:
        """Forgets an object that is gone."""
        self._lists.clear()
        old = self.by_key.pop(key, None)
        if old is not None and self.by_name.get(old.name) is old:
            del self.by_name[old.name]

    def listed(self, payload: bytes) -> bytes | None:
        """The answer to a list's `need_results` and flags."""
        if len(payload) != 8:
            return None
        answer = self._lists.get(payload)
        if answer is not None:
            return answer
        need_results, flags = _words.unpack(payload)
        if flags & ~known_flags(self.type):
            return None
        wanted = selection(self.type, flags)
        chosen = [known.ref for known in self.by_key.values() if wanted(known.summary)]
        if need_results and len(chosen) > _LIST_MAX:
            return None
        count = _word.pack(len(chosen))
        answer = count + b"".join(chosen) + count if need_results else bytes(4) + count
        if len(self._lists) >= LISTS_MAX:
            self._lists.clear()
        self._lists[payload] = answer
        return answer


def _by_name(type_: str) -> HostReader:
    def read(view: View, payload: bytes) -> bytes | None:
        known = view.hosts[type_].by_name.get(payload)
        return None if known is None else known.ref

    return read


def _by_uuid(type_: str) -> HostReader:
    def read(view: View, payload: bytes) -> bytes | None:
        known = view.hosts[type_].by_key.get(payload)
        return None if known is None else known.ref

    return read


def _all(type_: str) -> HostReader:
    return lambda view, payload: view.hosts[type_].listed(payload)


def _count(type_: str, holds: Callable[[Mapping[str, Any]], bool]) -> HostReader:
    def read(view: View, payload: bytes) -> bytes | None:
        if payload:
            return None
        return _word.pack(sum(1 for known in view.hosts[type_].by_key.values() if holds(known.summary)))

    return read


def _fact(type_: str, holds: Callable[[Mapping[str, Any]], bool]) -> HostReader:
    """A fact of an object that is named by name and uuid, and by nothing more."""

    def read(view: View, payload: bytes) -> bytes | None:
        length = int.from_bytes(payload[:4], "big")
        start = 4 + length + (-length & 3)
        known = view.hosts[type_].by_key.get(payload[start:])
        if known is None:
            return None
        return YES if holds(known.summary) else NO

    return read


def _is(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda summary: bool(summary[name])


def _is_not(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda summary: not summary[name]


# Which flags a list of node devices knows depends on the driver (the test driver refuses some), so drivers answer it.
HOST_READERS: Final[dict[str, HostReader]] = {
    "network_lookup_by_name": _by_name("network"),
    "network_lookup_by_uuid": _by_uuid("network"),
    "network_is_active": _fact("network", _is("active")),
    "network_is_persistent": _fact("network", _is("persistent")),
    "network_get_autostart": _fact("network", _is("autostart")),
    "connect_list_all_networks": _all("network"),
    "connect_num_of_networks": _count("network", _is("active")),
    "connect_num_of_defined_networks": _count("network", _is_not("active")),
    "storage_pool_lookup_by_name": _by_name("storage_pool"),
    "storage_pool_lookup_by_uuid": _by_uuid("storage_pool"),
    "storage_pool_is_active": _fact("storage_pool", pool_is_active),
    "storage_pool_is_persistent": _fact("storage_pool", _is("persistent")),
    "storage_pool_get_autostart": _fact("storage_pool", _is("autostart")),
    "connect_list_all_storage_pools": _all("storage_pool"),
    "interface_lookup_by_name": _by_name("interface"),
    "connect_list_all_interfaces": _all("interface"),
    "node_device_lookup_by_name": _by_name("node_device"),
    "secret_lookup_by_uuid": _by_uuid("secret"),
    "connect_list_all_secrets": _all("secret"),
    "nwfilter_lookup_by_name": _by_name("nwfilter"),
    "nwfilter_lookup_by_uuid": _by_uuid("nwfilter"),
    "connect_list_all_nwfilters": _all("nwfilter"),
}
"""By procedure."""
