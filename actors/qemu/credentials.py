"""Certificates that a running guest's QEMU serves with, or goes to others with, for as long as something lasts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from actors.qemu.command.protocols import secret_object, tls_object
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.needs import ask_key
from schema.errors import VirtError


@dataclass(frozen=True, slots=True)
class Credentials:
    """QEMU's objects of one use, by the names that libvirt gives them."""

    alias: str
    secret: str
    folder: str
    verifies: bool
    key_secret: str = ""
    """UUID of the secret with the key's password; empty where it has none."""


async def add_credentials(host: QemuHost, guest: Guest, given: Credentials, *, serves: bool) -> None:
    """Gives QEMU the certificates. Raises NoSuchSecret, InternalError with QEMU's words for broken ones."""
    password = None
    if given.key_secret:
        password = given.secret
        data, vector = await ask_key(host.needed, guest.folder, given.key_secret)
        await guest.ask("object-add", secret_object(password, data, vector))
    properties = tls_object(given.alias, given.folder, "server" if serves else "client", given.verifies, password)
    await guest.ask("object-add", {name: value for name, value in properties.items() if value is not None})


async def drop_credentials(guest: Guest, alias: str, secret: str) -> None:
    """Takes them away again; nothing happens where there are none, or where QEMU does not answer any more."""
    with contextlib.suppress(VirtError):
        there = {one.get("name") for one in await guest.ask("qom-list", {"path": "/objects"})}
        for name in (alias, secret):
            if name in there:
                await guest.ask("object-del", {"id": name})
