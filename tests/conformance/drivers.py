"""The rules of the driver that a case names, for the host that the corpus takes for granted."""

from __future__ import annotations

from typing import Any

from actors.bhyve.rules import BhyveRules
from actors.lxc.rules import LxcRules
from actors.qemu.rules import QemuRules
from actors.qemu.rules_checks import HostLimits
from actors.qemu.rules_machine import HostAudio
from conf.domain.address import PciAddress, SourcePciAddress
from conf.domain.domain import VirtType
from conf.domain.rules import DomainRules
from tests.conformance.qemu_caps import capabilities_of


class CorpusGeneric(DomainRules):
    """A driver without rules on an x86_64 host."""

    default_arch = "x86_64"
    namespaces = frozenset({"lxc"})


class CorpusQemu(QemuRules):
    """QEMU on that host, with the corpus' idea of chance."""

    def random_bytes(self, count: int) -> bytes:
        """0, 1, 2, ..."""
        return bytes(range(count))

    def iommu_group(self, address: SourcePciAddress | PciAddress) -> int | None:
        """Each slot of the host is a group of its own."""
        return (address.domain << 16) + (address.bus << 8) + address.slot


class CorpusBhyve(BhyveRules):
    """bhyve, with the corpus' idea of chance."""

    def random_bytes(self, count: int) -> bytes:
        """Zeros."""
        return bytes(count)


def rules_for(case: dict[str, Any]) -> DomainRules:
    """The rules of the case's driver, with the emulator that the case describes."""
    driver = case.get("driver")
    if driver == "lxc":
        return LxcRules()
    if driver == "bhyve":
        return CorpusBhyve(has_many_ports="BHYVE_CAP_AHCI32SLOT" in case.get("bhyve_caps", ()))
    if driver != "qemu":
        return CorpusGeneric()
    is_untold = "gic" not in case and case.get("caps", {}).get("mode") == "flags"
    gic = "2" if is_untold or case.get("gic") in ("GIC_NONE", "GIC_V2") else "3"
    is_recorded = "file" in case.get("caps", {})
    accelerators = (VirtType.QEMU, VirtType.KVM) if is_recorded else (VirtType.QEMU, VirtType.KVM, VirtType.HVF)
    return CorpusQemu(
        capabilities_of(case),
        gic=gic,
        state_folder="/tmp/lib",
        channel_folder="/tmp/channel",
        accelerators=accelerators,
        host_audio=_audio_of(case.get("state") or {}),
        limits=_limits_of(case.get("state") or {}),
    )


def _limits_of(state: dict[str, Any]) -> HostLimits:
    version = state.get("env.VIR_TEST_MOCK_FAKE_TPM_VERSION")
    return HostLimits(
        arch=state.get("host.arch", "x86_64"),
        tpm_versions=frozenset((version,)) if version is not None else None,
        spice_tls=bool(state.get("config.spiceTLS", True)),
    )


def _audio_of(state: dict[str, Any]) -> HostAudio:
    return HostAudio(
        backend=state.get("env.QEMU_AUDIO_DRV"),
        sdl_driver=state.get("env.SDL_AUDIODRIVER"),
        without_display=bool(state.get("config.nogfxAllowHostAudio")),
        with_vnc=bool(state.get("config.vncAllowHostAudio")),
    )
