"""What guests under bhyve can have, as domain capabilities tell it."""

from __future__ import annotations

from collections.abc import Sequence

from conf.domain_capabilities.capabilities import DomainCapabilities
from conf.domain_capabilities.devices import (
    DeviceSupport,
    DiskSupport,
    GraphicsSupport,
    HostdevSupport,
    VideoSupport,
)
from conf.domain_capabilities.features import FeatureSupport, GicSupport, SevSupport, SgxSupport
from conf.domain_capabilities.os import LoaderSupport, OsSupport
from conf.domain_capabilities.support import Choice


def domain_capabilities(
    emulator: str, arch: str, *, firmwares: Sequence[str] = (), boots_roms: bool = False, has_display: bool = False
) -> DomainCapabilities:
    """The document; `firmwares` are the images of the host, `boots_roms` and `has_display` what its bhyve can do."""
    loader = LoaderSupport(supported=False)
    if boots_roms:
        choices = [Choice(name="type", values=["pflash"]), Choice(name="readonly", values=["yes"])]
        loader = LoaderSupport(supported=True, paths=list(firmwares), choices=choices)
    return DomainCapabilities(
        path=emulator,
        domain="bhyve",
        arch=arch,
        iothreads=False,
        os=OsSupport(supported=True, loader=loader),
        devices=DeviceSupport(
            disk=DiskSupport.of(diskDevice=["disk", "cdrom"], bus=["virtio", "sata"], model=[]),
            graphics=GraphicsSupport.of(type=["vnc"]) if has_display else GraphicsSupport(supported=False),
            video=VideoSupport.of(modelType=["gop"]) if has_display else VideoSupport(supported=False),
            hostdev=HostdevSupport(supported=False),
        ),
        features=FeatureSupport(
            gic=GicSupport(supported=False),
            vmcoreinfo=False,
            genid=False,
            sev=SevSupport(supported=False),
            sgx=SgxSupport(supported=False),
        ),
    )
