"""Typing on a guest's keyboard: key codes of several sets become those that QEMU takes."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_input import KeycodeSet
from schema.errors import ConfigUnsupported, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_SAME_UP_TO: Final = 88  # so far Linux numbers keys as the first PC keyboards did
# Linux's numbers of the other keys, and the number QEMU gives them
_EXTENDED: Final = {
    96: 0x9C,  # keypad enter
    97: 0x9D,  # right control
    98: 0xB5,  # keypad slash
    99: 0x54,  # system request
    100: 0xB8,  # right alt
    102: 0xC7,  # home
    103: 0xC8,  # up
    104: 0xC9,  # page up
    105: 0xCB,  # left
    106: 0xCD,  # right
    107: 0xCF,  # end
    108: 0xD0,  # down
    109: 0xD1,  # page down
    110: 0xD2,  # insert
    111: 0xD3,  # delete
    113: 0xA0,  # mute
    114: 0xAE,  # volume down
    115: 0xB0,  # volume up
    116: 0xDE,  # power
    119: 0xC6,  # pause
    125: 0xDB,  # left meta
    126: 0xDC,  # right meta
    127: 0xDD,  # menu
    142: 0xDF,  # sleep
    143: 0xE3,  # wake up
}
_NATIVE: Final = (KeycodeSet.XT, KeycodeSet.QNUM)


def qemu_number(codeset: int, code: int) -> int:
    """A key's number as QEMU knows it. Raises ConfigUnsupported for a set or key that cannot be translated."""
    if codeset in _NATIVE:
        return code
    if codeset == KeycodeSet.LINUX:
        if 0 < code <= _SAME_UP_TO:
            return code
        if code in _EXTENDED:
            return _EXTENDED[code]
        raise ConfigUnsupported(f"cannot translate keycode {code} of linux codeset to qnum keycode")
    if codeset == KeycodeSet.ATSET1:
        # the same numbers, whose prefix for the keys of later keyboards is the highest bit here
        number = code & 0x7F | 0x80 if code >> 8 == 0xE0 else code
        if 0 < number <= 0xFF:
            return number
        raise ConfigUnsupported(f"cannot translate keycode {code} of atset1 codeset to qnum keycode")
    raise ConfigUnsupported(f"cannot translate keycodes of codeset {codeset}")


@calls.handles(key="dom")
async def domain_send_key(
    host: QemuHost, dom: DomainRef, codeset: int, holdtime: int, keycodes: list[int], flags: int
) -> None:
    """Presses some keys together for a while.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments, ConfigUnsupported.
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
