"""What every actor answers about itself."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.runtime.host import Host
from actors.runtime.objects import Entry
from actors.runtime.publisher import key_bytes
from schema.errors import from_wire
from schema.model import LIB_VERSION

calls: Calls[Host] = Calls()


@calls.handles()
def actor_ping(host: Host) -> dict[str, Any]:
    """Says that it is there."""
    runtime = host.runtime
    return {"pid": os.getpid(), "epoch": runtime.epoch, "uptime_s": time.monotonic() - runtime.started}


@calls.handles()
def actor_snapshot(host: Host) -> dict[str, Any]:
    """All objects as they are after the event `seq`."""
    runtime = host.runtime
    return {
        "epoch": runtime.epoch,
        "seq": runtime.publisher.seq,
        "objects": [snapshot_of(entry) for entry in runtime.objects.everything()],
    }


@calls.handles()
def actor_capabilities(host: Host) -> list[str]:
    """The names of all procedures that are answered."""
    return list(host.runtime.procedures)


@calls.handles()
def actor_call_outcome(host: Host, id: bytes) -> dict[str, Any]:
    """What became of a change: `done`, `failed`, `undone`, `running`, `unknown` when there is no record (any more)."""
    runtime = host.runtime
    if runtime.is_running(id):
        return {"state": "running", "error": None}
    end = runtime.call_log.ended.get(id)
    if end is None:
        return {"state": "unknown", "error": None}
    if end.error is None:
        return {"state": "done", "result": end.result, "error": None}
    state = "undone" if from_wire(end.error).kind == "CallUndone" else "failed"
    return {"state": state, "error": end.error}


@calls.handles()
def actor_calls(host: Host) -> list[dict[str, Any]]:
    """The calls that have no outcome yet."""
    return host.runtime.describe_calls()


@calls.handles()
def connect_get_uri(host: Host) -> str:
    """The name that the connection was opened with."""
    return current_call().scope


@calls.handles()
def connect_get_hostname(host: Host) -> str:
    """The name of this host."""
    return socket.gethostname()


@calls.handles()
def connect_get_lib_version(host: Host) -> int:
    """The version of libvirt whose behaviour this is."""
    return LIB_VERSION


@calls.handles()
def connect_is_secure(host: Host) -> int:
    """Between the processes of one host nobody listens in; what the gateway is reached by is its own answer."""
    return 1


@calls.handles()
def connect_supports_feature(host: Host, feature: int) -> int:
    """No feature, unless the driver says so."""
    return 0


def snapshot_of(entry: Entry) -> dict[str, Any]:
    """An object as snapshots carry it."""
    return {
        "type": entry.type,
        "key": key_bytes(entry.key),
        "name": entry.name,
        "version": entry.version,
        "summary": entry.summary,
        "scope": entry.scope,
    }
