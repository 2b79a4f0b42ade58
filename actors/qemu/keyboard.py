"""Typing on a guest's keyboard: key codes of several sets become those that QEMU takes."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from actors.runtime.keycodes import find_qnum
from schema.enums.domain_input import KeycodeSet
from schema.errors import InternalError, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_SET_NAMES: Final = ("linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum")


def qemu_number(codeset: int, code: int) -> int:
    """A key's number as QEMU knows it. Raises InvalidArguments for an unknown set, InternalError for a key it lacks."""
    if not 0 <= codeset < len(_SET_NAMES):
        raise InvalidArguments(f"Unsupported codeset '{codeset}'")
    number = find_qnum(KeycodeSet(codeset), code)
    if number is None:
        name = _SET_NAMES[codeset]
        raise InternalError(f"cannot translate keycode {code} of {name} codeset to qnum keycode")
    return number


@calls.handles(key="dom")
async def domain_send_key(
    host: QemuHost, dom: DomainRef, codeset: int, holdtime: int, keycodes: list[int], flags: int
) -> None:
    """Presses some keys together for a while.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments, InternalError for a key that QEMU
    lacks.
    """
    check_flags(flags, 0, "qemuDomainSendKey")
    guest = host.guest(dom)
    guest.need_run()
    if not keycodes:
        raise InvalidArguments("no keys are given")
    keys = [{"type": "number", "data": qemu_number(codeset, code)} for code in keycodes]
    arguments: dict[str, Any] = {"keys": keys}
    if holdtime:
        arguments["hold-time"] = holdtime
    await guest.ask("send-key", arguments)
