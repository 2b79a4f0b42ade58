"""What a guest on one emulator, machine and type of virtualization can have: `<domainCapabilities>`."""

from __future__ import annotations

from conf.domain_capabilities.cpu import CpuSupport
from conf.domain_capabilities.devices import DeviceSupport
from conf.domain_capabilities.features import FeatureSupport
from conf.domain_capabilities.os import OsSupport
from conf.domain_capabilities.support import Support
from conf.element import Element, Empty, child, text, value
from conf.values import UINT, YES_NO


class MemoryBackingSupport(Support, tag="memoryBacking"):
    """Where a guest's memory can come from. Choices: `sourceType`."""


class DomainCapabilities(Element, tag="domainCapabilities", empty=Empty.OPEN):
    """Clients take the answer as a promise: what is told here can be started."""

    path: str = text("path", str)
    domain: str = text("domain", str)
    machine: str | None = text("machine", str, default=None)
    arch: str = text("arch", str)
    max_vcpus: int | None = value("vcpu", "max", UINT, default=None)
    iothreads: bool | None = value("iothreads", "supported", YES_NO, default=None)
    os: OsSupport | None = child(OsSupport, default=None)
    cpu: CpuSupport = child(CpuSupport, default_factory=CpuSupport)
    memory_backing: MemoryBackingSupport | None = child(MemoryBackingSupport, default=None)
    devices: DeviceSupport = child(DeviceSupport, default_factory=DeviceSupport)
    features: FeatureSupport = child(FeatureSupport, default_factory=FeatureSupport)
