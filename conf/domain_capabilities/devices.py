"""Which devices guests can have: `<devices>`."""

from __future__ import annotations

from conf.domain_capabilities.support import Support
from conf.element import Element, Empty, child


class DiskSupport(Support, tag="disk"):
    """Choices: `diskDevice`, `bus`, `model`."""


class GraphicsSupport(Support, tag="graphics"):
    """Choices: `type`."""


class VideoSupport(Support, tag="video"):
    """Choices: `modelType`."""


class HostdevSupport(Support, tag="hostdev"):
    """Choices: `mode`, `startupPolicy`, `subsysType`, `capsType`, `pciBackend`."""


class RngSupport(Support, tag="rng"):
    """Choices: `model`, `backendModel`."""


class FilesystemSupport(Support, tag="filesystem"):
    """Choices: `driverType`."""


class TpmSupport(Support, tag="tpm"):
    """Choices: `model`, `backendModel`, `backendVersion`."""


class RedirdevSupport(Support, tag="redirdev"):
    """Choices: `bus`."""


class ChannelSupport(Support, tag="channel"):
    """Choices: `type`."""


class DeviceSupport(Element, tag="devices", empty=Empty.OPEN):
    """A kind of device that a driver says nothing about is None."""

    disk: DiskSupport | None = child(DiskSupport, default=None)
    graphics: GraphicsSupport | None = child(GraphicsSupport, default=None)
    video: VideoSupport | None = child(VideoSupport, default=None)
    hostdev: HostdevSupport | None = child(HostdevSupport, default=None)
    rng: RngSupport | None = child(RngSupport, default=None)
    filesystem: FilesystemSupport | None = child(FilesystemSupport, default=None)
    tpm: TpmSupport | None = child(TpmSupport, default=None)
    redirdev: RedirdevSupport | None = child(RedirdevSupport, default=None)
    channel: ChannelSupport | None = child(ChannelSupport, default=None)
