"""Files that hold a guest's memory: their beginning, written and read."""

from __future__ import annotations

import os
from pathlib import Path

from actors.qemu.saved.header import SIZE, SavedImage, pack_image, unpack_head, unpack_image
from schema.errors import HostSystemError


def write_header(
    path: Path,
    xml: str,
    *,
    running: bool,
    complete: bool,
    cookie: str | None = None,
    length: int | None = None,
    compression: int = 0,
) -> int:
    """Writes the beginning of a file; gives the place where QEMU's stream begins.

    A complete one is on disk when this returns. Raises HostSystemError, OperationFailed.
    """
    data = pack_image(xml, cookie, running=running, complete=complete, length=length, compression=compression)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, data, 0)
            if complete:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to create file '{path}'") from exc
    return len(data)


def read_header(path: Path) -> SavedImage:
    """The beginning of a saved guest's file. Raises OperationFailed for what is none, HostSystemError."""
    try:
        with path.open("rb") as file:
            head = unpack_head(file.read(SIZE))
            return unpack_image(head, file.read(head.length))
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to open file '{path}'") from exc
