"""What lies on disk: one JSON document per object, so that each change of an object is one file and therefore whole.

A guest has up to two definitions, as in libvirt: `live` while it is active, `config` while it is persistent.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from conf.moment.tree import MomentRecord
from schema.enums.domain_state import DomainShutoffReason, DomainState

R = TypeVar("R", bound=msgspec.Struct)


class DomainRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A guest. `facts` is what lists tell of the definition in force, so that a start reads no XML."""

    uuid: str
    name: str
    facts: DefinitionFacts
    id: int = -1
    last_id: int = 0  # the highest id it ever had: the next guest's id is above all of these
    state: int = DomainState.SHUTOFF
    reason: int = DomainShutoffReason.UNKNOWN
    since: float = 0.0
    config: str | None = None
    live: str | None = None
    autostart: bool = False
    managed_save: bool = False
    frozen: list[str] = []  # mount points that are frozen
    polling: dict[str, list[int]] = {}  # of threads that were added, by number: how long they poll, grow, shrink
    snapshots: dict[str, MomentRecord] = {}
    checkpoints: dict[str, MomentRecord] = {}
    current_snapshot: str | None = None
    current_checkpoint: str | None = None


class DefinitionFacts(msgspec.Struct, frozen=True):
    """What lists tell of a definition; memory in KiB."""

    max_mem: int
    mem: int
    vcpus: int
    title: str | None = None
    tags: tuple[str, ...] = ()


class NetworkRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A virtual network; `next_xml` is its configuration while that differs from the running network."""

    uuid: str
    name: str
    xml: str
    next_xml: str | None = None
    bridge: str | None = None
    active: bool = False
    persistent: bool = True
    autostart: bool = False


class InterfaceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A host interface."""

    name: str
    mac: str
    xml: str
    active: bool = False


class VolumeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume; sizes in bytes."""

    name: str
    key: str
    xml: str
    capacity: int
    allocation: int
    type: int = 0


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A storage pool with its volumes; sizes in bytes."""

    uuid: str
    name: str
    xml: str
    type: str
    path: str
    capacity: int
    allocation: int
    available: int
    active: bool = False
    persistent: bool = True
    autostart: bool = False
    volumes: dict[str, VolumeRecord] = {}


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device of the fake host."""

    name: str
    xml: str
    parent: str | None = None
    caps: list[str] = []
    wwnn: str | None = None
    wwpn: str | None = None


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fake host's processor and memory; memory in KiB."""

    model: str = "i686"
    memory: int = 3145728
    cpus: int = 16
    mhz: int = 1400
    nodes: int = 2
    sockets: int = 2
    cores: int = 2
    threads: int = 2


class WorldRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a whole scope besides its objects; without this file the folder counts for nothing."""

    scope: str
    whole: bool = True  # false while the objects are being written anew
    kept: bool = False  # a native client changed something: libvirt's clients leaving no longer bring the defaults back
    last_id: int = 0  # the highest id of guests that are gone
    interfaces_before: list[InterfaceRecord] | None = None  # what a rollback brings back
    node: NodeFacts = NodeFacts()


class UnreadableRecord(ValueError):
    """A document on disk is not what this driver wrote; the text names it."""


_encoder: Final = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """The document of a record."""
    return _encoder.encode(record) + b"\n"


def decode(kind: type[R], data: bytes, path: str) -> R:
    """The record in a document. Raises UnreadableRecord."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as exc:
        raise UnreadableRecord(f"'{path}': {exc}") from exc
