"""Which processors guests can have: `<cpu>`."""

from __future__ import annotations

from conf.cpu.cpu import CpuFeature, MaxPhysAddr
from conf.cpu.cpu import CpuModel as HostModel
from conf.domain_capabilities.support import Support
from conf.element import Element, attr, child, children, content, text
from conf.values import YES_NO, words


class HostPassthroughMode(Support, tag="mode", name="host-passthrough"):
    """The guest has the host's processor itself."""


class MaximumMode(Support, tag="mode", name="maximum"):
    """The guest has whatever the emulator can give."""


class HostModelMode(Element, tag="mode", name="host-model"):
    """The guest has the named model that comes nearest to the host's processor."""

    supported: bool = attr("supported", YES_NO)
    model: HostModel | None = child(HostModel, default=None)
    vendor: str | None = text("vendor", str, default=None)
    maxphysaddr: MaxPhysAddr | None = child(MaxPhysAddr, default=None)
    features: list[CpuFeature] = children(CpuFeature, default=[])


class NamedModel(Element, tag="model"):
    """A model that guests can ask for by name. `usable` is `unknown` where the emulator does not tell."""

    usable: str = attr("usable", words("yes", "no", "unknown"))
    deprecated: bool = attr("deprecated", YES_NO, default=False, when="v")
    vendor: str | None = attr("vendor", str, default=None)
    name: str = content(str)


class CustomMode(Element, tag="mode", name="custom"):
    """The guest has the model it asks for."""

    supported: bool = attr("supported", YES_NO)
    models: list[NamedModel] = children(NamedModel, default=[])


class CpuSupport(Element, tag="cpu"):
    """All modes, supported or not."""

    host_passthrough: HostPassthroughMode = child(
        HostPassthroughMode, default_factory=lambda: HostPassthroughMode(supported=False)
    )
    maximum: MaximumMode = child(MaximumMode, default_factory=lambda: MaximumMode(supported=False))
    host_model: HostModelMode = child(HostModelMode, default_factory=lambda: HostModelMode(supported=False))
    custom: CustomMode = child(CustomMode, default_factory=lambda: CustomMode(supported=False))
