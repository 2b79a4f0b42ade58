"""How much of the host a guest's process may have, and with whom it shares the processor's cores."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import Final

from actors.qemu.confining.kernel import make_core_group, share_core_group
from schema.errors import ConfigUnsupported, HostSystemError
from settings.qemu import QemuSettings

_UNLIMITED: Final = -1


def apply_limits(pid: int, settings: QemuSettings) -> None:
    """The limits of the settings, for a process that has just been started.

    Raises HostSystemError, ConfigUnsupported.
    """
    separate_process(pid, settings)
    wanted = [
        (resource.RLIMIT_NPROC, settings.max_processes, "processes"),
        (resource.RLIMIT_NOFILE, settings.max_files, "files"),
    ]
    if settings.max_core != 0:
        wanted.append((resource.RLIMIT_CORE, settings.max_core, "core dumps"))
    for kind, most, what in wanted:
        if most == 0:
            continue
        value = resource.RLIM_INFINITY if most == _UNLIMITED else most
        try:
            resource.prlimit(pid, kind, (value, value))
        except (OSError, ValueError) as exc:
            number = exc.errno if isinstance(exc, OSError) else 0
            raise HostSystemError(number or 0, f"cannot limit the {what} of process {pid} to {most}") from exc


def separate_process(pid: int, settings: QemuSettings) -> None:
    """The whole process is a group of its own, where the settings want that.

    Raises ConfigUnsupported on a kernel that knows no such groups.
    """
    if settings.sched_core in ("emulator", "full"):
        _separate(pid, whole=True)


def separate_processors(threads: Iterable[int], settings: QemuSettings) -> None:
    """The guest's processors are a group of their own, where the settings want that. Raises ConfigUnsupported."""
    first, *others = [one for one in threads if one] or [0]
    if settings.sched_core != "vcpus" or not first:
        return
    _separate(first, whole=False)
    if others:
        try:
            share_core_group(first, others)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, "cannot put processors of the guest into one group") from exc


def _separate(pid: int, *, whole: bool) -> None:
    try:
        make_core_group(pid, whole=whole)
    except OSError as exc:
        raise ConfigUnsupported(f"core scheduling is not supported by this host's kernel: {exc.strerror}") from exc
