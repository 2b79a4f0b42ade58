"""Consoles: the stream between a client and a guest's pseudo terminal or socket, and pictures of its screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live import ports_of
from actors.qemu.monitor.link import connect_socket
from actors.runtime.calls import Calls
from actors.runtime.streams import Streamed
from broker.stream import Stream
from conf.domain.chardev import CharDevice, CharMode, CharType, PathSource, PtySource, UnixSource
from conf.domain.video import Video
from schema.enums.domain import DomainConsoleFlags as ConsoleFlags
from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    HostSystemError,
    InternalError,
    InvalidArguments,
    OperationFailed,
)
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_CHUNK: Final = 64 * 1024
_PPM: Final = "image/x-portable-pixmap"
_PNG: Final = "image/png"


def find_port(guest: Guest, name: str | None) -> CharDevice:
    """The device of an alias, else the guest's first console or serial port. Raises InternalError, InvalidArguments."""
    devices = guest.live.devices
    if name:
        for device in ports_of(guest.live):
            if device.alias == name:
                return device
        error = InvalidArguments()
        error.message = f"unable to open console '{name}': no such device"
        raise error
    for device in (*devices.consoles[:1], *devices.serials[:1]):
        return device
    raise InternalError("cannot find default console device")


@calls.handles(key="dom", lane="query")
async def domain_open_console(host: QemuHost, dom: DomainRef, dev_name: str | None, flags: int) -> Streamed:
    """Opens a guest's console for one client; FORCE ends another client's.

    Raises NoSuchDomain, DomainStateError when it is off, InvalidArguments, ConfigUnsupported, OperationFailed when
    somebody has it.
    """
    check_flags(flags, int(ConsoleFlags.FORCE | ConsoleFlags.SAFE), "qemuDomainOpenConsole")
    guest = host.guest(dom)
    guest.need_run()
    device = find_port(guest, dev_name)
    source = device.source
    is_terminal = device.type in (CharType.PTY, CharType.DEV) and isinstance(source, PtySource | PathSource)
    if is_terminal and isinstance(source, PtySource | PathSource) and source.path:
        path = source.path
    elif device.type is CharType.UNIX and isinstance(source, UnixSource) and source.path:
        if source.mode is CharMode.CONNECT:
            raise ConfigUnsupported("the guest's end of this socket is the client")
        path = source.path
    else:
        raise ConfigUnsupported(f"character device {device.alias} is not using a PTY")
    host.consoles.reserve(path, force=bool(flags & ConsoleFlags.FORCE))

    async def serve(stream: Stream) -> None:
        host.consoles.take(path)
        try:
            if device.type is CharType.UNIX:
                await _serve_socket(stream, path)
            else:
                await _serve_terminal(stream, path)
        finally:
            host.consoles.give_back(path)

    return Streamed(serve)


async def _serve_terminal(stream: Stream, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"unable to open console path '{path}'") from exc
    try:
        with contextlib.suppress(termios.error):
            tty.setraw(descriptor)
        await relay(stream, descriptor)
    finally:
        os.close(descriptor)


async def _serve_socket(stream: Stream, path: str) -> None:
    try:
        connected = connect_socket(Path(path))
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"unable to open console path '{path}'") from exc
    with contextlib.closing(connected):
        await relay(stream, connected.fileno())


async def relay(stream: Stream, descriptor: int) -> None:
    """Carries bytes both ways until either side ends."""
    from_guest = asyncio.ensure_future(_from_guest(stream, descriptor))
    to_guest = asyncio.ensure_future(_to_guest(stream, descriptor))
    try:
        done, _ = await asyncio.wait({from_guest, to_guest}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (from_guest, to_guest):
            task.cancel()
        await asyncio.wait({from_guest, to_guest})
    for task in done:
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc
    await stream.finish()


async def _from_guest(stream: Stream, descriptor: int) -> None:
    while True:
        await ready(descriptor, writing=False)
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the guest closed the terminal's other end
        if not data:
            return
        await stream.write(data)


async def _to_guest(stream: Stream, descriptor: int) -> None:
    while data := await stream.read():
        view = memoryview(data)
        while view:
            await ready(descriptor, writing=True)
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except OSError:
                return


async def ready(descriptor: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(descriptor, wake)
    try:
        await ready
    finally:
        remove(descriptor)


@calls.handles(key="dom", lane="query")
async def domain_screenshot(host: QemuHost, dom: DomainRef, screen: int, flags: int) -> Streamed:
    """A picture of a guest's screen.

    Raises NoSuchDomain, DomainStateError when it is off or has no such screen, InternalError without a video card.
    """
    check_flags(flags, 0, "qemuDomainScreenshot")
    guest = host.guest(dom)
    guest.need_run()
    videos = guest.live.devices.videos
    if not videos:
        raise InternalError("no screens to take screenshot from")
    path = guest.folder / "screenshot.ppm"
    path.unlink(missing_ok=True)
    arguments: dict[str, object] = {"filename": str(path)}
    if screen:
        alias, head = _head(videos, screen)
        arguments |= {"device": alias, "head": head}
    caps = await host.emulators.capabilities(guest.need_run().emulator)
    knows_png = caps.has("screenshot-format-png")
    if knows_png:
        arguments["format"] = "png"
    await guest.ask("screendump", arguments)
    try:
        picture = path.open("rb")
    except OSError as exc:
        raise OperationFailed(f"unable to open the picture: {exc.strerror}") from exc
    path.unlink(missing_ok=True)

    async def serve(stream: Stream) -> None:
        with picture:
            while data := picture.read(_CHUNK):
                await stream.write(data)
        await stream.finish()

    return Streamed(serve, _PNG if knows_png else _PPM)


def _head(videos: Sequence[Video], screen: int) -> tuple[str, int]:
    """The card and its head that a screen's number means. Raises DomainStateError when there is none."""
    for number, video in enumerate(videos):
        heads = video.model.heads or 1
        if screen < heads:
            return video.alias or f"video{number}", screen
        screen -= heads
    raise DomainStateError("no such screen ID")
