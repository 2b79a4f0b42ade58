"""What QEMU's machines cannot do as a whole, in libvirt's words: features, processors, clocks, memory, firmware."""

from __future__ import annotations

from actors.qemu import rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.cpu.cpu import CpuMode
from conf.domain.clock import ClockOffset, LifecycleAction, Timer
from conf.domain.domain import Domain, VirtType
from conf.domain.memory import MemorySourceType
from conf.domain.storage_source import StorageSource
from conf.domain.vcpu import Placement
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, XmlError
from util.cpuset import parse_cpuset

_MIB = 1 << 20
_MAX_PLAIN_VCPUS = 255
_LATEST_START = 253402300799
"""The end of the year 9999, beyond which QEMU cannot write a date."""


def check(domain: Domain, capabilities: Capabilities, host_arch: str | None) -> None:
    """Refuses a machine that QEMU cannot be. Raises ConfigUnsupported."""
    if domain.memtune is not None and domain.memtune.min_guarantee_kib:
        raise ConfigUnsupported("Parameter 'min_guarantee' not supported by QEMU.")
    _check_firmware(domain)
    if domain.genid is not None and capabilities.lacks("vmgenid"):
        raise ConfigUnsupported("this QEMU does not support the 'genid' capability")
    if domain.os.bios is not None and domain.os.bios.useserial:
        if not rules_machine.is_x86(domain):
            raise ConfigUnsupported("BIOS serial console only supported on x86 architectures")
        if not domain.devices.serials:
            raise XmlError("need at least one serial port to use BIOS serial output")
    _check_features(domain, capabilities)
    _check_lifecycle(domain)
    _check_cpu(domain, capabilities, host_arch)
    _check_iothreads(domain, capabilities)
    for timer in domain.clock.timers:
        _check_timer(timer, domain, capabilities)
    if domain.clock.offset is ClockOffset.ABSOLUTE and (domain.clock.start or 0) > _LATEST_START:
        raise ConfigUnsupported(f"The maximum 'start' value for <clock offset='absolute'> is {_LATEST_START}")
    _check_sleep(domain, capabilities)
    _check_boot(domain)
    _check_vcpus(domain, capabilities)
    tuned = domain.numatune
    if tuned is not None and tuned.memory is not None and tuned.memory.placement is Placement.AUTO and tuned.memnodes:
        raise ConfigUnsupported("Per-node binding is not compatible with automatic NUMA placement.")
    _check_memory(domain, capabilities)
    _check_modules(domain)
    _check_sysinfo(domain)
    _check_launch_security(domain, capabilities)
    tune = domain.cputune
    if tune is not None and (tune.cachetunes or tune.memorytunes) and domain.type is not VirtType.KVM:
        raise ConfigUnsupported("cachetune is only supported for KVM domains")


def _check_firmware(domain: Domain) -> None:
    loader = domain.os.loader
    is_uefi = domain.os.firmware == "efi" or (loader is not None and loader.type == "pflash")
    has_acpi = domain.features is not None and domain.features.acpi
    if is_uefi and rules_machine.is_x86(domain) and not has_acpi:
        raise ConfigUnsupported("UEFI requires ACPI on this architecture")
    if has_acpi and rules_machine.arch_of(domain) == "aarch64" and not is_uefi:
        raise ConfigUnsupported("ACPI requires UEFI on this architecture")


def _where(domain: Domain) -> str:
    return f"architecture '{rules_machine.arch_of(domain)}' or machine type '{rules_machine.machine_of(domain)}'"


_PSERIES = (
    ("htm", "HTM", "machine.pseries.cap-htm"),
    ("nested_hv", "Nested HV", "machine.pseries.cap-nested-hv"),
    ("ccf_assist", "ccf-assist", "machine.pseries.cap-ccf-assist"),
    ("cfpc", "cfpc", "machine.pseries.cap-cfpc"),
    ("sbbc", "sbbc", "machine.pseries.cap-sbbc"),
    ("ibs", "ibs", "machine.pseries.cap-ibs"),
)


def _check_features(domain: Domain, capabilities: Capabilities) -> None:
    features = domain.features
    if features is None:
        return
    pseries, x86 = rules_machine.is_pseries(domain), rules_machine.is_x86(domain)
    needs = (
        ("ioapic", features.ioapic is not None, x86),
        ("hpt", features.hpt is not None, pseries),
        ("gic", features.gic is not None, rules_machine.is_arm_virt(domain)),
        ("pvspinlock", features.pvspinlock is not None, x86),
        *(
            (attribute.replace("_", "-"), getattr(features, attribute) is not None, pseries)
            for attribute, _, _ in _PSERIES
        ),
    )
    for name, given, possible in needs:
        if given and not possible:
            raise ConfigUnsupported(f"The '{name}' feature is not supported for {_where(domain)}")
    resized = features.hpt is not None and bool(features.hpt.maxpagesize_kib)
    if resized and capabilities.lacks("machine.pseries.cap-hpt-max-page-size"):
        raise ConfigUnsupported("Configuring the page size for HPT guests is not supported by this QEMU binary")
    for attribute, name, flag in _PSERIES:
        if getattr(features, attribute) is not None and capabilities.lacks(flag):
            raise ConfigUnsupported(f"{name} configuration is not supported by this QEMU binary")
    if features.vmport is not None and capabilities.lacks("machine-vmport-opt"):
        raise ConfigUnsupported("vmport is not available with this QEMU binary")
    if features.vmcoreinfo is not None and features.vmcoreinfo.state and capabilities.lacks("vmcoreinfo"):
        raise ConfigUnsupported("vmcoreinfo is not available with this QEMU binary")
    if features.apic is not None and features.apic.eoi is not None and not x86:
        raise ConfigUnsupported(f"The 'eoi' attribute of the 'apic' feature is not supported for {_where(domain)}")
    if features.hyperv is not None and not x86 and rules_machine.arch_of(domain) != "aarch64":
        raise ConfigUnsupported(f"Hyperv features are not supported for {_where(domain)}")
    if (
        features.pmu is not None
        and features.pmu.state is False
        and rules_machine.arch_of(domain) in rules_machine.PPC64
    ):
        raise ConfigUnsupported(f"PMU is always enabled for architecture '{rules_machine.arch_of(domain)}'")
    if features.tcg is not None and features.tcg.tb_cache_kib:
        if domain.type is not VirtType.QEMU:
            raise ConfigUnsupported(f"TCG features are incompatible with domain type '{domain.type.value}'")
        if features.tcg.tb_cache_kib % 1024:
            raise ConfigUnsupported("tb-cache size must be an integer multiple of MiB")


def check_smm(domain: Domain, capabilities: Capabilities) -> None:
    """Refuses memory for SMM that the machine cannot have. Raises ConfigUnsupported."""
    smm = domain.features.smm if domain.features is not None else None
    if smm is None or smm.tseg is None:
        return
    if smm.state and not rules_machine.is_q35(domain):
        raise ConfigUnsupported("SMM TSEG is only supported with q35 machine type")
    if smm.state and capabilities.lacks("mch.extended-tseg-mbytes"):
        raise ConfigUnsupported("Setting TSEG size is not supported with this QEMU binary")
    factor = bytes_per_unit(smm.tseg.unit or "MiB") or 1
    if (smm.tseg.value or 0) * factor % _MIB:
        raise ConfigUnsupported("SMM TSEG size must be divisible by 1 MiB")


def _check_lifecycle(domain: Domain) -> None:
    if LifecycleAction.RENAME_RESTART in (domain.on_reboot, domain.on_poweroff, domain.on_crash):
        raise ConfigUnsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
        )
    if LifecycleAction.PRESERVE in (domain.on_reboot, domain.on_poweroff):
        raise ConfigUnsupported("qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'")
    if domain.on_reboot is LifecycleAction.DESTROY and domain.on_poweroff is LifecycleAction.RESTART:
        raise ConfigUnsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'"
        )


_HOST_MODES = (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM)


def _check_cpu(domain: Domain, capabilities: Capabilities, host_arch: str | None) -> None:
    cpu = domain.cpu
    if cpu is None:
        return
    arch, x86 = rules_machine.arch_of(domain), rules_machine.is_x86(domain)
    cache = cpu.cache
    if cache is not None:
        if not x86:
            raise ConfigUnsupported(f"CPU cache specification is not supported for '{arch}' architecture")
        if cache.mode == "passthrough":
            if cpu.mode not in _HOST_MODES:
                raise ConfigUnsupported(
                    "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs"
                )
            if cache.level is not None:
                raise ConfigUnsupported("unsupported CPU cache level for mode 'passthrough'")
        elif cache.mode == "emulate" and cache.level != 3:
            raise ConfigUnsupported("CPU cache mode 'emulate' can only be used with level='3'")
        elif cache.mode == "disable" and cache.level is not None:
            raise ConfigUnsupported("unsupported CPU cache level for mode 'disable'")
    width = cpu.maxphysaddr
    if width is not None:
        if not x86:
            raise ConfigUnsupported(
                f"CPU maximum physical address bits specification is not supported for '{arch}' architecture"
            )
        if width.mode == "passthrough":
            if width.bits is not None:
                raise ConfigUnsupported(
                    "CPU maximum physical address bits number specification cannot be used with mode='passthrough'"
                )
        elif width.bits is None:
            raise ConfigUnsupported(
                f"if using CPU maximum physical address mode='{width.mode}', bits= must be specified too"
            )
    if cpu.mode is CpuMode.HOST_PASSTHROUGH:
        if arch == "armv7l" and host_arch == "aarch64" and capabilities.lacks("aarch64-off"):
            raise ConfigUnsupported("QEMU binary does not support CPU host-passthrough for armv7l on aarch64 host")
        if cpu.migratable and capabilities.lacks("cpu.migratable"):
            raise ConfigUnsupported(
                "Migratable attribute for host-passthrough CPU is not supported by this QEMU binary"
            )
    if cpu.mode is CpuMode.MAXIMUM and capabilities.lacks("cpu-max"):
        raise ConfigUnsupported("maximum CPU is not supported by QEMU binary")


def _check_iothreads(domain: Domain, capabilities: Capabilities) -> None:
    pools = [*(domain.iothreadids.iothreads if domain.iothreadids is not None else ())]
    limits = [(one.thread_pool_min, one.thread_pool_max) for one in pools]
    if domain.defaultiothread is not None:
        limits.append((domain.defaultiothread.thread_pool_min, domain.defaultiothread.thread_pool_max))
    if any(limit is not None for pair in limits for limit in pair) and capabilities.lacks("iothread.thread-pool-max"):
        raise ConfigUnsupported("thread_pool_min and thread_pool_max is not supported by this QEMU binary")


def _check_timer(timer: Timer, domain: Domain, capabilities: Capabilities) -> None:
    guests = (
        f"virtType={domain.type.value} arch={rules_machine.arch_of(domain)} "
        f"machine={rules_machine.machine_of(domain)} guests"
    )
    match timer.name:
        case "platform":
            raise ConfigUnsupported("unsupported timer type (name) 'platform'")
        case "tsc" | "kvmclock" | "hypervclock":
            if not rules_machine.is_x86(domain) and timer.present is not False:
                raise ConfigUnsupported(f"Configuring the '{timer.name}' timer is not supported for {guests}")
        case "rtc":
            if timer.track == "boot":
                raise ConfigUnsupported(f"unsupported rtc timer track '{timer.track}'")
            if timer.tickpolicy in ("merge", "discard"):
                raise ConfigUnsupported(f"unsupported rtc timer tickpolicy '{timer.tickpolicy}'")
        case "pit":
            if timer.tickpolicy in ("catchup", "merge") and (
                timer.tickpolicy == "merge" or capabilities.lacks("kvm-pit-lost-tick-policy")
            ):
                raise ConfigUnsupported(f"unsupported pit tickpolicy '{timer.tickpolicy}'")
        case "hpet":
            if timer.present and capabilities.lacks("no-hpet") and capabilities.lacks("machine-hpet"):
                raise ConfigUnsupported("hpet timer is not supported")
        case "armvtimer":
            if domain.type is not VirtType.KVM or not rules_machine.is_arm_virt(domain):
                raise ConfigUnsupported(f"Configuring the 'armvtimer' timer is not supported for {guests}")
            if timer.present is False:
                raise ConfigUnsupported("The 'armvtimer' timer can't be disabled")
            if capabilities.lacks("cpu.kvm-no-adjvtime"):
                raise ConfigUnsupported("Configuring the 'armvtimer' timer is not supported with this QEMU binary")
            if timer.tickpolicy in ("catchup", "merge"):
                raise ConfigUnsupported(f"The 'armvtimer' timer does not support tickpolicy '{timer.tickpolicy}'")
        case _:
            pass


def _check_sleep(domain: Domain, capabilities: Capabilities) -> None:
    if domain.pm is None:
        return
    for state, number in ((domain.pm.suspend_to_mem, 3), (domain.pm.suspend_to_disk, 4)):
        on_q35 = rules_machine.is_q35(domain) and capabilities.has(f"ich9-disable-s{number}")
        if state is not None and not on_q35 and capabilities.lacks(f"disable-s{number}"):
            raise ConfigUnsupported(f"setting ACPI S{number} not supported")


def _check_boot(domain: Domain) -> None:
    loader = domain.os.loader
    if loader is not None and loader.secure:
        if not rules_machine.is_q35(domain):
            raise ConfigUnsupported("Secure boot is supported with q35 machine types only")
        if rules_machine.arch_of(domain) != "x86_64":
            raise ConfigUnsupported("Secure boot is supported for x86_64 architecture only")
        smm = domain.features.smm if domain.features is not None else None
        # where the firmware is chosen, SMM follows from the choice
        if domain.os.firmware is None and (smm is None or not smm.state):
            raise ConfigUnsupported("Secure boot requires SMM feature enabled")
    store = domain.os.nvram.source if domain.os.nvram is not None else None
    if store is not None:
        _check_store(store, str(domain.os.nvram.type) if domain.os.nvram is not None else "")


def _check_store(source: StorageSource, kind: str) -> None:
    if kind in ("dir", "volume", "nvme", "vhostuser"):
        raise ConfigUnsupported(f"unsupported nvram disk type '{kind}'")
    if getattr(source, "slices", None):
        raise ConfigUnsupported("slices are not supported with NVRAM")
    if getattr(source, "reservations", None) is not None:
        raise ConfigUnsupported("persistent reservations are not supported with NVRAM")


_MOST_PROCESSORS = (1 << 32) - 1


def _check_vcpus(domain: Domain, capabilities: Capabilities) -> None:
    count = domain.vcpu.count
    machine = capabilities.find_machine(rules_machine.machine_of(domain))
    if machine is not None and 0 < machine.max_cpus < count:
        raise ConfigUnsupported(f"Maximum CPUs greater than specified machine type limit {machine.max_cpus}")
    topology = domain.cpu.topology if domain.cpu is not None else None
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if topology is not None:
        total = topology.sockets * topology.dies * topology.cores * topology.threads
        if total > _MOST_PROCESSORS:
            raise ConfigUnsupported(f"cpu topology results in more than {_MOST_PROCESSORS} cpus")
        if total != count:
            raise ConfigUnsupported("CPU topology doesn't match maximum vcpu count")
        in_nodes = sum(len(parse_cpuset(cell.cpus)) for cell in cells if cell.cpus)
        if in_nodes and in_nodes != total:
            raise ConfigUnsupported(
                "CPU topology doesn't match numa CPU count; partial NUMA mapping is obsoleted and will be removed "
                "in future"
            )
        step = topology.threads if rules_machine.is_pseries(domain) else 1
        if (domain.vcpu.current or count) % step:
            raise ConfigUnsupported(f"vCPUs count must be a multiple of the vCPU hotplug granularity ({step})")
    if rules_machine.is_x86(domain) and count > _MAX_PLAIN_VCPUS:
        if not rules_machine.is_q35(domain):
            raise ConfigUnsupported(f"more than {_MAX_PLAIN_VCPUS} vCPUs are only supported on q35-based machine types")
        iommu = domain.devices.iommu
        if iommu is None or iommu.driver is None or not iommu.driver.eim:
            raise ConfigUnsupported(
                f"more than {_MAX_PLAIN_VCPUS} vCPUs require extended interrupt mode enabled on the iommu device"
            )


def _check_memory(domain: Domain, capabilities: Capabilities) -> None:
    backing = domain.memory_backing
    if backing is not None:
        mode = backing.allocation.mode if backing.allocation is not None else None
        if backing.hugepages is not None and mode == "ondemand":
            raise ConfigUnsupported("hugepages are not allowed with memory allocation ondemand")
        threads = backing.allocation is not None and bool(backing.allocation.threads)
        if threads and capabilities.lacks("memory-backend-file.prealloc-threads"):
            raise ConfigUnsupported("preallocation threads are unsupported with this QEMU")
        if backing.hugepages is not None and backing.source is MemorySourceType.ANONYMOUS:
            raise ConfigUnsupported("hugepages are not allowed with anonymous memory source")
        on_memfd = backing.source is MemorySourceType.MEMFD and backing.hugepages is not None
        if on_memfd and capabilities.lacks("memory-backend-memfd.hugetlb"):
            raise ConfigUnsupported("hugepages is not supported with memfd memory source")
    numa = domain.cpu.numa if domain.cpu is not None else None
    paths = numa.interconnects.paths if numa is not None and numa.interconnects is not None else []
    has_table = numa is not None and (bool(paths) or any(cell.caches for cell in numa.cells))
    if has_table and capabilities.lacks("numa.hmat"):
        raise ConfigUnsupported("HMAT is not supported with this QEMU")


def _check_modules(domain: Domain) -> None:
    modules, most = domain.devices.memories, domain.max_memory
    if not modules and most is None:
        return
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if most is None:
        raise ConfigUnsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined")
    if not cells and rules_machine.arch_of(domain) not in rules_machine.PPC64:
        raise ConfigUnsupported("At least one numa node has to be configured when enabling memory hotplug")
    if len(modules) > (most.slots or 0):
        raise ConfigUnsupported(f"memory device count '{len(modules)}' exceeds slots count '{most.slots}'")
    plugged = sum(one.target.size_kib for one in modules)
    if domain.memory.kib > most.kib or plugged > most.kib - (domain.memory.kib - plugged):
        raise ConfigUnsupported("memory device total size exceeds hotplug space")


def _check_sysinfo(domain: Domain) -> None:
    for info in domain.sysinfos:
        if info.type != "fwcfg":
            continue
        for entry in info.entries:
            name = entry.name or ""
            if not name.startswith("opt/"):
                raise ConfigUnsupported("Invalid firmware name")
            if name.startswith(("opt/ovmf/", "opt/org.qemu/")):
                raise ConfigUnsupported("That firmware name is reserved")


def _check_launch_security(domain: Domain, capabilities: Capabilities) -> None:
    security = domain.launch_security
    if security is None:
        return
    if security.type == "sev":
        if capabilities.lacks("sev-guest"):
            raise ConfigUnsupported("SEV launch security is not supported with this QEMU binary")
        if security.kernel_hashes is not None and capabilities.lacks("sev-guest-kernel-hashes"):
            raise ConfigUnsupported("SEV measured direct kernel boot is not supported with this QEMU binary")
    elif security.type == "s390-pv" and not (
        capabilities.has("confidential-guest-support") and capabilities.has("s390-pv-guest")
    ):
        raise ConfigUnsupported("S390 PV launch security is not supported with this QEMU binary")
