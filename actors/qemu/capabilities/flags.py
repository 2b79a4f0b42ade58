"""The capability flags of an emulator, found in what its monitor answers.

The flags are libvirt's, under the names that they have in its capability files, so that a recorded file, a recorded
dialogue and an emulator that runs here are asked in one language. Each table says of which answer a flag is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from actors.qemu.capabilities.schema_paths import QmpSchema

_SAME_NAME_TYPES: Final = (
    *("hda-duplex", "hda-micro", "hda-output", "piix3-usb-uhci", "piix4-usb-uhci", "usb-ehci", "ich9-usb-ehci1"),
    *("vt82c686b-usb-uhci", "pci-ohci", "nec-usb-xhci", "qemu-xhci", "usb-redir", "usb-hub", "ich9-ahci"),
    *("virtio-scsi-pci", "scsi-block", "usb-serial", "rng-random", "rng-egd", "rng-builtin", "megasas"),
    *("qxl", "VGA", "cirrus-vga", "vmware-svga", "pci-bridge", "vfio-pci", "usb-storage", "ich9-intel-hda", "pvpanic"),
    *("usb-kbd", "usb-audio", "iothread", "ivshmem", "ivshmem-plain", "ivshmem-doorbell", "pc-dimm", "pci-serial"),
    *("gpex-pcihost", "ioh3420", "x3130-upstream", "xio3130-downstream", "rtl8139", "e1000", "virtio-mouse-ccw"),
    *("virtio-keyboard-ccw", "virtio-tablet-ccw", "mptsas1068", "pxb", "pxb-pcie", "intel-iommu", "virtio-vga"),
    *("vhost-scsi", "nvdimm", "pcie-root-port", "spapr-pci-host-bridge", "spapr-vty", "vmcoreinfo", "sclplmconsole"),
    *("isa-serial", "pl011", "virtio-gpu-ccw", "pcie-pci-bridge", "tpm-crb", "tpm-tis", "pr-manager-helper"),
    *("vfio-ccw", "vmgenid", "mch", "sev-guest", "vfio-ap", "zpci", "memory-backend-memfd", "bochs-display"),
    *("dbus-vmstate", "vhost-user-gpu", "vhost-user-vga", "ramfb", "i8042", "tpm-spapr", "pvscsi", "spapr-tpm-proxy"),
    *("ncr53c90", "dc390", "am53c974", "virtio-pmem-pci", "input-linux", "virtio-gpu-gl-pci", "virtio-vga-gl"),
    *("s390-pv-guest", "virtio-mem-pci", "virtio-iommu-pci", "sgx-epc", "thread-context"),
)
_TYPES: Final[Mapping[str, str]] = {
    **{name: name for name in _SAME_NAME_TYPES},
    "ccid-card-emulated": "ccid-emulated",
    "ccid-card-passthru": "ccid-passthru",
    "lsi53c895a": "lsi",
    "sclpconsole": "s390-sclp",
    "virtio-scsi-ccw": "virtio-scsi-pci",
    "virtio-net-ccw": "virtio-net",
    "virtio-net-pci": "virtio-net",
    "virtio-net-device": "virtio-net",
    "virtio-rng-pci": "virtio-rng",
    "virtio-rng-ccw": "virtio-rng",
    "virtio-rng-device": "virtio-rng",
    "virtio-blk-ccw": "virtio-ccw",
    "spapr-nvram": "nvram",
    "tpm-tis-device": "tpm-tis",
    "max-x86_64-cpu": "x86-max-cpu",
    "max-i386-cpu": "x86-max-cpu",
    "max-arm-cpu": "arm-max-cpu",
    "i82801b11-bridge": "dmi-to-pci-bridge",
    "virtio-mmio": "virtio-mmio",
    "virtio-gpu-pci": "virtio-gpu",
    "virtio-gpu-device": "virtio-gpu",
    "virtio-keyboard-pci": "virtio-keyboard",
    "virtio-keyboard-device": "virtio-keyboard",
    "virtio-mouse-pci": "virtio-mouse",
    "virtio-mouse-device": "virtio-mouse",
    "virtio-tablet-pci": "virtio-tablet",
    "virtio-tablet-device": "virtio-tablet",
    "virtio-input-host-pci": "virtio-input-host",
    "virtio-input-host-device": "virtio-input-host",
    "vhost-vsock-device": "vhost-vsock",
    "vhost-user-fs-device": "vhost-user-fs",
    "vhost-user-blk": "vhost-user-blk",
    "virtio-net-pci-non-transitional": "virtio-pci-non-transitional",
    "virtio-blk-pci-non-transitional": "virtio-pci-non-transitional",
}
"""By the name of a type in QEMU's object model."""

_COMMANDS: Final[Mapping[str, str]] = {
    "query-hotpluggable-cpus": "query-hotpluggable-cpus",
    "query-cpu-definitions": "query-cpu-definitions",
    "query-cpu-model-expansion": "query-cpu-model-expansion",
    "query-cpu-model-baseline": "query-cpu-model-baseline",
    "query-cpu-model-comparison": "query-cpu-model-comparison",
    "rtc-reset-reinjection": "rtc-reset-reinjection",
    "block-export-add": "block-export-add",
    "set-action": "set-action",
    "blockdev-reopen": "blockdev-reopen",
    "query-dirty-rate": "query-dirty-rate",
    "calc-dirty-rate": "calc-dirty-rate",
    "sev-inject-launch-secret": "sev-inject-launch-secret",
    "query-stats": "query-stats",
    "query-stats-schemas": "query-stats-schemas",
}

_SCHEMA: Final[Mapping[str, str]] = {
    "screendump/arg-type/device": "screendump_device",
    "screendump/arg-type/format/^png": "screenshot-format-png",
    "query-display-options/ret-type/+egl-headless/rendernode": "egl-headless.rendernode",
    "query-display-options/ret-type/+egl-headless": "egl-headless",
    "query-display-options/ret-type/+sdl": "sdl",
    "query-display-options/ret-type/+dbus": "display-dbus",
    "nbd-server-add/arg-type/bitmap": "nbd-bitmap",
    "blockdev-add/arg-type/+nvme": "drive-nvme",
    "blockdev-add/arg-type/+nbd/tls-hostname": "blockdev.nbd.tls-hostname",
    "blockdev-add/arg-type/+rbd/encrypt": "rbd-encryption",
    "blockdev-add/arg-type/+vxhs": "vxhs",
    "blockdev-add/arg-type/+file/drop-cache": "migration-file-drop-cache",
    "blockdev-add/arg-type/+file/aio/^io_uring": "aio.io_uring",
    "blockdev-snapshot/$allow-write-only-overlay": "blockdev-snapshot.allow-write-only-overlay",
    "query-named-block-nodes/arg-type/flat": "query-named-block-nodes.flat",
    "chardev-add/arg-type/backend/+socket/data/reconnect": "chardev-reconnect",
    "chardev-add/arg-type/backend/+qemu-vdagent": "chardev.qemu-vdagent",
    "netdev_add/arg-type/+vhost-vdpa": "netdev.vhost-vdpa",
    "netdev_add/arg-type/+stream": "netdev.stream",
    "netdev_add/arg-type/+dgram": "netdev.json",
    "object-add/arg-type/+secret": "object.qapified",
    "object-add/arg-type/+iothread/thread-pool-max": "iothread.thread-pool-max",
    "object-add/arg-type/+sev-guest/kernel-hashes": "sev-guest-kernel-hashes",
    "device_add/$json-cli-hotplug": "device.json+hotplug",
    "migrate-set-parameters/arg-type/block-bitmap-mapping/bitmaps/transform": "migration-param.block-bitmap-mapping",
    "query-migrate/ret-type/blocked-reasons": "migration.blocked-reasons",
    "calc-dirty-rate/arg-type/mode": "dirtyrate-param.mode",
}
"""By a place in the schema of QMP."""

_PROPERTIES: Final[Mapping[str, Mapping[str, str]]] = {
    "virtio-blk-pci": {"scsi": "virtio-blk-pci.scsi", "queue-size": "virtio-blk.queue-size"},
    "virtio-blk-ccw": {"queue-size": "virtio-blk.queue-size"},
    "virtio-net-pci": {"rss": "virtio-net.rss", "acpi-index": "acpi-index"},
    "virtio-net-ccw": {"rss": "virtio-net.rss"},
    "vfio-pci": {"display": "vfio-pci.display"},
    "scsi-hd": {"channel": "scsi-disk.channel", "wwn": "scsi-disk.wwn", "rotation_rate": "rotation-rate"},
    "ide-hd": {"wwn": "ide-drive.wwn"},
    "PIIX4_PM": {
        "disable_s3": "disable-s3",
        "disable_s4": "disable-s4",
        "acpi-root-pci-hotplug": "piix4.acpi-root-pci-hotplug",
    },
    "usb-redir": {"filter": "usb-redir.filter"},
    "usb-storage": {"removable": "usb-storage.removable"},
    "kvm-pit": {"lost_tick_policy": "kvm-pit-lost-tick-policy"},
    "VGA": {"vgamem_mb": "VGA.vgamem_mb"},
    "vmware-svga": {"vgamem_mb": "vmware-svga.vgamem_mb"},
    "qxl": {"vgamem_mb": "qxl.vgamem_mb", "vram64_size_mb": "qxl.vram64_size_mb"},
    "virtio-gpu-pci": {"virgl": "virtio-gpu.virgl"},
    "virtio-gpu-device": {"virgl": "virtio-gpu.virgl"},
    "ICH9-LPC": {"disable_s3": "ich9-disable-s3", "disable_s4": "ich9-disable-s4"},
    "virtio-balloon-pci": {
        "deflate-on-oom": "virtio-balloon-pci.deflate-on-oom",
        "free-page-reporting": "virtio-balloon.free-page-reporting",
    },
    "virtio-balloon-ccw": {
        "deflate-on-oom": "virtio-balloon-pci.deflate-on-oom",
        "free-page-reporting": "virtio-balloon.free-page-reporting",
    },
    "virtio-balloon-device": {
        "deflate-on-oom": "virtio-balloon-pci.deflate-on-oom",
        "free-page-reporting": "virtio-balloon.free-page-reporting",
    },
    "intel-iommu": {
        "intremap": "intel-iommu.intremap",
        "caching-mode": "intel-iommu.caching-mode",
        "eim": "intel-iommu.eim",
        "device-iotlb": "intel-iommu.device-iotlb",
        "aw-bits": "intel-iommu.aw-bits",
    },
    "spapr-pci-host-bridge": {"numa_node": "spapr-pci-host-bridge.numa_node"},
    "mch": {"extended-tseg-mbytes": "mch.extended-tseg-mbytes"},
    "nvdimm": {"unarmed": "nvdimm.unarmed"},
    "pcie-root-port": {"hotplug": "pcie-root-port.hotplug"},
    "usb-host": {"hostdevice": "usb-host.hostdevice", "guest-resets-all": "usb-host.guest-resets-all"},
    "vhost-user-fs-device": {"bootindex": "vhost-user-fs.bootindex"},
    "virtio-mem-pci": {"prealloc": "virtio-mem-pci.prealloc"},
    "virtio-iommu-pci": {"boot-bypass": "virtio-iommu.boot-bypass"},
    "memory-backend-file": {
        "pmem": "memory-backend-file.pmem",
        "x-use-canonical-path-for-ramblock-id": "memory-backend-file.x-use-canonical-path-for-ramblock-id",
        "reserve": "memory-backend-file.reserve",
        "prealloc-threads": "memory-backend-file.prealloc-threads",
    },
    "memory-backend-memfd": {"hugetlb": "memory-backend-memfd.hugetlb"},
    "max-x86_64-cpu": {"unavailable-features": "cpu-unavailable-features", "migratable": "cpu.migratable"},
    "max-arm-cpu": {"kvm-no-adjvtime": "cpu.kvm-no-adjvtime"},
    "none-machine": {"confidential-guest-support": "confidential-guest-support"},
    "pseries-machine": {
        "cap-hpt-max-page-size": "machine.pseries.cap-hpt-max-page-size",
        "cap-htm": "machine.pseries.cap-htm",
        "cap-nested-hv": "machine.pseries.cap-nested-hv",
        "cap-ccf-assist": "machine.pseries.cap-ccf-assist",
        "cap-cfpc": "machine.pseries.cap-cfpc",
        "cap-sbbc": "machine.pseries.cap-sbbc",
        "cap-ibs": "machine.pseries.cap-ibs",
    },
    "virt-machine": {"iommu": "machine.virt.iommu"},
}
"""By a property of a type; machines stand under the names without their versions."""

_OPTIONS: Final[Mapping[tuple[str, str | None], str]] = {
    ("sandbox", None): "seccomp-sandbox",
    ("spice", None): "spice",
    ("spice", "gl"): "spice-gl",
    ("spice", "rendernode"): "spice-rendernode",
    ("vnc", None): "vnc",
    ("vnc", "power-control"): "vnc-power-control",
    ("machine", "aes-key-wrap"): "aes-key-wrap",
    ("machine", "dea-key-wrap"): "dea-key-wrap",
    ("machine", "loadparm"): "loadparm",
    ("machine", "hpet"): "machine-hpet",
    ("fsdev", "multidevs"): "fsdev.multidevs",
    ("smp-opts", "dies"): "smp-dies",
}
"""By an option of the command line, or a parameter of one."""

_FROM: Final[Mapping[str, tuple[int, int, int]]] = {
    "numa.hmat": (5, 0, 0),
    "virtio-blk-pci.scsi.default.disabled": (5, 0, 0),
    "compat-deprecated": (6, 0, 0),
    "tcg": (0, 0, 0),
    "nbd-tls": (0, 0, 0),
    "iothread.poll-max-ns": (0, 0, 0),
}
"""What no answer tells, by the first version that has it."""
_WITHOUT_FIPS: Final = (5, 2, 0)
_X86: Final = ("x86_64", "i686")
_S390: Final = ("s390x",)
_ARCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "no-acpi": (*_X86, "aarch64"),
    "no-hpet": _X86,
    "machine-vmport-opt": _X86,
    "canonical-cpu-features": _X86,
    "cpu-cache": _X86,
    "aarch64-off": ("aarch64",),
    "gic-version": ("aarch64",),
    "ncr53c90": ("sparc",),
}
"""What every emulator of an architecture has."""
_MAINFRAME: Final = ("aes-key-wrap", "dea-key-wrap", "loadparm")
"""Old emulators list these options of the machine whatever the machine is."""
_WITH_MAX: Final = ("max-x86_64-cpu", "max-i386-cpu", "max-arm-cpu", "max-s390x-cpu", "max-powerpc64-cpu")


@dataclass(frozen=True, slots=True)
class Answers:
    """What an emulator said, in the shape in which flags are read from it."""

    arch: str
    version: tuple[int, int, int]
    kvm: bool
    types: Collection[str]
    commands: Collection[str]
    properties: Mapping[str, Collection[str]]
    options: Mapping[str, Collection[str]]
    schema: QmpSchema
    tpm_types: Collection[str] = ()
    migration: Collection[str] = ()
    sev: bool = False
    sgx: bool = False


def flags_from_answers(said: Answers) -> frozenset[str]:
    """Every flag that the answers of an emulator stand for."""
    found = {flag for name, flag in _TYPES.items() if name in said.types}
    found |= {flag for name, flag in _COMMANDS.items() if name in said.commands}
    found |= {flag for place, flag in _SCHEMA.items() if said.schema.has(place)}
    for name, wanted in _PROPERTIES.items():
        found |= {flag for one, flag in wanted.items() if one in said.properties.get(name, ())}
    for (option, parameter), flag in _OPTIONS.items():
        if option in said.options and (parameter is None or parameter in said.options[option]):
            found.add(flag)
    found |= {f"tpm-{name}" for name in said.tpm_types if name in ("passthrough", "emulator")}
    found |= {flag for flag, first in _FROM.items() if said.version >= first}
    found |= {flag for flag, arches in _ARCHES.items() if said.arch in arches}
    if any(name in said.types for name in _WITH_MAX):
        found.add("cpu-max")
    if said.version < _WITHOUT_FIPS:
        found.add("enable-fips")
    if said.kvm:
        found.add("kvm")
    if "rdma-pin-all" in said.migration:
        found.add("migrate-rdma")
    return complete_flags(frozenset(found - _withdrawn(said, found)))


def _withdrawn(said: Answers, found: Collection[str]) -> set[str]:
    """Flags that something else takes back."""
    gone = set() if said.arch in _S390 else set(_MAINFRAME)
    if "machine-hpet" in found:
        gone.add("no-hpet")
    if "virtio-blk-pci.scsi" not in found:
        gone.add("virtio-blk-pci.scsi.default.disabled")
    if not said.sev:
        gone.add("sev-guest")
    if not said.sgx:
        gone.add("sgx-epc")
    return gone


def complete_flags(flags: frozenset[str]) -> frozenset[str]:
    """With what follows from several flags together."""
    if {"blockdev-reopen", "migration-param.block-bitmap-mapping"} <= flags:
        return flags | {"incremental-backup"}
    return flags
