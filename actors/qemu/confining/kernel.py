"""Calls of the kernel that Python has no names for: namespaces of a thread, mounts, and process controls.

What a thread does to itself here (its mounts, the rights that its children can ever have) concerns no other thread, and
is inherited by the processes that it starts.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

NEW_MOUNTS: Final = 0x00020000
_OWN_FOLDERS: Final = 0x00000200
MS_BIND, MS_MOVE, MS_REC, MS_SLAVE, MS_NOSUID = 0x1000, 0x2000, 0x4000, 0x80000, 0x2
_CAPBSET_DROP: Final = 24
_SCHED_CORE: Final = 62
_CORE_GET, _CORE_CREATE, _CORE_SHARE_TO, _CORE_SHARE_FROM = 0, 1, 2, 3
_ONE_THREAD, _WHOLE_PROCESS = 0, 1


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def in_own_thread(work: Callable[[], T]) -> T:
    """Does work in a thread that nothing else uses, and waits for its end. Raises what the work raises."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def unshare_mounts() -> None:
    """This thread's mounts are its own from now on; those that the host makes later come to it. Raises OSError."""
    _checked(_library().unshare(NEW_MOUNTS))
    mount(None, "/", None, MS_REC | MS_SLAVE)


def enter_mounts(pid: int) -> None:
    """This thread sees the mounts of a process. Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_library().unshare(_OWN_FOLDERS))
        _checked(_library().setns(descriptor, NEW_MOUNTS))
    finally:
        os.close(descriptor)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Raises OSError."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    _checked(_library().mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


def drop_rights() -> None:
    """What this thread starts as another user can never get rights of root's. Raises OSError."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    for number in range(last + 1):
        _checked(_library().prctl(_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0))


def make_core_group(pid: int, *, whole: bool) -> None:
    """A process, or one thread, shares the processor's cores with nobody but its own group. Raises OSError."""
    kind = _WHOLE_PROCESS if whole else _ONE_THREAD
    _checked(_library().prctl(_SCHED_CORE, _CORE_CREATE, pid, kind, 0))


def share_core_group(first: int, others: list[int]) -> None:
    """Threads join the group of the first one. Raises OSError."""

    def share() -> None:
        _checked(_library().prctl(_SCHED_CORE, _CORE_SHARE_FROM, first, _ONE_THREAD, 0))
        for thread in others:
            _checked(_library().prctl(_SCHED_CORE, _CORE_SHARE_TO, thread, _ONE_THREAD, 0))

    in_own_thread(share)


def core_group(pid: int) -> int:
    """The mark of a thread's group; 0 for none. Raises OSError."""
    mark = ctypes.c_ulonglong()
    _checked(_library().prctl(_SCHED_CORE, _CORE_GET, pid, _ONE_THREAD, ctypes.byref(mark)))
    return mark.value
