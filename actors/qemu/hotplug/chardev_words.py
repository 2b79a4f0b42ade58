"""The host end of a character device: the word that `-chardev` takes, as the object that `chardev-add` takes."""

from __future__ import annotations

from typing import Any, Final

from schema.errors import OperationUnsupported

Parts = dict[str, str]
_SEPARATOR: Final = "\0"


def read_words(text: str) -> tuple[str, Parts]:
    """A comma-separated word: its kind and its parts; a doubled comma is one."""
    kind, *rest = text.replace(",,", _SEPARATOR).split(",")
    parts: Parts = {}
    for part in rest:
        key, _, value = part.partition("=")
        parts[key] = value.replace(_SEPARATOR, ",")
    return kind, parts


def chardev_arguments(kind: str, parts: Parts) -> dict[str, Any]:
    """What `chardev-add` is given. Raises OperationUnsupported for a kind that cannot be plugged in."""
    data: dict[str, Any]
    match kind:
        case "null" | "vc" | "pty" | "stdio":
            data = {}
        case "serial" | "parallel" | "pipe":
            data = {"device": parts["path"]}
        case "file":
            data = {"out": parts["path"], "append": parts.get("append") == "on"}
        case "udp":
            data = {
                "remote": _inet(parts["host"], parts["port"]),
                "local": _inet(parts["localaddr"], parts["localport"]),
            }
        case "socket":
            data = _socket(parts)
        case "spicevmc":
            data = {"type": parts["name"]}
        case "spiceport":
            data = {"fqdn": parts["name"]}
        case "dbus":
            data = {"name": parts["name"]}
        case "qemu-vdagent":
            data = {key: parts[key] == "on" for key in ("clipboard", "mouse") if key in parts}
        case _:
            raise OperationUnsupported(f"Hotplug unsupported for char device type '{kind}'")
    if "logfile" in parts:
        data |= {"logfile": parts["logfile"], "logappend": parts.get("logappend") == "on"}
    return {"id": parts["id"], "backend": {"type": kind, "data": data}}


def _inet(host: str, port: str) -> dict[str, Any]:
    return {"type": "inet", "data": {"host": host, "port": port}}


def _socket(parts: Parts) -> dict[str, Any]:
    if "fd" in parts:
        address: dict[str, Any] = {"type": "fd", "data": {"str": parts["fd"]}}
    elif "path" in parts:
        address = {"type": "unix", "data": {"path": parts["path"]}}
    else:
        address = _inet(parts["host"], parts["port"])
    is_server = parts.get("server") == "on"
    data: dict[str, Any] = {"addr": address, "server": is_server}
    if is_server:
        data["wait"] = parts.get("wait") == "on"
    if parts.get("telnet") == "on":
        data["telnet"] = True
    if "tls-creds" in parts:
        data["tls-creds"] = parts["tls-creds"]
    if "reconnect" in parts:
        data["reconnect"] = int(parts["reconnect"])
    return data
