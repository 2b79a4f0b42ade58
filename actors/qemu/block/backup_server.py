"""The server from which clients pull a backup, encrypted where that is asked for."""

from __future__ import annotations

import contextlib
from typing import Final

from actors.qemu.block.backup_plan import server_address
from actors.qemu.credentials import Credentials, add_credentials, drop_credentials
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.host_options import certificates_of, verifies
from conf.moment.backup import BackupServer
from schema.errors import VirtError

_ALIAS: Final = "objlibvirt_backup_tls0"
_SECRET: Final = "libvirt_backup-secret0"


async def start_server(host: QemuHost, guest: Guest, server: BackupServer) -> None:
    """Starts it; what it needs is left when that fails. Raises NoSuchSecret, InternalError with QEMU's words."""
    arguments: dict[str, object] = {"addr": server_address(server)}
    if server.tls:
        settings = host.config.qemu
        given = Credentials(
            _ALIAS,
            _SECRET,
            certificates_of(settings, "backup"),
            verifies(settings.backup_tls_verify, settings, unset=True),
            settings.backup_tls_secret or settings.tls_secret,
        )
        await add_credentials(host, guest, given, serves=True)
        arguments["tls-creds"] = _ALIAS
    await guest.ask("nbd-server-start", arguments)


async def stop_server(guest: Guest) -> None:
    """Ends it, and what it needed; nothing happens where there is none."""
    with contextlib.suppress(VirtError):
        await guest.ask("nbd-server-stop")
    await drop_credentials(guest, _ALIAS, _SECRET)
