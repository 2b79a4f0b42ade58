"""The host itself: `<host>`."""

from __future__ import annotations

from uuid import UUID

from conf.capabilities.shared_resources import Caches, MemoryBandwidth
from conf.capabilities.topology import Topology
from conf.cpu.host import HostCpu
from conf.element import Element, Empty, attr, child, children, content, flag, text, texts, value
from conf.values import UUID_TEXT, YES_NO


class PowerManagement(Element, tag="power_management"):
    """How the host can sleep."""

    suspend_mem: bool = flag("suspend_mem", default=False)
    suspend_disk: bool = flag("suspend_disk", default=False)
    suspend_hybrid: bool = flag("suspend_hybrid", default=False)


class MigrationFeatures(Element, tag="migration_features"):
    """How guests can move to other hosts."""

    live: bool = flag("live", default=False)
    transports: list[str] = texts("uri_transport", str, default=[], within="uri_transports")


class BaseLabel(Element, tag="baselabel"):
    """The label that guests of a type get when they ask for none."""

    type: str = attr("type", str)
    label: str | None = content(str, default=None)


class SecurityModel(Element, tag="secmodel"):
    """A way by which guests are kept apart."""

    model: str | None = text("model", str, default=None, keep_empty=True)
    doi: str | None = text("doi", str, default=None, keep_empty=True)
    base_labels: list[BaseLabel] = children(BaseLabel, default=[])


class HostPart(Element, tag="host", empty=Empty.OPEN):
    """What the host has and can do."""

    uuid: UUID | None = text("uuid", UUID_TEXT, default=None)
    cpu: HostCpu | None = child(HostCpu, default=None)
    power_management: PowerManagement | None = child(PowerManagement, default=None)
    iommu: bool | None = value("iommu", "support", YES_NO, default=None)
    migration: MigrationFeatures | None = child(MigrationFeatures, default=None)
    netprefix: str | None = text("netprefix", str, default=None)
    topology: Topology | None = child(Topology, default=None)
    caches: Caches | None = child(Caches, default=None)
    memory_bandwidth: MemoryBandwidth | None = child(MemoryBandwidth, default=None)
    security_models: list[SecurityModel] = children(SecurityModel, default=[])
