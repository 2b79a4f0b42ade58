"""The users of guests: their passwords and the keys they may enter with."""

from __future__ import annotations

import base64
from typing import Final

from actors.qemu.agent.asking import ask_agent
from actors.qemu.flags import check_apart, check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_guest import DomainAuthorizedSSHKeysSetFlags as KeyFlags
from schema.enums.domain_guest import DomainSetUserPasswordFlags as PasswordFlags
from schema.errors import InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_SET: Final = int(KeyFlags.APPEND | KeyFlags.REMOVE)


@calls.handles()
async def domain_set_user_password(
    host: QemuHost, dom: DomainRef, user: str | None, password: str | None, flags: int
) -> None:
    """Sets a user's password in a guest.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, AgentUnresponsive, InternalError.
    """
    check_flags(flags, int(PasswordFlags.ENCRYPTED), "qemuDomainSetUserPassword")
    arguments = {
        "username": user or "",
        "password": base64.b64encode((password or "").encode()).decode(),
        "crypted": bool(flags & PasswordFlags.ENCRYPTED),
    }
    await ask_agent(host, host.guest(dom), "guest-set-user-password", arguments)


@calls.handles()
async def domain_authorized_ssh_keys_get(host: QemuHost, dom: DomainRef, user: str, flags: int) -> list[str]:
    """The keys with which a user may enter a guest. Raises as `domain_set_user_password` does."""
    check_flags(flags, 0, "qemuDomainAuthorizedSSHKeysGet")
    told = await ask_agent(host, host.guest(dom), "guest-ssh-get-authorized-keys", {"username": user})
    return [str(key) for key in told.get("keys", ())]


@calls.handles()
async def domain_authorized_ssh_keys_set(
    host: QemuHost, dom: DomainRef, user: str, keys: list[str], flags: int
) -> None:
    """Replaces the keys with which a user may enter a guest, adds some, or takes some away.

    Raises as `domain_set_user_password` does, InvalidArguments.
    """
    check_flags(flags, _SET, "qemuDomainAuthorizedSSHKeysSet")
    check_apart(
        flags,
        KeyFlags.APPEND,
        "VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND",
        KeyFlags.REMOVE,
        "VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE",
    )
    if flags & _SET and not keys:
        raise InvalidArguments("keys must not be empty when they are to be added or taken away")
    guest = host.guest(dom)
    if flags & KeyFlags.REMOVE:
        await ask_agent(host, guest, "guest-ssh-remove-authorized-keys", {"username": user, "keys": keys})
        return
    arguments = {"username": user, "keys": keys, "reset": not flags & KeyFlags.APPEND}
    await ask_agent(host, guest, "guest-ssh-add-authorized-keys", arguments)
