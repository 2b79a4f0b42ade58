"""Storage nodes of images on storage servers: NBD, iSCSI, RBD, Gluster, HTTP, NFS, SSH."""

from __future__ import annotations

import grp
import pwd
from typing import Final
from urllib.parse import quote

from actors.qemu.command.launch import Launch, secret_of
from actors.qemu.command.line import Properties
from conf.domain.secrets import Auth, Encryption
from conf.domain.storage_source import Host, Initiator, NetworkSource, Protocol, Transport
from schema.errors import ConfigUnsupported, InvalidArguments, RefusedDocument

Steps = list[tuple[str, Properties]]

_PORTS: Final = {
    Protocol.NBD: 10809,
    Protocol.SHEEPDOG: 7000,
    Protocol.GLUSTER: 24007,
    Protocol.ISCSI: 3260,
    Protocol.HTTP: 80,
    Protocol.HTTPS: 443,
    Protocol.FTP: 21,
    Protocol.FTPS: 990,
    Protocol.TFTP: 69,
    Protocol.SSH: 22,
    Protocol.VXHS: 9999,
    Protocol.NFS: 2049,
}


def network_storage(
    launch: Launch,
    steps: Steps,
    name: str,
    source: NetworkSource,
    auth: Auth | None,
    encryption: Encryption | None,
    secret_name: str,
) -> Properties:
    """The storage node's driver and its options; secrets it refers to are added to `steps`.

    Raises ConfigUnsupported for a protocol that QEMU does not speak, RefusedDocument for servers that cannot be.
    """
    secret = None
    if auth is not None and auth.secret is not None:
        secret = f"{name}-auth-secret0"
        data, vector = launch.host.secret(auth.secret)
        steps.append(("-object", secret_object(secret, data, vector)))
    user = auth.username if auth is not None else None
    match source.protocol:
        case Protocol.NBD:
            return _nbd(launch, steps, name, source)
        case Protocol.ISCSI:
            return iscsi(source.name or "", source.hosts, source.initiator, user, secret)
        case Protocol.RBD:
            return _rbd(source, auth, secret, encryption, secret_name)
        case Protocol.GLUSTER:
            return _gluster(launch, source)
        case Protocol.HTTP | Protocol.HTTPS | Protocol.FTP | Protocol.FTPS | Protocol.TFTP:
            return _curl(launch, steps, name, source, user, secret)
        case Protocol.SHEEPDOG:
            server = _socket_address(source.protocol, _one_host(source))
            return {"driver": "sheepdog", "server": server, "vdi": source.name}
        case Protocol.NFS:
            return _nfs(source)
        case Protocol.VXHS:
            return _vxhs(launch, steps, name, source)
        case Protocol.SSH:
            host = _one_host(source)
            return {
                "driver": "ssh",
                "path": source.name,
                "server": {"host": host.name, "port": _port(source.protocol, host)},
                "user": user,
            }
        case _:
            raise ConfigUnsupported(f"'{source.protocol}' protocol is not supported with this QEMU binary")


def secret_object(name: str, data: str, vector: str) -> Properties:
    """A secret that only the guest's master key opens."""
    return {
        "qom-type": "secret",
        "id": name,
        "data": data,
        "keyid": "masterKey0",
        "iv": vector,
        "format": "base64",
    }


def _one_host(source: NetworkSource) -> Host:
    if len(source.hosts) != 1:
        old = source.protocol in (Protocol.NBD, Protocol.SHEEPDOG)
        what = f"{source.protocol} protocol" if old else f"protocol '{source.protocol}'"
        raise RefusedDocument(f"{what} accepts only one host")
    return source.hosts[0]


def _port(protocol: Protocol, host: Host) -> str:
    return str(host.port or _PORTS.get(protocol, 0))


def _socket_address(protocol: Protocol, host: Host) -> Properties:
    if host.transport is Transport.UNIX:
        return {"type": "unix", "path": host.socket}
    if host.transport is Transport.RDMA:
        raise RefusedDocument("transport protocol 'rdma' is not yet supported")
    return {"type": "inet", "host": host.name, "port": _port(protocol, host)}


def _nbd(launch: Launch, steps: Steps, name: str, source: NetworkSource) -> Properties:
    properties: Properties = {
        "driver": "nbd",
        "server": _socket_address(source.protocol, _one_host(source)),
        "export": source.name,
    }
    if launch.options.nbd_tls if source.tls is None else source.tls:
        tls = f"obj{name}_tls0"
        password = None
        if launch.options.nbd_tls_secret:
            password = f"{tls}-secret0"
            data, vector = launch.host.secret(secret_of(launch.options.nbd_tls_secret))
            steps.append(("-object", secret_object(password, data, vector)))
        steps.append(("-object", tls_object(tls, launch.options.nbd_tls_folder, "client", True, password)))
        properties["tls-creds"] = tls
        properties["tls-hostname"] = source.tls_hostname
    return properties


def _vxhs(launch: Launch, steps: Steps, name: str, source: NetworkSource) -> Properties:
    if launch.caps.lacks("vxhs"):
        raise ConfigUnsupported("VxHS protocol is not supported with this QEMU binary")
    host = _one_host(source)
    options = launch.options
    properties: Properties = {"driver": "vxhs"}
    if options.vxhs_tls if source.tls is None else source.tls:
        tls = f"obj{name}_tls0"
        password = None
        if options.vxhs_tls_secret:
            password = f"{tls}-secret0"
            data, vector = launch.host.secret(secret_of(options.vxhs_tls_secret))
            steps.append(("-object", secret_object(password, data, vector)))
        steps.append(("-object", tls_object(tls, options.vxhs_tls_folder, "client", True, password)))
        properties["tls-creds"] = tls
    properties["vdisk-id"] = source.name
    properties["server"] = {"host": host.name, "port": _port(source.protocol, host)}
    return properties


def tls_object(name: str, folder: str, endpoint: str, verify: bool, password: str | None) -> Properties:
    """Certificates for one end of an encrypted connection."""
    return {
        "qom-type": "tls-creds-x509",
        "id": name,
        "dir": folder,
        "endpoint": endpoint,
        "verify-peer": verify,
        "passwordid": password,
    }


def iscsi(
    name: str, hosts: list[Host], initiator: Initiator | None, user: str | None, secret: str | None
) -> Properties:
    """An iSCSI logical unit: `target` or `target/lun`. Raises RefusedDocument for a malformed unit number."""
    if not hosts:
        raise ConfigUnsupported("iSCSI backing is supported only for a single host")
    host = hosts[0]
    target, _, lun = name.partition("/")
    if lun and not lun.isdigit():
        raise RefusedDocument(f"cannot parse target for lunStr '{target}'")
    return {
        "driver": "iscsi",
        "portal": f"{_bracketed(host.name or '')}:{_port(Protocol.ISCSI, host)}",
        "target": target,
        "lun": int(lun or 0),
        "transport": "iser" if host.transport is Transport.RDMA else "tcp",
        "user": user,
        "password-secret": secret,
        "initiator-name": initiator.iqn if initiator is not None else None,
    }


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _rbd(
    source: NetworkSource, auth: Auth | None, secret: str | None, encryption: Encryption | None, secret_name: str
) -> Properties:
    pool, _, image = (source.name or "").partition("/")
    properties: Properties = {
        "driver": "rbd",
        "pool": pool,
        "image": image,
        "snapshot": source.snapshot,
        "conf": source.config,
    }
    if source.hosts:
        properties["server"] = [{"host": host.name, "port": _port(source.protocol, host)} for host in source.hosts]
    if encryption is not None and encryption.engine == "librbd":
        properties["encrypt"] = {"format": encryption.format, "key-secret": secret_name}
    if auth is not None:
        properties["user"] = auth.username
        properties["auth-client-required"] = ["cephx", "none"]
        properties["key-secret"] = secret
    return properties


def _gluster(launch: Launch, source: NetworkSource) -> Properties:
    volume, _, path = (source.name or "").partition("/")
    return {
        "driver": "gluster",
        "volume": volume,
        "path": path,
        "server": [_socket_address(source.protocol, host) for host in source.hosts],
        "debug": launch.options.debug_gluster,
    }


def _curl(
    launch: Launch, steps: Steps, name: str, source: NetworkSource, user: str | None, secret: str | None
) -> Properties:
    host = _one_host(source)
    query = f"?{source.query}" if source.query else ""
    path = quote((source.name or "").removeprefix("/"), safe="/;@&=+$,!~*'()")
    url = f"{source.protocol}://{_bracketed(host.name or '')}:{_port(source.protocol, host)}/{path}{query}"
    properties: Properties = {"driver": str(source.protocol.value), "url": url}
    properties["username"] = user
    properties["password-secret"] = secret
    if source.ssl_verify is not None:
        properties["sslverify"] = source.ssl_verify
    if source.cookies:
        cookies = f"{name}-httpcookie-secret0"
        data, vector = launch.host.seal("; ".join(f"{one.name}={one.value or ''}" for one in source.cookies))
        steps.append(("-object", secret_object(cookies, data, vector)))
        properties["cookie-secret"] = cookies
    if source.timeout_s is not None:
        properties["timeout"] = source.timeout_s
    if source.readahead is not None:
        properties["readahead"] = source.readahead.size
    return properties


def _nfs(source: NetworkSource) -> Properties:
    host = _one_host(source)
    properties: Properties = {
        "driver": "nfs",
        "server": {"host": host.name, "type": "inet"},
        "path": source.name,
    }
    if source.identity is not None:
        if source.identity.user is not None:
            properties["user"] = _number_of("user", source.identity.user)
        if source.identity.group is not None:
            properties["group"] = _number_of("group", source.identity.group)
    return properties


def _number_of(what: str, name: str) -> int:
    """The number of a user or group that is named, or given as one. Raises InvalidArguments."""
    if not name.startswith("+"):
        try:
            return pwd.getpwnam(name).pw_uid if what == "user" else grp.getgrnam(name).gr_gid
        except KeyError:
            pass
    digits = name.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArguments(f"Failed to parse {what} '{name}'")
    return int(digits)
