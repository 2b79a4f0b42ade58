"""The file that a saved guest of the test driver lies in: a magic word, the length of its definition, the definition.

The layout is libvirt's, so that either's images can be restored by the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError, InternalError, VirtError

MAGIC: Final = b"TestGuestMagic\0"
LENGTH: Final = struct.Struct("<i")
LONGEST_DEFINITION: Final = 8 * 1024 * 1024


def write_image(path: str, definition: str) -> None:
    """Writes an image. Raises OSError; what was there before is whole then."""
    data = definition.encode()
    new = f"{path}.{os.getpid()}.new"
    try:
        with open(new, "xb", buffering=0, opener=_private) as file:
            file.write(MAGIC + LENGTH.pack(len(data)) + data)
            os.fsync(file.fileno())
        Path(new).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(new).unlink()
        raise


def write_core(path: str) -> None:
    """Writes what this driver calls a core dump: the magic word. Raises OSError."""
    with open(path, "wb", buffering=0, opener=_private) as file:
        file.write(MAGIC)


def read_image(path: str) -> str:
    """The definition in an image.

    Raises HostSystemError when there is none or it is too short, InternalError when it is something else.
    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            head = file.read(len(MAGIC))
            if len(head) < len(MAGIC):
                raise _short(f"incomplete save header in '{path}'")
            if head != MAGIC:
                raise InternalError("mismatched header magic")
            size = file.read(LENGTH.size)
            if len(size) < LENGTH.size:
                raise _short(f"failed to read metadata length in '{path}'")
            (length,) = LENGTH.unpack(size)
            if not 1 <= length <= LONGEST_DEFINITION:
                raise InternalError("length of metadata out of range")
            data = file.read(length)
            if len(data) < length:
                raise _short(f"incomplete metadata in '{path}'")
    except OSError as exc:
        raise HostSystemError(exc.errno or errno.EIO, f"cannot read domain image '{path}'") from exc
    return data.decode("utf-8", "replace")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _short(what: str) -> VirtError:
    return HostSystemError(0, what)  # libvirt's words: the system call succeeded, it just gave too little
