"""Migrations over TLS: QEMU proves itself, and checks the other side, by the certificates of a folder.

The folder is the one that is configured, else where libvirt looks. The credentials are there only while the guest is on
its way, under libvirt's name for them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.parameters import MigrationParameters
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import DomainStateError, InvalidArguments, VirtError

ALIAS: Final = "objlibvirt_migrate_tls0"


def certificates_of(host: QemuHost) -> Path:
    """The folder of the certificates. Raises DomainStateError when there is none."""
    wanted = host.config.qemu.migrate_tls_folder
    places = [Path(wanted)] if wanted else _usual_places()
    for place in places:
        if place.is_dir():
            return place
    raise DomainStateError("host migration TLS directory not configured")


def _usual_places() -> list[Path]:
    if os.geteuid() == 0:
        return [Path("/etc/pki/libvirt-migrate"), Path("/etc/pki/qemu")]
    home = Path(os.environ.get("HOME", "/"))
    return [home / ".pki" / "libvirt-migrate", home / ".pki" / "qemu"]


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
    properties: dict[str, object] = {
        "qom-type": "tls-creds-x509",
        "id": ALIAS,
        "dir": str(certificates_of(host)),
        "endpoint": "server" if incoming else "client",
        "verify-peer": host.config.qemu.migrate_tls_verify,
    }
    await guest.ask("object-add", properties)


async def drop_credentials(guest: Guest) -> None:
    """Takes them away again; nothing happens where there are none."""
    with contextlib.suppress(VirtError):
        if any(one.get("name") == ALIAS for one in await guest.ask("qom-list", {"path": "/objects"})):
            await guest.ask("migrate-set-parameters", {"tls-creds": "", "tls-hostname": ""})
            await guest.ask("object-del", {"id": ALIAS})
