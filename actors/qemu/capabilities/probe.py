"""Asks an emulator what it can do: it is started with no machine, answers everything at once, and is ended.

A probing process dies with the actor: unlike a guest it is of no use to anybody afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.capabilities.questions import (
    OTHER_QUESTIONS,
    QUESTIONS,
    Question,
    capabilities_from_answers,
    follow_up,
)
from actors.qemu.monitor.link import CommandRefused, MonitorGone, open_monitor
from schema.errors import InternalError

PROBE_TIMEOUT_S: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1


async def probe_emulator(emulator: Path) -> Capabilities:
    """What a binary can do. Raises InternalError when it does not run, or does not answer in time."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            (answers, more), (others, _) = await asyncio.gather(
                _ask(emulator, "kvm:tcg", QUESTIONS, follow_up), _ask(emulator, "tcg", OTHER_QUESTIONS)
            )
    except TimeoutError as exc:
        raise InternalError(f"Failed to probe QEMU binary '{emulator}': no answer for {PROBE_TIMEOUT_S:.0f} s") from exc
    try:
        found = capabilities_from_answers(str(emulator), answers, others, more)
    except ValueError as exc:
        raise InternalError(f"Failed to probe QEMU binary: {exc}") from exc
    return found


async def _ask(
    emulator: Path,
    accelerators: str,
    questions: Sequence[Question],
    then: Callable[[Sequence[Any]], Sequence[Question]] = lambda answers: (),
) -> tuple[list[Any], dict[str, Any]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    argv = (
        str(emulator),
        "-S",
        "-no-user-config",
        "-nodefaults",
        "-nographic",
        "-machine",
        f"none,accel={accelerators}",
        "-chardev",
        f"socket,id=probe,fd={theirs.fileno()}",
        "-mon",
        "chardev=probe,id=monitor,mode=control",
    )
    libc = ctypes.CDLL(None)

    def die_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            preexec_fn=die_with_us,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
        )
    except OSError as exc:
        ours.close()
        raise InternalError(f"Failed to probe QEMU binary '{emulator}': {exc.strerror}") from exc
    finally:
        theirs.close()
    monitor = None
    try:
        monitor = await open_monitor(ours, lambda notice: None, lambda: None)
        (_, *futures) = monitor.submit([("qmp_capabilities", None), *questions])
        answers = [_answer(one) for one in await asyncio.gather(*futures, return_exceptions=True)]
        more = then(answers)
        asked = await asyncio.gather(*monitor.submit(list(more)), return_exceptions=True) if more else []
        named = {
            str((arguments or {})["typename"]): _answer(one) for (_, arguments), one in zip(more, asked, strict=True)
        }
        return answers, named
    except MonitorGone as exc:
        raise InternalError(f"Failed to probe QEMU binary '{emulator}': {await _last_words(process)}") from exc
    finally:
        if monitor is not None:
            monitor.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _answer(result: Any) -> Any:
    """What was said; None where it was refused. Raises whatever else went wrong."""
    if isinstance(result, CommandRefused):
        return None
    if isinstance(result, BaseException):
        raise result
    return result


async def _last_words(process: asyncio.subprocess.Process) -> str:
    if process.stderr is None:
        return "it ended at once"
    said = (await process.stderr.read(4096)).decode(errors="replace").strip()
    return said or "it ended at once"
