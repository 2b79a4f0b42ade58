"""Cookies as they are sent: bytes with a NUL behind them, from a host that has an identity of its own."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.cookie_document import CookieNbd, MigrationCookie, NbdDisk
from actors.qemu.migration.cookies import migration_cookie, parse_migration_cookie, write_migration_cookie
from actors.runtime.host_facts.host_part import host_uuid
from conf.document import parse_document
from conf.domain.domain import Domain
from schema.errors import InternalError


def identity_of(folder: Path) -> UUID:
    """What a cookie names a host by: two agents of one host are two, and a guest may go from one to the other."""
    return uuid5(host_uuid() or NAMESPACE_URL, str(folder))


def own_cookie(domain: Domain, name: str, folder: Path) -> MigrationCookie:
    """What this side says of a guest, by the name that the guest has where it comes from."""
    cookie = migration_cookie(domain, os.uname().nodename or "localhost", identity_of(folder))
    cookie.name = name
    return cookie


def our_cookie(host: QemuHost, guest: Guest) -> MigrationCookie:
    """A cookie that says who we are, and what guest it is about."""
    definition = guest.live if guest.is_active else guest.config
    move = guest.run.move if guest.run is not None else None
    name = move.name if move is not None and move.way == "in" and move.name else definition.name
    return own_cookie(definition, name, host.state_folder)


def write_cookie(cookie: MigrationCookie) -> bytes:
    """The bytes as they are sent."""
    return write_migration_cookie(cookie).encode() + b"\0"


def read_cookie(data: bytes) -> MigrationCookie | None:
    """What the other side says; None for nothing. Raises InternalError, XmlError for what is no cookie."""
    text = _text(data)
    if text is None:
        return None
    return MigrationCookie.parse(parse_document(text, name="qemu_migration_cookie", root="qemu-migration"))


def check_cookie(data: bytes, domain: Domain, folder: Path) -> MigrationCookie | None:
    """The first cookie of a migration. Raises InternalError too when it is another guest's, or this host's own."""
    text = _text(data)
    return None if text is None else parse_migration_cookie(text, domain, identity_of(folder))


def _text(data: bytes) -> str | None:
    if not data.rstrip(b"\0"):
        return None
    if data[-1:] != b"\0":
        raise InternalError("Migration cookie was not NULL terminated")
    try:
        return data[:-1].decode()
    except UnicodeDecodeError as exc:
        raise InternalError("the migration cookie is not UTF-8") from exc


def nbd_part(port: int | None, sizes: dict[str, int]) -> CookieNbd:
    """Which disks are sent along, and where to."""
    return CookieNbd(port=port, disks=[NbdDisk(target=name, capacity=size) for name, size in sizes.items()])


def nbd_sizes(cookie: MigrationCookie | None) -> dict[str, int]:
    """The disks that are sent along, and their sizes."""
    return {} if cookie is None or cookie.nbd is None else {one.target: one.capacity for one in cookie.nbd.disks}
