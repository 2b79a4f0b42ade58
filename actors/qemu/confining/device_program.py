"""A list of devices as a program for the kernel: what a group of version 2 has in place of a file with lines.

The kernel runs it whenever a process of the group opens or makes a device, and hands it what is wanted: which kind of
device, its numbers, what for. The program answers 1 or 0 (kernel: cgroup-v2, "Device controller"; the instructions are
those of `struct bpf_insn`). Nothing here talks to the kernel.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import Final

INSTRUCTION_BYTES: Final = 8

# classes and operations of instructions
_LOAD_WORD: Final = 0x61
_AND: Final = 0x54
_SHIFT_RIGHT: Final = 0x74
_MOVE: Final = 0xB4
_MOVE_REGISTER: Final = 0xBC
_JUMP_UNLESS_EQUAL: Final = 0x55
_EXIT: Final = 0x95

_ANSWER, _WANTED, _KIND, _ACCESS, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5
"""Registers; the kernel hands `struct bpf_cgroup_dev_ctx` in the second one."""
_AT_ACCESS, _AT_MAJOR, _AT_MINOR = 0, 4, 8
_KINDS: Final = {"b": 1, "c": 2}
_RIGHTS: Final = {"m": 1, "r": 2, "w": 4}
_ALL_RIGHTS: Final = 7


def device_program(rules: Iterable[str]) -> bytes:
    """The program that allows what these lines say (`c 1:3 rw`, `c 136:* rwm`, `a *:* rwm`), and nothing else.

    Raises ValueError for a line that says nothing.
    """
    body = b"".join((
        _one(_LOAD_WORD, _KIND, _WANTED, _AT_ACCESS),
        _one(_MOVE_REGISTER, _ACCESS, _KIND),
        _one(_AND, _KIND, value=0xFFFF),
        _one(_SHIFT_RIGHT, _ACCESS, value=16),
        _one(_LOAD_WORD, _MAJOR, _WANTED, _AT_MAJOR),
        _one(_LOAD_WORD, _MINOR, _WANTED, _AT_MINOR),
    ))  # fmt: skip
    for rule in rules:
        body += _allowing(rule)
    return body + _one(_MOVE, _ANSWER, value=0) + _one(_EXIT)


def _allowing(rule: str) -> bytes:
    """Answers 1 when the wanted is what this line allows, and goes on to what follows otherwise."""
    try:
        kind, numbers, rights = rule.split()
        major, minor = numbers.split(":")
        forbidden = _ALL_RIGHTS & ~sum(_RIGHTS[one] for one in set(rights))
        tests = [] if kind == "a" else [(_KIND, _KINDS[kind])]
        tests += [(register, int(text)) for register, text in ((_MAJOR, major), (_MINOR, minor)) if text != "*"]
    except (KeyError, ValueError):
        raise ValueError(f"'{rule}' is no line of a list of devices") from None
    # wanted rights that are not allowed; the register of the context is not needed any more
    last = b"" if not forbidden else _one(_MOVE_REGISTER, _WANTED, _ACCESS) + _one(_AND, _WANTED, value=forbidden)
    answer = _one(_MOVE, _ANSWER, value=1) + _one(_EXIT)
    left = len(tests) + len(last + answer) // INSTRUCTION_BYTES + (1 if forbidden else 0)
    code = b""
    for register, value in tests:
        left -= 1
        code += _one(_JUMP_UNLESS_EQUAL, register, offset=left, value=value)
    if forbidden:
        code += last + _one(_JUMP_UNLESS_EQUAL, _WANTED, offset=2, value=0)
    return code + answer


def _one(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    # which half of the byte comes first is the host's way, as with all its numbers
    registers = source << 4 | target if sys.byteorder == "little" else target << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)
