"""Programs that set up the host end of an interface, and undo that: `<script>` and `<downscript>`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import Final

from conf.domain.interface import Interface, InterfaceType
from schema.errors import InternalError

LIMIT_S: Final = 30.0
_SCRIPTED: Final = (InterfaceType.ETHERNET, InterfaceType.BRIDGE)


async def run_scripts(interfaces: Sequence[Interface]) -> None:
    """Runs the program of each interface that names one, with the name of its host end.

    Raises InternalError when one cannot be run, fails or does not come to an end.
    """
    for one in interfaces:
        if one.script and one.type in _SCRIPTED:
            await _run(one.script, _name(one))


async def run_downscripts(interfaces: Sequence[Interface]) -> None:
    """The same for the programs that undo it; one that fails is no fault of the guest's."""
    for one in interfaces:
        if one.downscript and one.type in _SCRIPTED:
            with contextlib.suppress(InternalError):
                await _run(one.downscript, _name(one))


def _name(interface: Interface) -> str:
    return (interface.target.dev if interface.target is not None else None) or ""


async def _run(path: str, name: str) -> None:
    words = f"{path} {name}"
    try:
        child = await asyncio.create_subprocess_exec(
            path,
            name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        raise InternalError(f"Failed to execute '{words}': {exc.strerror or exc}") from exc
    try:
        async with asyncio.timeout(LIMIT_S):
            _, said = await child.communicate()
    except TimeoutError as exc:
        raise InternalError(f"'{words}' does not come to an end") from exc
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.wait())
    if child.returncode:
        text = said[:1000].decode(errors="replace").strip()
        raise InternalError(f"Child process ({words}) unexpected exit status {child.returncode}: {text}")
