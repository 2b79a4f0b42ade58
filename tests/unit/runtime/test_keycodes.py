"""Key numbers of libvirt's sets."""

from __future__ import annotations

import pytest

from actors.runtime.keycodes import find_qnum
from schema.enums.domain_input import KeycodeSet


@pytest.mark.parametrize(
    ("codeset", "code", "number"),
    [
        (KeycodeSet.LINUX, 28, 0x1C),  # enter
        (KeycodeSet.LINUX, 96, 0x9C),  # the keypad's enter
        (KeycodeSet.LINUX, 111, 0xD3),  # delete
        (KeycodeSet.LINUX, 99, 0x54),  # system request
        (KeycodeSet.LINUX, 123, 0x71),  # hanja
        (KeycodeSet.XT, 0xE053, 0xD3),
        (KeycodeSet.ATSET1, 0x1C, 0x1C),
        (KeycodeSet.ATSET1, 0xE01C, 0x9C),
        (KeycodeSet.ATSET1, 0xF1, 0x71),
        (KeycodeSet.ATSET2, 0x5A, 0x1C),
        (KeycodeSet.ATSET3, 0x5A, 0x1C),
        (KeycodeSet.OSX, 0x24, 0x1C),
        (KeycodeSet.XT_KBD, 0x153, 0xD3),
        (KeycodeSet.USB, 40, 0x1C),
        (KeycodeSet.WIN32, 0x2E, 0xD3),
        (KeycodeSet.QNUM, 0xB7, 0xB7),
        (KeycodeSet.LINUX, 0, None),
        (KeycodeSet.LINUX, 272, None),  # a button of a mouse
        (KeycodeSet.USB, 9999, None),
        (KeycodeSet.XT_KBD, 0xE053, None),
    ],
)
def test_a_key_has_its_number(codeset: KeycodeSet, code: int, number: int | None) -> None:
    assert find_qnum(codeset, code) == number


@pytest.mark.parametrize("codeset", [one for one in KeycodeSet if one != KeycodeSet.QNUM])
def test_every_set_has_keys_that_qemu_knows(codeset: KeycodeSet) -> None:
    numbers = [number for code in range(0x10000) if (number := find_qnum(codeset, code)) is not None]
    assert len(numbers) > 90
    assert all(0 < number <= 0xFF for number in numbers)
