"""The same calls to two daemons, one after the other, and what differs in their answers.

A call is made with libvirt's own protocol on both sides. An answer is a result, or an error with code, domain and
texts. What differs on purpose (clocks, generated uuids and MAC addresses, the sides' folders) is levelled first.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from remoting.connection import DaemonConnection, connect_daemon
from schema.errors import VirtError
from schema.table import need_procedure

FOLDER: Final = "@D@"
"""Stands in a text for the folder that each side has for its files."""

_CLOCK: Final = re.compile(r"\b1[678]\d{8}\b|(?<=<creationTime>)\d+")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAC: Final = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")

Answer = tuple[str, Any]


@dataclass
class Side:
    """One daemon: how it is reached, and where files of its own lie."""

    uri: str
    folder: Path
    conn: DaemonConnection | None = None

    async def call(self, procedure: str, args: Mapping[str, Any], timeout: float = 20.0) -> Answer:
        """What it answers: ("result", fields) or ("error", code, domain, texts)."""
        if self.conn is None or not self.conn.is_open:
            self.conn = await connect_daemon(self.uri, keepalive_s=0)
        row = need_procedure(procedure)
        values = with_folder(dict(args), str(self.folder))
        try:
            if row.stream is not None:
                return await self._stream(procedure, values)
            return "result", msgspec.to_builtins(await self.conn.call(procedure, values, timeout=timeout))
        except VirtError as exc:
            numbers = (int(exc.code), int(exc.domain), exc.int1, exc.int2)
            return "error", (exc.message, *numbers, exc.str1, exc.str2, exc.str3)

    async def _stream(self, procedure: str, values: Mapping[str, Any]) -> Answer:
        from schema.body import args_struct

        assert self.conn is not None
        row = need_procedure(procedure)
        result, stream = await self.conn.open_stream(row, args_struct(row)(**values))
        data = bytearray()
        if row.stream == "read":
            while (item := await stream.read()) is not None:
                data += bytes(item) if isinstance(item, int) else item
        await stream.finish()
        return "result", (msgspec.to_builtins(result), bytes(data))

    async def forget(self) -> None:
        """Ends the connection: a test driver whose last client left forgets all."""
        if self.conn is not None:
            await self.conn.aclose()
            self.conn = None


@dataclass
class Difference:
    """A call that was answered differently."""

    procedure: str
    args: Mapping[str, Any]
    one: Answer
    other: Answer

    def __str__(self) -> str:
        return f"{self.procedure}({dict(self.args)})\n   one:   {self.one}\n   other: {self.other}"


@dataclass
class TwoSides:
    """`one` is the reference."""

    one: Side
    other: Side
    known: set[str] = field(default_factory=set)
    """uuids and MAC addresses that callers chose, which must come back as they were."""

    async def both(self, procedure: str, /, **args: Any) -> tuple[Answer, Answer]:
        """Both answers, levelled."""
        one = await self.one.call(procedure, args)
        other = await self.other.call(procedure, args)
        return self.level(procedure, one, self.one), self.level(procedure, other, self.other)

    async def difference(self, procedure: str, args: Mapping[str, Any]) -> Difference | None:
        """What differs in the answers to a call, if anything."""
        one, other = await self.both(procedure, **args)
        return None if one == other else Difference(procedure, args, one, other)

    async def forget(self) -> None:
        """Begins anew on both sides."""
        await self.one.forget()
        await self.other.forget()

    def level(self, procedure: str, answer: Answer, side: Side) -> Answer:
        """The answer without what differs on purpose."""
        return answer[0], self._level(answer[1], str(side.folder))

    def _level(self, value: Any, folder: str) -> Any:
        if isinstance(value, str):
            value = value.replace(folder, FOLDER)
            value = _UUID.sub(lambda m: m[0] if m[0] in self.known else "<uuid>", value)
            value = _MAC.sub(lambda m: m[0] if m[0] in self.known else "<mac>", value)
            return _CLOCK.sub("<clock>", value)
        if isinstance(value, Mapping):
            return {key: self._level(item, folder) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._level(item, folder) for item in value]
        return value


async def first_whole(take: Callable[[], Awaitable[bytes]]) -> bytes:
    """A stream's bytes. libvirt's own daemon now and then ends a stream before it began, or never sends a byte of it
    (three in a hundred screenshots of its test driver): then it is opened again.
    """
    for _ in range(10):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15):
                found = await take()
            if found:
                return found
    raise AssertionError("no stream came whole")


def with_folder(value: Any, folder: str) -> Any:
    """The value with `FOLDER` replaced in all its texts."""
    if isinstance(value, str):
        return value.replace(FOLDER, folder)
    if isinstance(value, dict):
        return {key: with_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [with_folder(item, folder) for item in value]
    return value
