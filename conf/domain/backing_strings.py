"""What stands in an image as the place of the one below it: a path, a URI, an older description, or one in JSON.

All four are forms of QEMU's; each is read into the same sources that a definition has.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from conf.domain.address import SourcePciAddress
from conf.domain.storage_source import (
    BlockSource,
    Cookie,
    DirSource,
    FileSource,
    Host,
    NetworkSource,
    NfsIdentity,
    NvmeSource,
    Protocol,
    Readahead,
    Slice,
    StorageSource,
    Transport,
)
from schema.errors import RefusedDocument

DEFAULT_PORTS: Final = {
    Protocol.HTTP: 80,
    Protocol.HTTPS: 443,
    Protocol.FTP: 21,
    Protocol.FTPS: 990,
    Protocol.TFTP: 69,
    Protocol.SSH: 22,
    Protocol.SHEEPDOG: 7000,
    Protocol.NBD: 10809,
    Protocol.ISCSI: 3260,
    Protocol.GLUSTER: 24007,
    Protocol.VXHS: 9999,
}
_FORMATS: Final = frozenset({"raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "luks", "bochs", "cloop", "dmg"})
_NESTED_MAX: Final = 16
_PCI: Final = re.compile(r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])\Z")


@dataclass(slots=True)
class Described:
    """A place, with what no definition can say of it."""

    source: StorageSource
    user: str | None = None
    checks_host_key: bool = True


def is_path(name: str) -> bool:
    """The name of a file, not of a place elsewhere."""
    colon, slash = name.find(":"), name.find("/")
    return colon < 0 or (0 <= slash < colon)


def beside(name: str, above: str) -> str:
    """Where an image is that another one names: relative names begin at the folder of that one, as they stand."""
    if name.startswith("/"):
        return name
    folder = posixpath.dirname(above)
    return f"{folder}/{name}" if folder else name


def parse_backing(text: str) -> StorageSource:
    """The place that a backing string means. Raises RefusedDocument in libvirt's words for what is none."""
    return describe_backing(text).source


def describe_backing(text: str) -> Described:
    """The same, with what no definition can say."""
    if is_path(text):
        return Described(FileSource(file=text))
    if text.startswith("fat:"):
        return Described(DirSource(dir=text.removeprefix("fat:")))
    if text.startswith("json:"):
        return _json(text.removeprefix("json:"))
    if "://" in text:
        return Described(_uri(text))
    return Described(_colon(text))


# --- URIs ------------------------------------------------------------------------------------------------------------


def _uri(text: str) -> NetworkSource:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise RefusedDocument(f"failed to parse backing file location '{text}'") from exc
    scheme, _, way = parts.scheme.partition("+")
    protocol = _protocol(scheme)
    transport = Transport.TCP
    if way:
        try:
            transport = Transport(way)
        except ValueError as exc:
            raise RefusedDocument(f"invalid protocol transport type '{way}'") from exc
    name: str | None = unquote(parts.path).removeprefix("/")
    if protocol is Protocol.NBD and not name:
        name = None
    source = NetworkSource(protocol=protocol, name=name)
    if transport is Transport.UNIX:
        socket = parse_qs(parts.query).get("socket", [""])[0]
        if not socket:
            raise RefusedDocument(f"missing socket for unix transport in '{text}'")
        source.hosts = [Host(transport=Transport.UNIX, socket=socket)]
        return source
    host = Host(name=parts.hostname or None, port=port or DEFAULT_PORTS.get(protocol))
    if transport is Transport.RDMA:
        host.transport = transport
    source.hosts = [host]
    if protocol in (Protocol.HTTP, Protocol.HTTPS) and parts.query:
        source.query = parts.query
    if protocol is Protocol.GLUSTER and "/" not in (name or ""):
        raise RefusedDocument(f"missing volume name and path for gluster volume in '{text}'")
    return source


def _protocol(scheme: str) -> Protocol:
    try:
        return Protocol(scheme)
    except ValueError as exc:
        raise RefusedDocument(f"invalid backing protocol '{scheme}'") from exc


# --- the older descriptions ------------------------------------------------------------------------------------------


def _colon(text: str) -> NetworkSource:
    word, _, rest = text.partition(":")
    protocol = _protocol(word)
    if protocol is Protocol.NBD:
        return _nbd_words(text, rest)
    if protocol is Protocol.RBD:
        return _rbd_words(rest)
    raise RefusedDocument(f"backing store parser is not implemented for protocol {word}")


def _nbd_words(text: str, rest: str) -> NetworkSource:
    place, mark, name = rest.partition(":exportname=")
    source = NetworkSource(protocol=Protocol.NBD, name=name if mark else None)
    if place.startswith("unix:"):
        socket = place.removeprefix("unix:")
        if not socket:
            raise RefusedDocument(f"missing unix socket path in nbd backing string {text}")
        source.hosts = [Host(transport=Transport.UNIX, socket=socket)]
        return source
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host:
        raise RefusedDocument(f"missing host name in nbd string '{text}'")
    if not port.isdigit():
        raise RefusedDocument(f"missing or malformed port in nbd string '{text}'")
    source.hosts = [Host(name=host, port=int(port))]
    return source


def _split_escaped(text: str, separator: str) -> list[str]:
    parts, part, escaped = [], "", False
    for sign in text:
        if escaped:
            part += sign if sign in (separator, "\\") else "\\" + sign
            escaped = False
        elif sign == "\\":
            escaped = True
        elif sign == separator:
            parts.append(part)
            part = ""
        else:
            part += sign
    return [*parts, part]


def _rbd_words(rest: str) -> NetworkSource:
    name, *options = _split_escaped(rest, ":")
    name, _, snapshot = name.partition("@")
    source = NetworkSource(protocol=Protocol.RBD, name=name, snapshot=snapshot or None)
    for option in options:
        key, _, value = option.partition("=")
        if key == "mon_host":
            for one in re.split(r"[;,]", value):
                host, colon, port = one.strip().rpartition(":")
                if colon and port.isdigit() and (not host.count(":") or host.endswith("]")):
                    source.hosts.append(Host(name=host.strip("[]"), port=int(port)))
                elif one.strip():
                    source.hosts.append(Host(name=one.strip()))
        elif key == "conf":
            source.config = value
    return source


# --- JSON ------------------------------------------------------------------------------------------------------------

Values = dict[str, Any]


def _json(text: str) -> Described:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RefusedDocument(f"failed to parse json: '{text}'") from exc
    if not isinstance(values, dict):
        raise RefusedDocument(f"JSON backing volume definition '{text}' must be an object")
    return _object(_nested(values), text, 0)


def _nested(values: Any) -> Any:
    """Keys with dots are objects within objects, and numbers for keys are lists."""
    if isinstance(values, list):
        return [_nested(one) for one in values]
    if not isinstance(values, dict):
        return values
    found: Values = {}
    for key, value in values.items():
        place = found
        *folders, last = key.split(".")
        for folder in folders:
            inner = place.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise RefusedDocument(f"key '{key}' means two things")
            place = inner
        place[last] = _nested(value)
    return _lists(found)


def _lists(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    made = {key: _lists(value) for key, value in values.items()}
    if made and all(key.isdigit() for key in made):
        return [made[key] for key in sorted(made, key=int)]
    return made


def _object(values: Values, text: str, depth: int) -> Described:
    inner, driver = values.get("file"), values.get("driver")
    is_format = isinstance(driver, str) and driver in _FORMATS
    if isinstance(inner, dict) and (depth == 0 or is_format or "driver" not in values):
        part = _part(values) if values.get("driver") == "raw" else None
        if depth > _NESTED_MAX:
            raise RefusedDocument(f"JSON backing volume definition '{text}' is nested too deeply")
        found = _object(inner, text, depth + 1)
        if part is not None and hasattr(found.source, "slices"):
            found.source.slices = [part]
        return found
    if not isinstance(driver, str):
        name = values.get("filename")
        if isinstance(name, str):
            return Described(_uri(name) if "://" in name else FileSource(file=name))
        raise RefusedDocument(f"JSON backing volume definition '{text}' must have driver name")
    reader = _READERS.get(driver)
    if reader is None:
        raise RefusedDocument(f"missing parser implementation for JSON backing volume driver '{driver}'")
    return reader(values, text)


def _part(values: Values) -> Slice | None:
    offset, size = values.get("offset"), values.get("size")
    if offset is None and size is None:
        return None
    try:
        return Slice(type="storage", offset=int(offset or 0), size=int(size or 0))
    except (TypeError, ValueError) as exc:
        raise RefusedDocument("malformed 'size' or 'offset' of a raw image") from exc


def _need(values: Values, key: str, text: str, what: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise RefusedDocument(f"missing '{key}' of {what} in JSON backing volume definition '{text}'")
    return value


def _optional(values: Values, key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _port(values: Values, protocol: Protocol) -> int | None:
    # a number that is not written as text is not looked at
    port = values.get("port")
    if isinstance(port, str):
        if not port.isdigit():
            raise RefusedDocument(f"failed to parse port number '{port}'")
        return int(port) or None
    return DEFAULT_PORTS.get(protocol)


def _host(values: Any, protocol: Protocol, text: str) -> Host:
    """One address of a server."""
    if not isinstance(values, dict):
        raise RefusedDocument(f"missing server in JSON backing volume definition '{text}'")
    kind = _optional(values, "type")
    if kind == "unix":
        socket = _optional(values, "path") or _optional(values, "socket")
        if socket is None:
            raise RefusedDocument(f"missing socket path for udp transport in JSON backing volume '{text}'")
        return Host(transport=Transport.UNIX, socket=socket)
    if kind not in (None, "tcp", "inet"):
        raise RefusedDocument(f"backing store protocol '{kind}' is not yet supported")
    name = _optional(values, "host")
    if name is None:
        raise RefusedDocument(f"missing hostname for tcp backing server in JSON backing volume definition '{text}'")
    return Host(name=name, port=_port(values, protocol))


def _hosts(values: Values, protocol: Protocol, text: str) -> list[Host]:
    servers = values.get("server")
    if servers is None:
        return []
    return [_host(one, protocol, text) for one in (servers if isinstance(servers, list) else [servers])]


def _file(values: Values, text: str) -> Described:
    return Described(FileSource(file=_need(values, "filename", text, "a file")))


def _device(values: Values, text: str) -> Described:
    return Described(BlockSource(dev=_need(values, "filename", text, "a device")))


def _raw(values: Values, text: str) -> Described:
    raise RefusedDocument(f"JSON backing volume definition '{text}' lacks the file of a raw image")


def _web(values: Values, text: str) -> Described:
    driver = str(values["driver"])
    url = _need(values, "url", text, "a web resource")
    source = _uri(url)
    if source.protocol.value != driver:
        raise RefusedDocument(f"expected protocol '{driver}' but got '{source.protocol}' in URI JSON volume definition")
    checks = values.get("sslverify")
    if checks in ("off", "on") or isinstance(checks, bool):
        source.ssl_verify = checks in ("on", True)
    cookie = _optional(values, "cookie")
    if cookie:
        pairs = [one.strip().partition("=") for one in cookie.split(";")]
        source.cookies = [Cookie(name=name, value=value) for name, _, value in pairs]
    ahead, timeout = values.get("readahead"), values.get("timeout")
    if ahead is not None:
        source.readahead = Readahead(size=_number(ahead, "readahead"))
    if timeout is not None:
        source.timeout_s = _number(timeout, "timeout")
    return Described(source)


def _number(value: Any, key: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as exc:
        raise RefusedDocument(f"malformed '{key}' in a JSON backing volume definition") from exc


def _gluster(values: Values, text: str) -> Described:
    name = _optional(values, "filename")
    if name is not None:
        return Described(_uri(name))
    volume, path = _need(values, "volume", text, "gluster"), _need(values, "path", text, "gluster")
    source = NetworkSource(protocol=Protocol.GLUSTER, name=f"{volume}/{path.removeprefix('/')}")
    source.hosts = _hosts(values, Protocol.GLUSTER, text)
    if not source.hosts:
        raise RefusedDocument("at least 1 server is necessary in JSON backing definition for gluster volume")
    return Described(source)


def _iscsi(values: Values, text: str) -> Described:
    if _optional(values, "transport") not in ("tcp", "iser"):
        raise RefusedDocument("only TCP transport is supported for iSCSI volumes")
    portal, target = _need(values, "portal", text, "iSCSI"), _need(values, "target", text, "iSCSI")
    port = DEFAULT_PORTS[Protocol.ISCSI]
    host, colon, tail = portal.rpartition(":")
    if colon and tail.isdigit() and not (portal.startswith("[") and "]" not in host):
        port = int(tail)
    else:
        host = portal
    lun = values.get("lun", 0)
    source = NetworkSource(protocol=Protocol.ISCSI, name=f"{target}/{_number(lun, 'lun')}")
    source.hosts = [Host(name=host, port=port)]
    if _optional(values, "transport") == "iser":
        source.hosts[0].transport = Transport.RDMA
    return Described(source)


def _nbd(values: Values, text: str) -> Described:
    source = NetworkSource(protocol=Protocol.NBD, name=_optional(values, "export"))
    path, host = _optional(values, "path"), _optional(values, "host")
    if path is not None:
        source.hosts = [Host(transport=Transport.UNIX, socket=path)]
    elif host is not None:
        source.hosts = [Host(name=host, port=_port(values, Protocol.NBD))]
    elif values.get("server") is not None:
        source.hosts = [_host(values["server"], Protocol.NBD, text)]
    else:
        raise RefusedDocument(f"missing host specification of NBD server in JSON backing volume '{text}'")
    return Described(source)


def _sheepdog(values: Values, text: str) -> Described:
    name = _optional(values, "filename")
    if name is not None:
        return Described(_uri(name) if "://" in name else NetworkSource(protocol=Protocol.SHEEPDOG, name=name))
    source = NetworkSource(protocol=Protocol.SHEEPDOG, name=_need(values, "vdi", text, "sheepdog"))
    source.hosts = [_host(values.get("server"), Protocol.SHEEPDOG, text)]
    return Described(source)


def _ssh(values: Values, text: str) -> Described:
    source = NetworkSource(protocol=Protocol.SSH, name=_need(values, "path", text, "SSH"))
    server = values.get("server")
    host = _optional(values, "host")
    if server is not None:
        source.hosts = [_host(server, Protocol.SSH, text)]
    elif host is not None:
        source.hosts = [Host(name=host, port=_port(values, Protocol.SSH))]
    else:
        raise RefusedDocument(f"missing host/server or path of SSH JSON backing volume definition '{text}'")
    return Described(
        source, user=_optional(values, "user"), checks_host_key=_optional(values, "host_key_check") != "no"
    )


def _rbd(values: Values, text: str) -> Described:
    name = _optional(values, "filename")
    if name is not None:
        return Described(_colon(name) if name.startswith("rbd:") else NetworkSource(protocol=Protocol.RBD, name=name))
    pool, image = _need(values, "pool", text, "RBD"), _need(values, "image", text, "RBD")
    source = NetworkSource(
        protocol=Protocol.RBD,
        name=f"{pool}/{image}",
        snapshot=_optional(values, "snapshot"),
        config=_optional(values, "conf"),
    )
    source.hosts = _hosts(values, Protocol.RBD, text)
    return Described(source)


def _nfs(values: Values, text: str) -> Described:
    source = NetworkSource(protocol=Protocol.NFS, name=_need(values, "path", text, "NFS"))
    source.hosts = [_host(values.get("server"), Protocol.NFS, text)]
    user, group = values.get("user"), values.get("group")
    if user is not None or group is not None:
        source.identity = NfsIdentity(
            user=None if user is None else f"+{_number(user, 'user')}",
            group=None if group is None else f"+{_number(group, 'group')}",
        )
    return Described(source)


def _vxhs(values: Values, text: str) -> Described:
    source = NetworkSource(protocol=Protocol.VXHS, name=_need(values, "vdisk-id", text, "VxHS"))
    source.hosts = [_host(values.get("server"), Protocol.VXHS, text)]
    return Described(source)


def _nvme(values: Values, text: str) -> Described:
    found = _PCI.match(_need(values, "device", text, "NVMe"))
    if found is None:
        raise RefusedDocument(f"malformed NVMe device in JSON backing volume definition '{text}'")
    domain, bus, slot, function = (int(part, 16) for part in found.groups())
    address = SourcePciAddress(domain=domain, bus=bus, slot=slot, function=function)
    namespace = _number(values.get("namespace"), "namespace")
    return Described(NvmeSource(type="pci", namespace_id=namespace, address=address))


_READERS: Final = {
    "file": _file,
    "host_device": _device,
    "host_cdrom": _device,
    "raw": _raw,
    "http": _web,
    "https": _web,
    "ftp": _web,
    "ftps": _web,
    "tftp": _web,
    "gluster": _gluster,
    "iscsi": _iscsi,
    "nbd": _nbd,
    "sheepdog": _sheepdog,
    "ssh": _ssh,
    "rbd": _rbd,
    "nfs": _nfs,
    "vxhs": _vxhs,
    "nvme": _nvme,
}
