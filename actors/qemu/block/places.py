"""How an image names the one below it, for QEMU to find: as a path, a URI, or a description in JSON."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from actors.qemu.block.chain import path_of
from actors.qemu.command.line import Properties
from conf.domain.backing_strings import DEFAULT_PORTS
from conf.domain.storage_source import DirSource, NetworkSource, Protocol, StorageSource, Transport

_NOT_OF_PLACE: Final = frozenset(
    {
        "node-name",
        "aio",
        "cache",
        "auto-read-only",
        "read-only",
        "discard",
        "user",
        "username",
        "key-secret",
        "password-secret",
        "cookie-secret",
        "auth-client-required",
        "tls-creds",
        "tls-hostname",
        "pr-manager",
        "initiator-name",
        "debug",
        "encrypt",
    }
)
_EASY: Final = frozenset(
    {
        Protocol.NBD,
        Protocol.HTTP,
        Protocol.HTTPS,
        Protocol.FTP,
        Protocol.FTPS,
        Protocol.TFTP,
        Protocol.ISCSI,
        Protocol.GLUSTER,
    }
)


def place_of(storage: Properties) -> Properties:
    """Where an image is, and nothing of how it is opened or by whom."""
    return {key: value for key, value in storage.items() if key not in _NOT_OF_PLACE}


def backing_text(source: StorageSource, storage: Properties | None = None, indent: int | None = None) -> str:
    """What an image says of the one below it; `storage` is that one's storage node, for what is no plain file."""
    path = path_of(source)
    parts = getattr(source, "slices", [])
    if path is not None and not parts:
        return f"fat:{path}" if isinstance(source, DirSource) else path
    if isinstance(source, NetworkSource) and not parts and _is_easy(source):
        return _uri(source)
    place: dict[str, Any] = place_of(storage) if storage else {"driver": "file", "filename": path}
    for part in parts:
        place = {"driver": "raw", "offset": part.offset, "size": part.size, "file": place}
    if indent is None:
        return "json:" + json.dumps({"file": place}, separators=(",", ":"), ensure_ascii=False)
    return 'json:{"file":' + json.dumps(place, indent=indent, ensure_ascii=False) + "\n}"


def _is_easy(source: NetworkSource) -> bool:
    return (
        source.protocol in _EASY
        and len(source.hosts) == 1
        and source.hosts[0].transport in (None, Transport.TCP)
        and source.ssl_verify is None
        and not source.cookies
        and source.readahead is None
        and source.timeout_s is None
    )


def _uri(source: NetworkSource) -> str:
    host = source.hosts[0]
    name = host.name or ""
    if ":" in name:
        name = f"[{name}]"
    number = host.port or DEFAULT_PORTS.get(source.protocol)
    port = f":{number}" if number else ""
    query = f"?{source.query}" if source.query else ""
    path = f"/{quote((source.name or '').removeprefix('/'), safe='/')}" if source.name is not None else ""
    return f"{source.protocol.value}://{name}{port}{path}{query}"
