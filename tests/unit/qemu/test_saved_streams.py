"""Streams through programs, and what becomes of them when a program fails."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from actors.qemu.saved.streams import FORMATS, Way, format_of, reading, writing
from schema.errors import HostSystemError, OperationFailed

DATA = b"memory of a guest " * 50_000
OFFSET = 64 * 1024


async def write(path: Path, way: Way) -> None:
    """What QEMU does with its end."""
    async with writing(path, OFFSET, way) as stream:
        copy = os.dup(stream.descriptor)
        stream.close()

        def fill() -> None:
            with os.fdopen(copy, "wb") as out:
                out.write(DATA)

        await asyncio.to_thread(fill)


async def read(path: Path, way: Way) -> bytes:
    async with reading(path, OFFSET, way) as stream:
        copy = os.dup(stream.descriptor)
        stream.close()

        def take() -> bytes:
            with os.fdopen(copy, "rb") as file:
                return file.read()

        return await asyncio.to_thread(take)


@pytest.mark.parametrize("form", [form for form in FORMATS if form == "raw" or shutil.which(form)])
async def test_what_is_written_is_read_back(tmp_path: Path, form: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(OFFSET))
    way = Way(format_of(form, "save"))
    await write(path, way)
    assert path.read_bytes()[:OFFSET] == bytes(OFFSET)
    assert await read(path, way) == DATA


async def test_a_program_that_cannot_write_is_a_failure() -> None:
    with pytest.raises(OperationFailed, match=r"the memory could not be kept: .*[Nn]o space left"):
        async with writing(Path("/dev/full"), 0, Way(1)) as stream:
            os.write(stream.descriptor, b"x")


async def test_a_block_that_fails_leaves_no_program_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with writing(tmp_path / "image", 0, Way(1)) as stream:
            raise KeyError
    assert [process.returncode for process in stream.processes] == [-9]


async def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostSystemError):
        async with reading(tmp_path / "none", 0, Way(1)):
            pass


def test_formats_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperationFailed, match="Invalid snapshot image format specified"):
        format_of("zip", "snapshot")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert format_of("raw", "save") == 0
    with pytest.raises(OperationFailed, match=r"Compression program for save image format .* isn't available"):
        format_of("gzip", "save")
