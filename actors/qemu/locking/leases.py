"""Leases: who has an image, for all guests of all drivers that share a folder.

A lease is a lock of the kernel on a file of that folder. QEMU holds its descriptor: the lease is the guest's, outlives
every driver, and is free at the moment when the guest's process ends, whatever ends it. The file only says who has it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError, ResourceBusy

_OFD_SETLK: Final = 37
_SUFFIX: Final = ".lease"
_TRIES: Final = 16
_TEXT_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Resource:
    """What a guest must have for itself, or may only share; `name` is what users call it."""

    name: str
    file: Path
    shared: bool = False
    offset: int = 0
    is_ours: bool = True
    """The file is one of the lease folder's, and says who has it."""

    @property
    def handle(self) -> str:
        """Under which name QEMU keeps the descriptor."""
        return _handle(self.file, self.offset)


def _handle(file: Path, offset: int = 0) -> str:
    digest = hashlib.sha256(f"{file}:{offset}".encode(errors="surrogateescape")).hexdigest()
    return f"lease-{digest[:24]}"


def resource_of_file(folder: Path, path: str, *, shared: bool) -> Resource:
    """The lease of an image of the host."""
    real = os.path.realpath(path)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()
    return Resource(path, folder / f"{digest}{_SUFFIX}", shared)


def take(resource: Resource, holder: str) -> int:
    """The lease, held by the descriptor that is given. Waits for nobody.

    Raises ResourceBusy when somebody else has it, HostSystemError when its file cannot be had.
    """
    kind = fcntl.F_RDLCK if resource.shared else fcntl.F_WRLCK
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, resource.offset, 1, 0)
    for _ in range(_TRIES):
        descriptor = _open(resource)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            try:
                if not _lock(descriptor, request):
                    raise ResourceBusy(f"Lockspace resource '{resource.name}' is locked")
                if _is_still(descriptor, resource.file):
                    if resource.is_ours:
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, holder.encode(errors="replace")[:_TEXT_MAX], 0)
                    undo.pop_all()
                    return descriptor
            except OSError as exc:
                raise HostSystemError(exc.errno or 0, f"cannot lock '{resource.file}'") from exc
        # somebody swept it away while it was opened
    raise ResourceBusy(f"Lockspace resource '{resource.name}' is locked")


def holder_of(resource: Resource) -> str:
    """Who took a lease last, as it said itself; empty when that is not known."""
    if not resource.is_ours:
        return ""
    try:
        return resource.file.read_bytes()[:_TEXT_MAX].decode(errors="replace")
    except OSError:
        return ""


def leases_by_holder(folder: Path) -> dict[str, set[str]]:
    """Who has the leases of a folder, as they say themselves, by the names under which QEMU keeps them."""
    found: dict[str, set[str]] = {}
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            holder = path.read_bytes()[:_TEXT_MAX].decode(errors="replace")
            found.setdefault(holder, set()).add(_handle(path))
    return found


def sweep(folder: Path) -> None:
    """Removes the files of leases that nobody has."""
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        paths = list(folder.glob(f"*{_SUFFIX}"))
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _lock(descriptor, request) and _is_still(descriptor, path):
                    path.unlink()
            finally:
                os.close(descriptor)


def _open(resource: Resource) -> int:
    try:
        resource.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(resource.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot open the lease '{resource.file}'") from exc


def _lock(descriptor: int, request: bytes) -> bool:
    try:
        fcntl.fcntl(descriptor, _OFD_SETLK, request)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
