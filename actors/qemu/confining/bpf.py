"""The kernel's `bpf` call, as far as lists of devices of control groups need it.

A group's program is found again by its name, so whoever comes later can put another in its place: at no moment is there
none, or an old and a new one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.qemu.confining.device_program import INSTRUCTION_BYTES

NAME: Final = "virtroupe_dev"
_NUMBERS: Final = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64": 361,
    "ppc64le": 361,
    "s390x": 351,
}
_LOAD, _ATTACH, _OPEN_BY_ID, _TELL, _QUERY = 5, 8, 13, 15, 16
_KIND_DEVICES: Final = 15
"""`BPF_PROG_TYPE_CGROUP_DEVICE`"""
_AT_DEVICES: Final = 6
"""`BPF_CGROUP_DEVICE`"""
_SEVERAL, _INSTEAD = 2, 4
_MOST: Final = 64
_ATTRIBUTES: Final = 144
_FACTS: Final = 256
_NAME_AT: Final = 64
"""Where `struct bpf_prog_info` has the name."""
_LICENSE: Final = ctypes.create_string_buffer(b"Apache-2.0")


def attach_devices(group: Path, program: bytes) -> None:
    """From now on this program says which devices the group's processes may open; it takes the place of our last one.

    Raises OSError: ENOSYS without such a call, EPERM and EINVAL where the kernel does not want it.
    """
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        new = _load(program)
        try:
            old = _ours(folder)
            flags, instead = (_SEVERAL, 0) if old is None else (_SEVERAL | _INSTEAD, old)
            try:
                _call(_ATTACH, struct.pack("=IIIII", folder, new, _AT_DEVICES, flags, instead))
            finally:
                if old is not None:
                    os.close(old)
        finally:
            os.close(new)
    finally:
        os.close(folder)


def has_devices(group: Path) -> bool:
    """Whether a program of ours says what the group may open. Raises OSError."""
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _ours(folder)
        if found is None:
            return False
        os.close(found)
        return True
    finally:
        os.close(folder)


def _load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    return _call(
        _LOAD,
        struct.pack(
            "=IIQQIIQII16s",
            _KIND_DEVICES,
            len(program) // INSTRUCTION_BYTES,
            ctypes.addressof(code),
            ctypes.addressof(_LICENSE),
            *(0, 0, 0, 0, 0),
            NAME.encode(),
        ),
    )


def _ours(folder: int) -> int | None:
    """A descriptor of our program on a group."""
    for number in _attached(folder):
        try:
            found = _call(_OPEN_BY_ID, struct.pack("=III", number, 0, 0))
        except FileNotFoundError:
            continue  # it went just now
        if _name(found) == NAME:
            return found
        os.close(found)
    return None


def _attached(folder: int) -> Iterator[int]:
    numbers = (ctypes.c_uint32 * _MOST)()
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", folder, _AT_DEVICES, 0, 0, ctypes.addressof(numbers), _MOST), _ATTRIBUTES
    )
    _call_in(_QUERY, attributes)
    (count,) = struct.unpack_from("=I", attributes.raw, 24)
    yield from numbers[: min(count, _MOST)]


def _name(program: int) -> str:
    facts = ctypes.create_string_buffer(_FACTS)
    _call(_TELL, struct.pack("=IIQ", program, _FACTS, ctypes.addressof(facts)))
    return facts.raw[_NAME_AT : _NAME_AT + 16].partition(b"\0")[0].decode(errors="replace")


def _call(command: int, attributes: bytes) -> int:
    return _call_in(command, ctypes.create_string_buffer(attributes, _ATTRIBUTES))


def _call_in(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(number, command, ctypes.byref(attributes), len(attributes)))
    if result < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return result
