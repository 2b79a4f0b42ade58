"""What is remembered on a file itself of whose it was: extended attributes that libvirt reads and writes as well.

The owner, how many use the file with another one, and the boot in which that was: after another boot nobody does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from actors.qemu.owning.identity import Owner, parse_label
from schema.errors import InvalidArguments, ResourceBusy

_OWNER: Final = "trusted.libvirt.security.dac"
_COUNT: Final = "trusted.libvirt.security.ref_dac"
_BOOT: Final = "trusted.libvirt.security.timestamp_dac"
_ABSENT: Final = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.ENOSYS)
_LOCK: Final = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1, 1, 0)
"""The byte by which whoever changes the attributes keeps others from it."""
_OFD_SETLK: Final = 37
LOCK_WAIT_S: Final = 10.0
_SAME_BOOT_S: Final = 30
_RECORDS: Final = Path("/run/utmp")
_RECORD: Final = struct.Struct("=h338xi40x")
"""Kind and time of what is on record of logins and boots."""
_BOOT_TIME: Final = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """Whose a file was before `count` users got it."""

    owner: Owner
    count: int


@cache
def boot_mark() -> str:
    """When the host came up, in seconds, as libvirt finds it out: as it is on record, else as the kernel says."""
    with contextlib.suppress(OSError):
        data = _RECORDS.read_bytes()
        for place in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
            kind, seconds = _RECORD.unpack_from(data, place)
            if kind == _BOOT_TIME:
                return str(seconds)
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return line.split()[1]
    return "0"


def is_of_this_boot(mark: str) -> bool:
    """The kernel's time of boot follows its clock: what differs little is the same boot."""
    return not mark.isdecimal() or abs(int(mark) - int(boot_mark())) <= _SAME_BOOT_S


def read_memory(path: str) -> Memory | None:
    """What is remembered on a file; None for nothing, for what another boot left, and where files remember nothing."""
    text, count, boot = (_get(path, name) for name in (_OWNER, _COUNT, _BOOT))
    if text is None or count is None or not count.isdecimal() or int(count) == 0:
        return None
    if boot is not None and not is_of_this_boot(boot):
        return None
    with contextlib.suppress(InvalidArguments):
        return Memory(parse_label(text), int(count))
    return None


def write_memory(path: str, memory: Memory) -> bool:
    """Remembers on the file; whether it can. Raises OSError for a file that is gone or broken."""
    try:
        boot = _get(path, _BOOT)
        # whoever took it first compares to the second
        mark = boot if boot is not None and is_of_this_boot(boot) else boot_mark()
        for name, value in ((_OWNER, str(memory.owner)), (_COUNT, str(memory.count)), (_BOOT, mark)):
            os.setxattr(path, name, value.encode())
    except OSError as exc:
        if exc.errno in (*_ABSENT, errno.EROFS, errno.ENOSPC):
            return False
        raise
    return True


def forget_memory(path: str) -> None:
    """Nothing is remembered on the file any more. Raises OSError for a file that is gone or broken."""
    for name in (_COUNT, _OWNER, _BOOT):
        try:
            os.removexattr(path, name)
        except OSError as exc:
            if exc.errno not in (*_ABSENT, errno.EROFS):
                raise


def _get(path: str, name: str) -> str | None:
    try:
        # libvirt ends its texts with a zero in some versions
        return os.getxattr(path, name).rstrip(b"\0").decode(errors="replace")
    except OSError as exc:
        if exc.errno in _ABSENT:
            return None
        raise


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keeps others who follow the same rule from the attributes; devices, pipes and sockets cannot be locked.

    Raises ResourceBusy when somebody else does not come to an end.
    """
    descriptor = _open(path)
    if descriptor is None:
        yield
        return
    try:
        until = time.monotonic() + LOCK_WAIT_S
        while not _try(descriptor):
            if time.monotonic() > until:
                raise ResourceBusy(f"the owner of '{path}' is being changed by somebody else")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _open(path: str) -> int | None:
    if not Path(path).is_file():
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None


def _try(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, _OFD_SETLK, _LOCK)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if exc.errno in (errno.ENOLCK, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            return True
        raise
    return True
