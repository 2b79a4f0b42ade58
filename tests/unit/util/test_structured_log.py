"""Log lines: what is in them, and that they never block."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from util.structured_log import LINE_MAX, StructuredLog

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def lines(pipe: Pipe) -> list[str]:
    return os.read(pipe[0], 1 << 20).decode().splitlines()


def test_a_json_line_has_its_fields(pipe: Pipe) -> None:
    StructuredLog("qemu", as_json=True, fd=pipe[1], pid=7).info("guest started", trace="t1", guest="web 1", id=b"\1\2")
    (line,) = lines(pipe)
    entry = json.loads(line)
    assert entry.pop("ts") > 1e9
    assert entry == {
        "level": "info",
        "role": "qemu",
        "event": "guest started",
        "pid": 7,
        "trace": "t1",
        "guest": "web 1",
        "id": "0102",
    }


def test_a_text_line_is_one_line_whatever_is_in_it(pipe: Pipe) -> None:
    StructuredLog("qemu", fd=pipe[1]).warning("odd", text='a\nb "c"', empty="", none=None, number=1.5)
    (line,) = lines(pipe)
    assert line.endswith('warning qemu: odd text="a\\nb \\"c\\"" empty="" number=1.5')


def test_lines_below_the_level_are_not_written(pipe: Pipe) -> None:
    log = StructuredLog("qemu", level="warning", fd=pipe[1])
    log.debug("a")
    log.info("b")
    log.error("c")
    assert len(lines(pipe)) == 1


def test_bound_fields_are_in_every_line(pipe: Pipe) -> None:
    StructuredLog("qemu", fd=pipe[1]).bind(trace="t9").info("x")
    assert lines(pipe)[0].endswith("qemu: x trace=t9")


def test_a_long_line_is_cut(pipe: Pipe) -> None:
    StructuredLog("qemu", fd=pipe[1]).info("x", text="y" * 10_000)
    assert len(os.read(pipe[0], 1 << 20)) <= LINE_MAX


def test_a_full_pipe_drops_lines_and_says_so_later(pipe: Pipe) -> None:
    log = StructuredLog("qemu", fd=pipe[1])
    for _ in range(1000):
        log.info("x", text="y" * 3000)
    assert log.dropped > 0
    dropped = log.dropped
    os.read(pipe[0], 1 << 20)
    log.info("again")
    assert f"lines_dropped={dropped}" in lines(pipe)[-1] and log.dropped == 0
