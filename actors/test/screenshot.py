"""Pictures of guests' screens: one and the same, sent through a stream."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.runtime.calls import Calls
from actors.runtime.streams import Streamed
from actors.test.flags import check_flags
from actors.test.host import TestHost
from broker.stream import Stream
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_WIDTH: Final = 720
_HEIGHT: Final = 400
_CHUNK: Final = 64 * 1024
_LONGEST: Final = 16 * 1024 * 1024


@calls.handles()
async def domain_screenshot(host: TestHost, dom: DomainRef, screen: int, flags: int) -> Streamed:
    """Sends a picture. Raises NoSuchDomain."""
    check_flags(flags, 0, "testDomainScreenshot")
    host.guest(dom)
    picture = await host.runtime.in_thread(read_picture, host.config.test.screenshot)

    async def send(stream: Stream) -> None:
        for part in _parts(picture):
            await stream.write(part)
        await stream.finish()

    return Streamed(send, "image/png")


def read_picture(path: str) -> bytes:
    """The picture in a file, or one of our own when there is no such file."""
    try:
        with Path(path).open("rb") as file:
            picture = file.read(_LONGEST)
    except OSError:
        return drawn_picture()
    return picture if picture.startswith(_SIGNATURE) else drawn_picture()


def drawn_picture() -> bytes:
    """A PNG of a text screen's size that gets brighter downwards."""
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes([255 * line // _HEIGHT]) * _WIDTH for line in range(_HEIGHT))
    return _SIGNATURE + _block(b"IHDR", header) + _block(b"IDAT", zlib.compress(lines)) + _block(b"IEND", b"")


def _block(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _parts(data: bytes) -> Iterator[bytes]:
    return (data[place : place + _CHUNK] for place in range(0, len(data), _CHUNK))
