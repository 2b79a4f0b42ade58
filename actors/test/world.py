"""Everything that one scope holds: `test:///default`, or what a node description file says.

Scopes know nothing of each other; the same uuid may stand for different guests in two of them.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Final

from actors.test.defaults import SCOPE as DEFAULT_SCOPE
from actors.test.guest import Guest
from actors.test.kinds import DEVICE, INTERFACE, NETWORK, POOL, Kind
from actors.test.records import DeviceRecord, InterfaceRecord, NetworkRecord, PoolRecord, WorldRecord
from schema.errors import NoSuchDomain
from schema.objects import DomainRef

WORLDS: Final = "worlds"
DOMAINS: Final = "domains"
SUFFIX: Final = ".json"


def folder_of_scope(scope: str) -> str:
    """Where a scope's documents lie, relative to the driver's state."""
    if scope == DEFAULT_SCOPE:
        return "default"
    return hashlib.blake2b(scope.encode(), digest_size=12).hexdigest()


class World:
    """The objects of one scope."""

    DEFAULT: ClassVar[str] = DEFAULT_SCOPE

    def __init__(self, record: WorldRecord) -> None:
        self.record = record
        self.scope = record.scope
        self.folder = folder_of_scope(record.scope)
        self.changed = False  # differs from what the scope begins with, or may
        self.guests: dict[bytes, Guest] = {}
        self.networks: dict[bytes, NetworkRecord] = {}
        self.interfaces: dict[str, InterfaceRecord] = {}
        self.pools: dict[bytes, PoolRecord] = {}
        self.devices: dict[str, DeviceRecord] = {}
        self._shelves: dict[str, dict[Any, Any]] = {
            NETWORK.type: self.networks,
            INTERFACE.type: self.interfaces,
            POOL.type: self.pools,
            DEVICE.type: self.devices,
        }
        self._names: dict[str, bytes] = {}
        self._highest_id = record.last_id

    @property
    def is_default(self) -> bool:
        return self.scope == DEFAULT_SCOPE

    def shelf(self, kind: Kind) -> dict[Any, Any]:
        """The objects of a kind by key."""
        return self._shelves[kind.type]

    def path(self, kind: str, key: str) -> str:
        """Where an object's document lies."""
        return f"{self.folder}/{kind}/{safe_name(key)}{SUFFIX}"

    @property
    def own_path(self) -> str:
        return f"{WORLDS}/{self.folder}{SUFFIX}"

    def add(self, guest: Guest) -> None:
        """The guest is real from now on, under the name that it has now."""
        guest.is_known = True
        self.guests[guest.uuid] = guest
        self._names[guest.name] = guest.uuid
        self._highest_id = max(self._highest_id, guest.record.last_id)

    def renamed(self, guest: Guest, old_name: str) -> None:
        """The guest's name has changed."""
        if self._names.get(old_name) == guest.uuid:
            del self._names[old_name]
        self._names[guest.name] = guest.uuid

    def remove(self, guest: Guest) -> None:
        """The guest is gone."""
        self.guests.pop(guest.uuid, None)
        if self._names.get(guest.name) == guest.uuid:
            del self._names[guest.name]

    def find(self, name: str) -> Guest | None:
        """The guest of that name."""
        uuid = self._names.get(name)
        return None if uuid is None else self.guests[uuid]

    def need(self, dom: DomainRef) -> Guest:
        """The guest that a reference means. Raises NoSuchDomain."""
        guest = self.guests.get(dom.uuid)
        if guest is None:
            raise NoSuchDomain(f"no domain with matching uuid '{uuid_text(dom.uuid)}' ({dom.name})")
        return guest

    def next_id(self) -> int:
        """An id that no guest of this scope ever had. One that is not used in the end is lost, which harms nobody."""
        self._highest_id += 1
        return self._highest_id


def uuid_text(uuid: bytes) -> str:
    """A uuid as people write it."""
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def safe_name(name: str) -> str:
    """A file name for any key: names of interfaces and devices come from clients."""
    if name and all(char.isalnum() or char in "-_" for char in name) and name.isascii() and len(name) < 100:
        return name
    return "=" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
