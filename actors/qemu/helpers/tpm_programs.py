"""The programs that emulate TPMs, swtpm and swtpm_setup: where they are and what these very binaries can do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu.helpers.programs import FOLDERS, find_program

ANSWER_S: Final = 20.0
VERSIONS: Final = ("1.2", "2.0")
_ANSWER_MAX: Final = 1 << 16
_CHECK_EVERY_S: Final = 1.0

Stamp = tuple[int, int, int]


class _Answer(msgspec.Struct):
    features: tuple[str, ...] = ()


class TpmPrograms:
    """What is known of them; asked anew when one of the binaries is another."""

    def __init__(self, folders: Sequence[str] = FOLDERS) -> None:
        self._folders = folders
        self._stamps: tuple[Stamp | None, Stamp | None] | None = None
        self._looked = 0.0
        self._lock = asyncio.Lock()
        self.swtpm: str | None = None
        self.setup: str | None = None
        self.emulates: frozenset[str] = frozenset()
        """What swtpm can do."""
        self.sets_up: frozenset[str] = frozenset()
        """What swtpm_setup can do."""

    @property
    def versions(self) -> frozenset[str] | None:
        """The versions that guests can have: none without the programs; None while nobody has asked them."""
        if self._stamps is None:
            return None
        if self.swtpm is None or self.setup is None:
            return frozenset()
        told = {f"tpm-{version}" for version in VERSIONS} & (self.sets_up | self.emulates)
        # programs of before there were words for it know both
        return frozenset(one.removeprefix("tpm-") for one in told) or frozenset(VERSIONS)

    async def refresh(self) -> None:
        """Looks whether the programs are those that are known, and asks them otherwise. Never fails.

        Of several that ask at the same time one does; when that one is cancelled, the next.
        """
        async with self._lock:
            now = time.monotonic()
            if self._stamps is not None and now - self._looked < _CHECK_EVERY_S:
                return
            self._looked = now
            self.swtpm, self.setup = find_program("swtpm", self._folders), find_program("swtpm_setup", self._folders)
            stamps = (_stamp(self.swtpm), _stamp(self.setup))
            if stamps != self._stamps:
                self.emulates = frozenset(await _ask(self.swtpm, "socket", "--print-capabilities"))
                self.sets_up = frozenset(await _ask(self.setup, "--print-capabilities"))
                self._stamps = stamps


def _stamp(path: str | None) -> Stamp | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


async def _ask(program: str | None, *words: str) -> Iterable[str]:
    if program is None:
        return ()
    text = await ask_capabilities(program, *words)
    try:
        return msgspec.json.decode(text, type=_Answer).features
    except msgspec.DecodeError:
        return ()


async def ask_capabilities(program: str, *words: str) -> bytes:
    """What a program prints of itself; empty when it cannot be asked, or does not answer in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C", "PATH": os.pathsep.join(FOLDERS)},
        )
    except OSError:
        return b""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(ANSWER_S):
            text = await process.stdout.read(_ANSWER_MAX)
            await process.wait()
            return text
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
