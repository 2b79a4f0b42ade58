"""Records, snapshots and summaries as drivers send them."""

from __future__ import annotations

import uuid as uuids
from typing import Any

from broker.wire import pack_value
from schema.body import event_data
from schema.enums.domain_state import DomainState
from schema.objects import DomainRef

SCOPE = "test:///default"


def uuid_of(name: str) -> bytes:
    return uuids.uuid5(uuids.NAMESPACE_OID, name).bytes


def summary(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": -1,
        "state": int(DomainState.SHUTOFF),
        "reason": 0,
        "persistent": True,
        "autostart": False,
        "managed_save": False,
        "os_type": "hvm",
        "max_mem": 1024,
        "mem": 1024,
        "vcpus": 1,
        "title": None,
        "scope": SCOPE,
        "snapshots": 0,
        "checkpoints": 0,
        "since": 0.0,
    }
    values.update(changes)
    return values


def domain_object(name: str, version: int = 1, **changes: Any) -> dict[str, Any]:
    """An object of a snapshot."""
    return {
        "type": "domain",
        "key": uuid_of(name),
        "name": name,
        "version": version,
        "summary": summary(**changes),
        "scope": SCOPE,
    }


def record(
    seq: int, name: str, *, gone: bool = False, version: int = 2, epoch: int = 1, **changes: Any
) -> dict[str, Any]:
    """A lifecycle event that leaves the guest as `changes` say."""
    ref = DomainRef(name, uuid_of(name), changes.get("id", -1))
    return {
        "source": "test",
        "epoch": epoch,
        "seq": seq,
        "kind": "domain_event_lifecycle",
        "scope": SCOPE,
        "object": ["domain", uuid_of(name), name],
        "data": event_data("domain_event_lifecycle", {"dom": ref, "event": 2, "detail": 0}),
        "summary": None if gone else summary(**changes),
        "version": version,
        "wall": 0.0,
        "mono": 0.0,
        "call": None,
        "trace": None,
        "who": None,
        "origin": "call",
    }


def packed(seq: int, name: str, **changes: Any) -> bytes:
    return pack_value(record(seq, name, **changes))
