"""Where QEMU's stream goes and comes from: a file as it is, through a program that packs it, or past the host's cache.

The programs are those that libvirt uses, so that each reads what the other wrote; `dd` goes past the cache. QEMU has
one end of a pipe, the last program has the file, and nothing of it passes through this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError, OperationFailed

RAW: Final = 0
FORMATS: Final = ("raw", "gzip", "bzip2", "xz", "lzop")
"""By the numbers that stand in the heads of files."""

DRAIN_S: Final = 120.0
"""How long programs may take to write what they have when QEMU is done."""
END_S: Final = 5.0
_SAID_MAX: Final = 500
_PAST_CACHE: Final = ("dd", "bs=1M", "status=none")


@dataclass(frozen=True, slots=True)
class Way:
    """How a stream is kept in a file."""

    form: int = RAW
    past_cache: bool = False


def format_of(word: str, what: str) -> int:
    """The number of the format that the configuration names; `what` is saved: `save`, `snapshot` or `dump`.

    Raises OperationFailed for an unknown one, and for one whose program is not installed.
    """
    if word not in FORMATS:
        raise OperationFailed(f"Invalid {what} image format specified in configuration file")
    if word != FORMATS[RAW] and shutil.which(word) is None:
        raise OperationFailed(f"Compression program for {what} image format in configuration file isn't available")
    return FORMATS.index(word)


@asynccontextmanager
async def writing(path: Path, offset: int, way: Way) -> AsyncIterator[Stream]:
    """What QEMU may write into; when the block ends well, all of it is in the file.

    Raises HostSystemError when the file cannot be opened, OperationFailed when a program fails.
    """
    target = _open(path, os.O_WRONLY | os.O_CREAT, offset, way)
    programs: list[tuple[str, ...]] = [] if way.form == RAW else [(_program(way.form), "-c")]
    if way.past_cache:
        programs.append((*_PAST_CACHE, "iflag=fullblock", "oflag=direct"))
    async with _pipeline(programs, target, writes=True) as stream:
        yield stream
        await stream.finish()


@asynccontextmanager
async def reading(path: Path, offset: int, way: Way) -> AsyncIterator[Stream]:
    """What QEMU may read from. Raises as `writing` does."""
    source = _open(path, os.O_RDONLY, offset, way)
    programs: list[tuple[str, ...]] = [(*_PAST_CACHE, "iflag=direct")] if way.past_cache else []
    if way.form != RAW:
        programs.append((_program(way.form), "-dc"))
    async with _pipeline(programs, source, writes=False) as stream:
        yield stream


class Stream:
    """QEMU's end; to be handed over once, after which it is not ours any more."""

    def __init__(self, descriptor: int, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self.descriptor = descriptor
        self.processes = processes

    def close(self) -> None:
        """QEMU has its own copy: a program sees the end when QEMU closes that."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def finish(self) -> None:
        """Waits until the programs have written all. Raises OperationFailed when one did not."""
        self.close()
        for process in self.processes:
            try:
                async with asyncio.timeout(DRAIN_S):
                    _, said = await process.communicate()
            except TimeoutError as exc:
                raise OperationFailed("a program that keeps the memory does not come to its end") from exc
            if process.returncode:
                text = said.decode(errors="replace").strip()[:_SAID_MAX]
                raise OperationFailed(f"the memory could not be kept: {text or f'exit status {process.returncode}'}")

    async def end(self) -> None:
        """The programs end, whatever they do."""
        self.close()
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in self.processes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await process.communicate()


@asynccontextmanager
async def _pipeline(programs: Sequence[Sequence[str]], file: int, *, writes: bool) -> AsyncIterator[Stream]:
    """The file's descriptor is taken over. `programs` stand in the order in which bytes pass."""
    if not programs:
        stream = Stream(file, ())
        try:
            yield stream
        finally:
            stream.close()
        return
    processes: list[asyncio.subprocess.Process] = []
    opened = [file]
    try:
        # n programs have n + 1 gaps: the file is at one end, pipes are in all others, QEMU is at the far one
        pipes = []
        for _ in programs:
            pipes.append(os.pipe2(os.O_CLOEXEC))
            opened += pipes[-1]
        ends = [*pipes, (-1, file)] if writes else [(file, -1), *pipes]
        for place, words in enumerate(programs):
            processes.append(
                await asyncio.create_subprocess_exec(
                    *words,
                    stdin=ends[place][0],
                    stdout=ends[place + 1][1],
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
            )
        descriptor = os.dup(pipes[0][1] if writes else pipes[-1][0])
    except OSError as exc:
        await Stream(-1, processes).end()
        raise OperationFailed(f"Failed to start compression binary: {exc.strerror}") from exc
    finally:
        for one in opened:
            os.close(one)
    stream = Stream(descriptor, processes)
    try:
        yield stream
    finally:
        await asyncio.shield(stream.end())


def _program(form: int) -> str:
    path = shutil.which(FORMATS[form])
    if path is None:
        raise OperationFailed(f"Failed to find decompression binary {FORMATS[form]}")
    return path


def _open(path: Path, mode: int, offset: int, way: Way) -> int:
    direct = os.O_DIRECT if way.past_cache else 0
    try:
        # whoever names a pipe that nobody reads must not hold us up
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK | direct, 0o600)
        os.set_blocking(descriptor, True)
    except OSError as exc:
        if direct and exc.errno == errno.EINVAL:
            raise OperationFailed("bypass cache unsupported by this system") from exc
        raise HostSystemError(exc.errno or 0, f"cannot open '{path}'") from exc
    if offset:
        os.lseek(descriptor, offset, os.SEEK_SET)
    return descriptor
