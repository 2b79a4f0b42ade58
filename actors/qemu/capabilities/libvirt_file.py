"""The file in which libvirt keeps what it knows of an emulator, read and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lxml import etree

from actors.qemu.capabilities.model import (
    Capabilities,
    CpuModel,
    CpuProperty,
    Gic,
    HostCpu,
    Machine,
    Sev,
    Sgx,
)
from conf.document import parse_document
from conf.text import escape

_VIRTS: Final = {"kvm": "kvm", "tcg": "qemu"}
"""libvirt's word for an accelerator, and the type of the guests that use it."""


def parse_capability_file(data: bytes) -> Capabilities:
    """The record that a file holds. Raises XmlError for what is none."""
    root = parse_document(data)
    version = int(root.findtext("version") or 0)
    flags = frozenset(node.get("name", "") for node in root.iterfind("flag"))
    return Capabilities(
        emulator=root.findtext("emulator") or "",
        version=(version // 1_000_000, version // 1_000 % 1_000, version % 1_000),
        package=root.findtext("package") or "",
        arch=root.findtext("arch") or "",
        kvm="kvm" in flags,
        machines=tuple(_machines(root)),
        cpus={virt: tuple(_models(root, word)) for word, virt in _VIRTS.items()},
        flags=flags,
        host_cpus={virt: cpu for word, virt in _VIRTS.items() if (cpu := _host_cpu(root, word)) is not None},
        gics=tuple(
            Gic(int(node.get("version", "0")), node.get("kernel") == "yes", node.get("emulated") == "yes")
            for node in root.iterfind("gic")
        ),
        sev=_sev(root.find("sev")),
        sgx=_sgx(root.find("sgx")),
        hyperv=tuple(node.get("name", "") for node in root.iterfind("hypervCapabilities/cap")),
    )


def _machines(root: etree._Element) -> Iterator[Machine]:
    nodes = root.findall("machine")
    plain = {node.get("name"): node.get("defaultCPU") for node in nodes if node.get("type") == "tcg"}
    word = "kvm" if any(node.get("type") == "kvm" for node in nodes) else "tcg"
    for node in nodes:
        if node.get("type") == word:
            cpu = plain.get(node.get("name"))
            yield Machine(
                name=node.get("name", ""),
                alias=node.get("alias"),
                is_default=node.get("default") == "yes",
                max_cpus=int(node.get("maxCpus", "0")),
                hotpluggable_cpus=node.get("hotplugCpus") == "yes",
                default_cpu=node.get("defaultCPU"),
                plain_default_cpu=cpu if cpu != node.get("defaultCPU") else None,
                default_ram_id=node.get("defaultRAMid"),
                numa_mem=node.get("numaMemSupported") == "yes",
                deprecated=node.get("deprecated") == "yes",
            )


def _models(root: etree._Element, word: str) -> Iterator[CpuModel]:
    for node in root.iterfind("cpu"):
        if node.get("type") == word:
            usable = node.get("usable")
            blockers = tuple(one.get("name", "") for one in node.iterfind("blocker"))
            yield CpuModel(
                name=node.get("name", ""),
                typename=node.get("typename", ""),
                missing=None if usable is None else blockers,
                deprecated=node.get("deprecated") == "yes",
            )


def _host_cpu(root: etree._Element, word: str) -> HostCpu | None:
    node = next((one for one in root.iterfind("hostCPU") if one.get("type") == word), None)
    if node is None:
        return None
    tells = node.get("migratability") == "yes"
    found = []
    for one in node.iterfind("property"):
        text, value = one.get("value", ""), one.get("value", "")
        kind = one.get("type")
        read: bool | int | str = value
        if kind == "boolean":
            read = text == "true"
        elif kind == "number":
            read = int(text)
        moves = {"yes": True, "no": False}.get(one.get("migratable", ""))
        found.append(CpuProperty(one.get("name", ""), read, moves))
    return HostCpu(node.get("model", ""), tuple(found), tells)


def _sev(node: etree._Element | None) -> Sev | None:
    if node is None:
        return None
    return Sev(
        cbitpos=int(node.findtext("cbitpos") or 0),
        reduced_phys_bits=int(node.findtext("reducedPhysBits") or 0),
        pdh=node.findtext("pdh") or "",
        cert_chain=node.findtext("certChain") or "",
        cpu0_id=node.findtext("cpu0Id"),
    )


def _sgx(node: etree._Element | None) -> Sgx | None:
    if node is None or node.get("supported") != "yes":
        return None
    return Sgx(
        flc=node.findtext("flc") == "yes",
        sgx1=node.findtext("sgx1") == "yes",
        sgx2=node.findtext("sgx2") == "yes",
        section_size_kib=int(node.findtext("section_size") or 0),
        sections=tuple(
            (int(one.get("node", "0")), int(one.get("size", "0"))) for one in node.iterfind("sections/section")
        ),
    )


def write_capability_file(caps: Capabilities, microcode: int = 0) -> str:
    """The file of a record, with no times in it; `microcode` stands for the host's processor."""
    major, minor, micro = caps.version
    out = ["<qemuCaps>\n"]
    out.append(f"  <emulator>{escape(caps.emulator)}</emulator>\n")
    out.append("  <qemuctime>0</qemuctime>\n  <selfctime>0</selfctime>\n  <selfvers>0</selfvers>\n")
    out += [f"  <flag name='{escape(flag)}'/>\n" for flag in sorted(caps.flags, key=_place)]
    out.append(f"  <version>{major * 1_000_000 + minor * 1_000 + micro}</version>\n  <kvmVersion>0</kvmVersion>\n")
    out.append(f"  <microcodeVersion>{microcode if caps.kvm else 0}</microcodeVersion>\n")
    if caps.package:
        out.append(f"  <package>{escape(caps.package)}</package>\n")
    out.append(f"  <arch>{caps.arch}</arch>\n")
    for word, virt in _VIRTS.items():
        if virt in caps.cpus or (virt == "qemu"):
            _write_accelerator(out, caps, word, virt)
    out += [
        f"  <gic version='{one.version}' kernel='{_yes(one.kernel)}' emulated='{_yes(one.emulated)}'/>\n"
        for one in caps.gics
    ]
    if caps.sev is not None:
        _write_sev(out, caps.sev)
    if caps.sgx is not None:
        _write_sgx(out, caps.sgx)
    if caps.hyperv:
        out.append("  <hypervCapabilities supported='yes'>\n")
        out += [f"    <cap name='{name}'/>\n" for name in caps.hyperv]
        out.append("  </hypervCapabilities>\n")
    out.append("</qemuCaps>\n")
    return "".join(out)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _write_accelerator(out: list[str], caps: Capabilities, word: str, virt: str) -> None:
    cpu = caps.host_cpus.get(virt)
    if cpu is not None:
        out.append(
            f"  <hostCPU type='{word}' model='{escape(cpu.model)}' migratability='{_yes(cpu.tells_migratable)}'>\n"
        )
        out += [_property(one, cpu) for one in cpu.properties]
        out.append("  </hostCPU>\n")
    for model in caps.cpus.get(virt, ()):
        words = f"type='{word}' name='{escape(model.name)}'"
        if model.typename:
            words += f" typename='{escape(model.typename)}'"
        if model.missing is not None:
            words += f" usable='{_yes(not model.missing)}'"
        if model.deprecated:
            words += " deprecated='yes'"
        if not model.missing:
            out.append(f"  <cpu {words}/>\n")
            continue
        out.append(f"  <cpu {words}>\n")
        out += [f"    <blocker name='{escape(name)}'/>\n" for name in model.missing]
        out.append("  </cpu>\n")
    for machine in caps.machines:
        if machine.name != "none":
            out.append(f"  <machine type='{word}' {_machine_words(machine, virt)}/>\n")


def _property(one: CpuProperty, cpu: HostCpu) -> str:
    kinds = {bool: "boolean", int: "number", str: "string"}
    value = str(one.value).lower() if isinstance(one.value, bool) else str(one.value)
    words = f"name='{escape(one.name)}' type='{kinds[type(one.value)]}' value='{escape(value)}'"
    if cpu.tells_migratable and one.migratable is not None:
        words += f" migratable='{_yes(one.migratable)}'"
    return f"    <property {words}/>\n"


def _machine_words(machine: Machine, virt: str) -> str:
    words = [f"name='{escape(machine.name)}'"]
    if machine.alias is not None:
        words.append(f"alias='{escape(machine.alias)}'")
    if machine.hotpluggable_cpus:
        words.append("hotplugCpus='yes'")
    words.append(f"maxCpus='{machine.max_cpus}'")
    if machine.is_default:
        words.append("default='yes'")
    cpu = machine.cpu_for(virt)
    if cpu is not None:
        words.append(f"defaultCPU='{escape(cpu)}'")
    if machine.numa_mem:
        words.append("numaMemSupported='yes'")
    if machine.default_ram_id is not None:
        words.append(f"defaultRAMid='{escape(machine.default_ram_id)}'")
    if machine.deprecated:
        words.append("deprecated='yes'")
    return " ".join(words)


def _write_sev(out: list[str], sev: Sev) -> None:
    out.append(f"  <sev>\n    <cbitpos>{sev.cbitpos}</cbitpos>\n")
    out.append(f"    <reducedPhysBits>{sev.reduced_phys_bits}</reducedPhysBits>\n")
    out.append(f"    <pdh>{escape(sev.pdh)}</pdh>\n    <certChain>{escape(sev.cert_chain)}</certChain>\n")
    if sev.cpu0_id is not None:
        out.append(f"    <cpu0Id>{escape(sev.cpu0_id)}</cpu0Id>\n")
    out.append("  </sev>\n")


def _write_sgx(out: list[str], sgx: Sgx) -> None:
    out.append(f"  <sgx supported='yes'>\n    <flc>{_yes(sgx.flc)}</flc>\n    <sgx1>{_yes(sgx.sgx1)}</sgx1>\n")
    out.append(f"    <sgx2>{_yes(sgx.sgx2)}</sgx2>\n")
    out.append(f"    <section_size unit='KiB'>{sgx.section_size_kib}</section_size>\n")
    if sgx.sections:
        out.append("    <sections>\n")
        out += [f"      <section node='{node}' size='{size}' unit='KiB'/>\n" for node, size in sgx.sections]
        out.append("    </sections>\n")
    out.append("  </sgx>\n")


_FLAG_WORDS: Final = (
    "kvm sdl no-hpet spice hda-duplex ccid-emulated ccid-passthru piix3-usb-uhci piix4-usb-uhci usb-ehci "
    "ich9-usb-ehci1 vt82c686b-usb-uhci pci-ohci usb-redir usb-hub ich9-ahci no-acpi virtio-blk-pci.scsi "
    "scsi-disk.channel scsi-block hda-micro nec-usb-xhci lsi virtio-scsi-pci disable-s3 disable-s4 usb-redir.filter "
    "ide-drive.wwn scsi-disk.wwn seccomp-sandbox vnc s390-sclp qxl VGA cirrus-vga vmware-svga usb-serial virtio-rng "
    "rng-random rng-egd virtio-ccw megasas tpm-passthrough tpm-tis nvram pci-bridge vfio-pci dmi-to-pci-bridge "
    "usb-storage usb-storage.removable virtio-mmio ich9-intel-hda kvm-pit-lost-tick-policy pvpanic enable-fips "
    "usb-kbd usb-audio rtc-reset-reinjection iothread migrate-rdma ivshmem VGA.vgamem_mb vmware-svga.vgamem_mb "
    "qxl.vgamem_mb pc-dimm machine-vmport-opt aes-key-wrap dea-key-wrap pci-serial aarch64-off gpex-pcihost ioh3420 "
    "x3130-upstream xio3130-downstream rtl8139 e1000 virtio-net gic-version virtio-gpu virtio-gpu.virgl "
    "virtio-keyboard virtio-mouse virtio-tablet virtio-input-host ich9-disable-s3 ich9-disable-s4 "
    "virtio-balloon-pci.deflate-on-oom mptsas1068 spice-gl qxl.vram64_size_mb pxb pxb-pcie intel-iommu "
    "query-hotpluggable-cpus virtio-vga ivshmem-plain ivshmem-doorbell vhost-scsi query-cpu-model-expansion "
    "spice-rendernode nvdimm pcie-root-port query-cpu-definitions loadparm cpu-cache qemu-xhci "
    "spapr-pci-host-bridge intel-iommu.intremap spapr-pci-host-bridge.numa_node intel-iommu.caching-mode "
    "intel-iommu.eim intel-iommu.device-iotlb chardev-reconnect vxhs spapr-vty vmcoreinfo sclplmconsole isa-serial "
    "pl011 virtio-gpu-ccw pcie-pci-bridge virtio-keyboard-ccw virtio-mouse-ccw virtio-tablet-ccw nbd-tls tpm-crb "
    "pr-manager-helper vfio-ccw screendump_device hda-output vmgenid vhost-vsock tpm-emulator "
    "machine.pseries.cap-hpt-max-page-size mch machine.pseries.cap-htm mch.extended-tseg-mbytes sev-guest "
    "egl-headless vfio-pci.display vfio-ap zpci memory-backend-memfd memory-backend-memfd.hugetlb "
    "iothread.poll-max-ns machine.pseries.cap-nested-hv egl-headless.rendernode memory-backend-file.pmem "
    "nvdimm.unarmed virtio-pci-non-transitional machine.virt.iommu nbd-bitmap x86-max-cpu cpu-unavailable-features "
    "canonical-cpu-features bochs-display migration-file-drop-cache dbus-vmstate vhost-user-gpu vhost-user-vga "
    "query-cpu-model-baseline incremental-backup query-cpu-model-comparison ramfb machine.pseries.cap-ccf-assist "
    "arm-max-cpu drive-nvme smp-dies i8042 rng-builtin cpu.kvm-no-adjvtime tpm-spapr vhost-user-fs "
    "query-named-block-nodes.flat blockdev-snapshot.allow-write-only-overlay blockdev-reopen fsdev.multidevs "
    "pcie-root-port.hotplug aio.io_uring machine.pseries.cap-cfpc machine.pseries.cap-sbbc machine.pseries.cap-ibs "
    "tcg virtio-blk-pci.scsi.default.disabled pvscsi spapr-tpm-proxy cpu.migratable intel-iommu.aw-bits numa.hmat "
    "usb-host.hostdevice virtio-balloon.free-page-reporting block-export-add netdev.vhost-vdpa ncr53c90 dc390 "
    "am53c974 virtio-pmem-pci vhost-user-fs.bootindex vhost-user-blk cpu-max "
    "memory-backend-file.x-use-canonical-path-for-ramblock-id migration-param.block-bitmap-mapping "
    "vnc-power-control object.qapified rotation-rate compat-deprecated acpi-index input-linux virtio-gpu-gl-pci "
    "virtio-vga-gl confidential-guest-support s390-pv-guest set-action virtio-blk.queue-size virtio-mem-pci "
    "memory-backend-file.reserve piix4.acpi-root-pci-hotplug netdev.json query-dirty-rate rbd-encryption "
    "sev-guest-kernel-hashes sev-inject-launch-secret device.json+hotplug virtio-mem-pci.prealloc calc-dirty-rate "
    "dirtyrate-param.mode blockdev.nbd.tls-hostname memory-backend-file.prealloc-threads virtio-iommu-pci "
    "virtio-iommu.boot-bypass virtio-net.rss chardev.qemu-vdagent display-dbus iothread.thread-pool-max "
    "usb-host.guest-resets-all migration.blocked-reasons query-stats sgx-epc query-stats-schemas thread-context "
    "screenshot-format-png machine-hpet netdev.stream "
)
FLAG_ORDER: Final = tuple(_FLAG_WORDS.split())
"""The order in which libvirt writes its flags."""


def _place(flag: str) -> tuple[int, str]:
    return FLAG_ORDER.index(flag) if flag in FLAG_ORDER else len(FLAG_ORDER), flag
