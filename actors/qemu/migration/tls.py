"""Migrations over TLS: QEMU proves itself, and checks the other side, by the certificates of a folder.

The folder is the one that is configured, else where libvirt looks. The credentials are there only while the guest is on
its way, under libvirt's name for them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from actors.qemu import credentials, host_options
from actors.qemu.credentials import Credentials
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.parameters import MigrationParameters
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import DomainStateError, InvalidArguments, VirtError
from settings.qemu import QemuSettings

ALIAS: Final = "objlibvirt_migrate_tls0"
_SECRET: Final = "libvirt_migrate-secret0"


def certificates_of(host: QemuHost) -> Path:
    """The folder of the certificates. Raises DomainStateError when there is none."""
    settings = host.config.qemu
    places = [Path(settings.migrate_tls_folder)] if settings.migrate_tls_folder else _usual_places(settings)
    for place in places:
        if place.is_dir():
            return place
    raise DomainStateError("host migration TLS directory not configured")


def _usual_places(settings: QemuSettings) -> list[Path]:
    if os.geteuid() == 0:
        return [Path(host_options.certificates_of(settings, "migrate"))]
    home = Path(os.environ.get("HOME", "/"))
    return [home / ".pki" / "libvirt-migrate", home / ".pki" / "qemu"]


def check_is_encrypted(host: QemuHost, flags: int) -> None:
    """Raises DomainStateError for a migration in the open on a host that wants none."""
    if host.config.qemu.migrate_tls_force and not flags & (Flags.TLS | Flags.TUNNELLED):
        raise DomainStateError("this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag")


def tls_of(params: MigrationParameters, flags: int) -> tuple[str, str] | None:
    """The credentials and the name that the other side must have (empty: that of its address); None without TLS."""
    return (ALIAS, params.tls_destination or "") if flags & Flags.TLS else None


def check_destination(params: MigrationParameters, uri: str, flags: int) -> None:
    """Raises InvalidArguments when nobody has said whose certificate the other side must have."""
    if flags & Flags.TLS and uri.startswith("unix:") and not params.tls_destination:
        raise InvalidArguments("Explicit destination hostname is required for TLS migration over UNIX socket")


async def add_credentials(host: QemuHost, guest: Guest, flags: int, *, incoming: bool) -> None:
    """Gives QEMU the certificates, where TLS is asked for; what is left of an earlier migration goes.

    Raises DomainStateError when there are none, InternalError with QEMU's words for broken ones.
    """
    await drop_credentials(guest)
    if not flags & Flags.TLS:
        return
    settings = host.config.qemu
    given = Credentials(
        ALIAS,
        _SECRET,
        str(certificates_of(host)),
        host_options.verifies(settings.migrate_tls_verify, settings, unset=True),
        settings.migrate_tls_secret or settings.tls_secret,
    )
    await credentials.add_credentials(host, guest, given, serves=incoming)


async def drop_credentials(guest: Guest) -> None:
    """Takes them away again; nothing happens where there are none."""
    with contextlib.suppress(VirtError):
        await guest.ask("migrate-set-parameters", {"tls-creds": "", "tls-hostname": ""})
    await credentials.drop_credentials(guest, ALIAS, _SECRET)
