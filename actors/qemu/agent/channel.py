"""Where a guest's agent is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from conf.domain.chardev import Channel, CharType, UnixSource
from conf.domain.domain import Domain

AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"


def agent_channel(live: Domain) -> Channel | None:
    """The channel of a guest's agent; None when it has none that we can reach."""
    for channel in live.devices.channels:
        is_agent = channel.target is not None and channel.target.name == AGENT_CHANNEL
        if is_agent and channel.type is CharType.UNIX and isinstance(channel.source, UnixSource):
            return channel
    return None


def agent_path(channel: Channel) -> Path | None:
    """The host's end of the channel."""
    source = channel.source
    return Path(source.path) if isinstance(source, UnixSource) and source.path else None


def is_connected(channel: Channel) -> bool:
    """A program in the guest has the channel open."""
    return channel.target is not None and channel.target.state == "connected"
