"""Channels: the stream between a client and a program in a guest."""

from __future__ import annotations

import contextlib
from pathlib import Path

from actors.qemu.agent.channel import AGENT_CHANNEL
from actors.qemu.console import relay
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import connect_socket
from actors.runtime.calls import Calls
from actors.runtime.streams import Streamed
from broker.stream import Stream
from conf.domain.chardev import Channel, CharType, UnixSource
from schema.enums.domain import DomainChannelFlags as ChannelFlags
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, OperationFailed, VirtError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()


def _find(guest: Guest, name: str | None) -> Channel:
    channels = guest.live.devices.channels
    if name:
        for channel in channels:
            if channel.target is not None and channel.target.name == name:
                return channel
            if channel.alias == name:
                return channel
    elif channels:
        return channels[0]
    raise InternalError(f"cannot find channel {name or '(null)'}")


@calls.handles(key="dom", lane="query")
async def domain_open_channel(host: QemuHost, dom: DomainRef, name: str | None, flags: int) -> Streamed:
    """Opens a guest's channel for one client; FORCE ends another client's.

    Raises NoSuchDomain, DomainStateError when it is off, InternalError, ConfigUnsupported for a channel that is no
    socket, OperationFailed when somebody has it.
    """
    check_flags(flags, int(ChannelFlags.FORCE), "qemuDomainOpenChannel")
    guest = host.guest(dom)
    guest.need_run()
    channel = _find(guest, name)
    source = channel.source
    if channel.type is not CharType.UNIX or not isinstance(source, UnixSource) or not source.path:
        raise ConfigUnsupported(f"channel {channel.alias or name} is not using a UNIX socket")
    path = source.path
    if channel.target is not None and channel.target.name == AGENT_CHANNEL:
        raise OperationFailed("Active channel stream exists for this domain")
    try:
        host.consoles.reserve(path, force=bool(flags & ChannelFlags.FORCE))
    except VirtError:
        raise OperationFailed("Active channel stream exists for this domain") from None

    async def serve(stream: Stream) -> None:
        host.consoles.take(path)
        try:
            try:
                connected = connect_socket(Path(path))
            except OSError as exc:
                raise HostSystemError(exc.errno or 0, f"unable to open channel path '{path}'") from exc
            with contextlib.closing(connected):
                await relay(stream, connected.fileno())
        finally:
            host.consoles.give_back(path)

    return Streamed(serve)
