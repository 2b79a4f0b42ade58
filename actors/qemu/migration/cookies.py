"""Cookies of a guest that moves, between text and object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from actors.qemu.migration.cookie_document import CookieCapabilities, CookieFeature, CookieGraphics, MigrationCookie
from conf.document import parse_document
from conf.domain.domain import Domain
from conf.domain.graphics import GraphicsType
from conf.flags import XmlFlags
from schema.errors import InternalError

KNOWN: Final = (
    *("graphics", "lockstate", "persistent", "network", "nbd", "statistics"),
    *("memory-hotplug", "cpu-hotplug", "cpu", "allowReboot", "capabilities", "block-dirty-bitmaps"),
)
"""What a cookie may say must be understood."""


def parse_migration_cookie(
    xml: str | bytes, domain: Domain, host: UUID, understood: Iterable[str] = KNOWN
) -> MigrationCookie:
    """What the other side tells of a guest.

    Raises XmlDetailError and XmlError; InternalError when it speaks of another guest, is this host itself, or demands
    what is not understood.
    """
    cookie = MigrationCookie.parse(parse_document(xml, name="qemu_migration_cookie", root="qemu-migration"))
    if cookie.name != domain.name:
        raise InternalError(f"Incoming cookie data had unexpected name {domain.name} vs {cookie.name}")
    if cookie.uuid != domain.uuid:
        raise InternalError(f"Incoming cookie data had unexpected UUID {domain.uuid} vs {cookie.uuid}")
    if cookie.host_uuid == host:
        raise InternalError(f"Attempt to migrate guest to the same host {host}")
    for feature in cookie.features:
        if feature.name not in KNOWN:
            raise InternalError(f"Unknown migration cookie feature {feature.name}")
        if feature.name not in understood:
            raise InternalError(f"Unsupported migration cookie feature {feature.name}")
    return cookie


def write_migration_cookie(cookie: MigrationCookie) -> str:
    """The document, with the secrets of the definition in it."""
    return cookie.to_xml(XmlFlags.INACTIVE | XmlFlags.SECURE | XmlFlags.MIGRATABLE)


def migration_cookie(
    domain: Domain, hostname: str, host: UUID, *, features: Iterable[str] = (), with_tls: bool = False
) -> MigrationCookie:
    """What this host tells first of a guest; `features` are those that the other side must understand."""
    return MigrationCookie(
        name=domain.name,
        uuid=domain.uuid,
        hostname=hostname,
        host_uuid=host,
        features=[CookieFeature(name=one) for one in features],
        graphics=_graphics(domain, with_tls=with_tls),
        capabilities=CookieCapabilities(),
    )


def _graphics(domain: Domain, *, with_tls: bool) -> CookieGraphics | None:
    """Only SPICE viewers can go on at another host."""
    for graphics in domain.devices.graphics:
        if graphics.type is GraphicsType.SPICE:
            listen = next((one.address for one in graphics.listens if one.address), None)
            return CookieGraphics(
                type="spice",
                port=graphics.port or 0,
                listen=listen or "127.0.0.1",
                tls_port=graphics.tls_port or -1 if with_tls else -1,
            )
    return None
