"""Asking this host for its firmware's tables."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path
from typing import Final

from actors.runtime.host_facts.sysinfo import (
    DMIDECODE,
    sysinfo_from_arm,
    sysinfo_from_dmidecode,
    sysinfo_from_ppc,
    sysinfo_from_s390,
)
from conf.domain.sysinfo import Sysinfo

_PATIENCE_S: Final = 10.0
_PROC: Final = Path("/proc")


async def read_sysinfo(command: tuple[str, ...] = DMIDECODE, arch: str | None = None) -> Sysinfo | None:
    """What the firmware, or else the kernel, says of the hardware; None where nothing is told.

    `command` and `arch` are those of this host unless a test says otherwise.
    """
    arch = arch or platform.machine()
    if arch.startswith("s390"):
        return sysinfo_from_s390(_text(_PROC / "sysinfo"), _text(_PROC / "cpuinfo"))
    if arch.startswith("ppc"):
        return sysinfo_from_ppc(_text(_PROC / "cpuinfo"))
    listing = await _output(command)
    info = sysinfo_from_dmidecode(listing) if listing else None
    if info is None and arch.startswith(("arm", "aarch64")):
        return sysinfo_from_arm(_text(_PROC / "cpuinfo"))
    # a firmware without tables lets dmidecode succeed with nothing to tell
    return info if info is not None and (info.bios or info.system or info.processors) else None


async def _output(command: tuple[str, ...]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode("utf-8", "replace") if process.returncode == 0 else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
