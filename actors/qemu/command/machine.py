"""`-machine`, `-accel`, firmware, clock, power management and boot: what a guest is before it has devices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from actors.qemu.command.blockdev import Node, nodes_of_pflash
from actors.qemu.command.launch import Launch, alias_of, is_arm_virt, is_i440fx, is_q35, is_x86
from actors.qemu.command.line import CommandLine, comma_doubled, on_off
from actors.qemu.command.memory import has_memory_table, needs_machine_backend
from conf.cpu.cpu import CpuMode
from conf.domain.clock import Clock, ClockOffset, LifecycleAction
from conf.domain.controller import ControllerType, PciModel
from conf.domain.domain import VirtType
from conf.domain.memory_device import MemoryModel
from conf.domain.os import LoaderType
from schema.errors import ConfigUnsupported


def pflash_nodes(launch: Launch) -> list[Node]:
    """The flash chips of the firmware: its code, then its variables."""
    loader, nvram = launch.domain.os.loader, launch.domain.os.nvram
    if loader is None or loader.type is not LoaderType.PFLASH or not loader.path:
        return []
    return nodes_of_pflash(launch, loader.path, loader.readonly is True, nvram)


def add_machine(launch: Launch, line: CommandLine, flash: list[Node]) -> None:
    """The machine and its options, in the order of the command line that this driver's guests have."""
    domain, features = launch.domain, launch.domain.features
    # controllers are devices of their own, whatever the machine would add by itself
    words = [launch.machine, "usb=off"]
    if features is not None:
        if features.vmport is not None:
            words.append(f"vmport={on_off(features.vmport)}")
        if features.smm is not None:
            words.append(f"smm={on_off(features.smm.state is not False)}")
    words += _key_wrapping(launch)
    words += _feature_words(launch)
    iommu = domain.devices.iommu
    if iommu is not None and iommu.model == "smmuv3":
        words.append("iommu=smmuv3")
    dump_core = domain.memory.dump_core
    words.append(f"dump-guest-core={on_off(launch.options.dump_core if dump_core is None else dump_core)}")
    if domain.memory_backing is not None and domain.memory_backing.nosharepages:
        words.append("mem-merge=off")
    words += _memory_words(launch)
    if has_memory_table(launch):
        words.append("hmat=on")
    if needs_machine_backend(launch):
        machine = launch.machine_facts
        words.append(f"memory-backend={machine.default_ram_id if machine is not None else 'pc.ram'}")
    for number, node in enumerate(flash):
        words.append(f"pflash{number}={node.name}")
    compatible = cpu_compatibility(launch)
    if compatible is not None:
        words.append(f"max-cpu-compat={compatible}")
    if _acpi_is_machine_option(launch):
        words.append(f"acpi={on_off(features is not None and features.acpi)}")
    hpet = _timer_present(domain.clock, "hpet")
    if hpet is not None and is_x86(launch.arch) and _hpet_is_machine_option(launch):
        words.append(f"hpet={on_off(hpet)}")
    words += _load_parameter(launch)
    security = domain.launch_security
    if security is not None:
        old = security.type == "sev" and not launch.caps.has("confidential-guest-support")
        words.append("memory-encryption=lsec0" if old else "confidential-guest-support=lsec0")
    if domain.os.bios is not None and domain.os.bios.useserial:
        # the firmware's output goes where the serial port does
        words.append("graphics=off")
    line.add("-machine", ",".join(words))


def _memory_words(launch: Launch) -> list[str]:
    words = []
    enclaves = 0
    for one in launch.domain.devices.memories:
        if one.model is MemoryModel.NVDIMM and "nvdimm=on" not in words:
            words.append("nvdimm=on")
        elif one.model is MemoryModel.SGX_EPC:
            words.append(f"sgx-epc.{enclaves}.memdev=mem{alias_of(one)}")
            if one.target.node is not None:
                words.append(f"sgx-epc.{enclaves}.node={one.target.node}")
            enclaves += 1
    return words


def _key_wrapping(launch: Launch) -> list[str]:
    wrap = launch.domain.keywrap
    for one in wrap.ciphers if wrap is not None else ():
        if launch.caps.lacks(f"{one.name}-key-wrap"):
            raise ConfigUnsupported(f"{one.name}-key-wrap is not available with this QEMU binary")
    ciphers = sorted(wrap.ciphers, key=lambda one: one.name) if wrap is not None else ()
    return [f"{one.name}-key-wrap={one.state}" for one in ciphers]


_RESIZING: Final = {"enabled": "enabled", "disabled": "disabled", "required": "required"}


def _feature_words(launch: Launch) -> list[str]:
    """Features that are options of the machine: interrupt controllers, and what POWER's machine has."""
    features = launch.domain.features
    if features is None:
        return []
    words = []
    gic = features.gic.version if features.gic is not None else None
    if gic and is_arm_virt(launch.arch, launch.machine):
        if launch.arch == "aarch64" or launch.caps.has("gic-version"):
            words.append(f"gic-version={gic}")
        elif gic != "2":  # which is what such an emulator has by itself
            raise ConfigUnsupported("gic-version option is not available with this QEMU binary")
    if features.ioapic is not None:
        words.append("kernel_irqchip=split" if features.ioapic == "qemu" else "kernel_irqchip=on")
    if features.hpt is not None:
        if features.hpt.resizing is not None:
            words.append(f"resize-hpt={_RESIZING[features.hpt.resizing]}")
        if features.hpt.maxpagesize_kib:
            words.append(f"cap-hpt-max-page-size={features.hpt.maxpagesize_kib}k")
    switches = (("htm", features.htm), ("nested-hv", features.nested_hv), ("ccf-assist", features.ccf_assist))
    words += [f"cap-{name}={on_off(value)}" for name, value in switches if value is not None]
    choices = (("cfpc", features.cfpc), ("sbbc", features.sbbc), ("ibs", features.ibs))
    words += [f"cap-{name}={value}" for name, value in choices if value is not None]
    return words


def cpu_compatibility(launch: Launch) -> str | None:
    """The older processor that a guest of POWER is made to see: what the host has, named by its model."""
    cpu = launch.domain.cpu
    is_power = launch.arch in ("ppc64", "ppc64le")
    if not is_power or cpu is None or cpu.mode is not CpuMode.HOST_MODEL or cpu.model is None:
        return None
    return cpu.model.name.lower() if cpu.model.name else None


def _load_parameter(launch: Launch) -> list[str]:
    """What a mainframe's loader is told; the device that boots first says it."""
    order = {}
    for device in launch.domain.devices.all():
        if device.boot is not None and device.boot.order is not None and device.boot.loadparm:
            order[device.boot.order] = device.boot.loadparm
    return [f"loadparm={order[min(order)]}"] if order else []


def _acpi_is_machine_option(launch: Launch) -> bool:
    # -no-acpi was deprecated in 8.0 and is gone since 8.2
    return is_x86(launch.arch) and launch.caps.version >= (8, 1, 0)


def _hpet_is_machine_option(launch: Launch) -> bool:
    return launch.caps.has("machine-hpet")


def _timer_present(clock: Clock, name: str) -> bool | None:
    return next((timer.present for timer in clock.timers if timer.name == name), None)


def add_accelerator(launch: Launch, line: CommandLine) -> None:
    """How instructions are executed."""
    features = launch.domain.features
    if launch.is_kvm:
        ring = features.kvm.dirty_ring if features is not None and features.kvm is not None else None
        size = f",dirty-ring-size={ring.size}" if ring is not None and ring.state and ring.size else ""
        line.add("-accel", f"kvm{size}")
        return
    if launch.domain.type is VirtType.HVF:
        line.add("-accel", "hvf")
        return
    cache = features.tcg.tb_cache_kib if features is not None and features.tcg is not None else None
    line.add("-accel", f"tcg,tb-size={cache // 1024}" if cache else "tcg")


def add_firmware(launch: Launch, line: CommandLine) -> None:
    """A firmware image that is no flash chip, and the secure mode of one that is."""
    loader = launch.domain.os.loader
    if loader is not None and loader.path:
        if loader.type is LoaderType.PFLASH:
            if loader.secure:
                line.add("-global", "driver=cfi.pflash01,property=secure,value=on")
        else:
            line.add("-bios", loader.path)


def add_smm_memory(launch: Launch, line: CommandLine) -> None:
    """How much memory the system management mode has to itself."""
    features = launch.domain.features
    tseg = features.smm.tseg if features is not None and features.smm is not None else None
    if tseg is not None and tseg.value is not None:
        line.add("-global", f"mch.extended-tseg-mbytes={_tseg_mib(tseg.value, tseg.unit)}")


def _tseg_mib(value: int, unit: str | None) -> int:
    factor = {None: 1024 * 1024, "MiB": 1024 * 1024, "KiB": 1024, "GiB": 1024**3}.get(unit, 1024 * 1024)
    return value * factor // (1024 * 1024)


def add_clock(launch: Launch, line: CommandLine) -> None:
    """The real-time clock and the other timers."""
    clock = launch.domain.clock
    words = [f"base={_rtc_base(clock, launch.now)}"]
    for timer in clock.timers:
        if timer.name == "rtc":
            if timer.track == "guest":
                words.append("clock=vm")
            elif timer.track == "wall":
                words.append("clock=host")
            elif timer.track == "realtime":
                words.append("clock=rt")
            if timer.tickpolicy == "catchup":
                words.append("driftfix=slew")
    line.add("-rtc", ",".join(words))
    for timer in clock.timers:
        if timer.name == "pit":
            if timer.tickpolicy in (None, "delay") and launch.caps.has("kvm-pit-lost-tick-policy"):
                line.add("-global", "kvm-pit.lost_tick_policy=delay")
            elif timer.tickpolicy == "discard" and launch.caps.has("kvm-pit-lost-tick-policy"):
                line.add("-global", "kvm-pit.lost_tick_policy=discard")
        elif timer.name == "hpet" and timer.present is False and launch.caps.has("no-hpet"):
            line.add("-no-hpet")


def _rtc_base(clock: Clock, now: datetime) -> str:
    if clock.offset in (ClockOffset.LOCALTIME, ClockOffset.TIMEZONE):
        return "localtime"
    if clock.offset is ClockOffset.VARIABLE:
        now = now if clock.basis == "localtime" else now.astimezone(UTC)
        moved = now + timedelta(seconds=int(clock.adjustment or 0))
        return moved.strftime("%Y-%m-%dT%H:%M:%S")
    if clock.offset is ClockOffset.ABSOLUTE:
        # the year 9999 and beyond is what people test with
        return datetime.fromtimestamp(clock.start or 0, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return "utc"


def add_power(launch: Launch, line: CommandLine) -> None:
    """What remains of a guest that ended, and which sleep states there are."""
    domain = launch.domain
    if (
        domain.on_poweroff is LifecycleAction.DESTROY
        and domain.on_reboot is LifecycleAction.DESTROY
        and domain.on_crash is LifecycleAction.DESTROY
        and not launch.caps.has("set-action")
    ):
        line.add("-no-reboot")
    else:
        line.add("-no-shutdown")
    has_acpi = domain.features is not None and domain.features.acpi
    if launch.caps.has("no-acpi") and not has_acpi and not _acpi_is_machine_option(launch):
        line.add("-no-acpi")
    if domain.pm is not None:
        chip = "ICH9-LPC" if is_q35(launch.machine) and launch.caps.has("ich9-disable-s3") else "PIIX4_PM"
        for value, name in ((domain.pm.suspend_to_mem, "disable_s3"), (domain.pm.suspend_to_disk, "disable_s4")):
            if value is not None:
                if not (is_q35(launch.machine) or is_i440fx(launch.machine)):
                    raise ConfigUnsupported("setting ACPI S3 not supported")
                line.add("-global", f"{chip}.{name}={int(not value)}")


_HOST_BRIDGES: Final = {PciModel.PCI_ROOT: "i440FX-pcihost", PciModel.PCIE_ROOT: "q35-pcihost"}


def add_holes(launch: Launch, line: CommandLine) -> None:
    """How much room for 64-bit addresses the host bridge leaves."""
    for controller in launch.domain.devices.controllers:
        hole = controller.pcihole64_kib
        if controller.type is ControllerType.PCI and hole is not None:
            bridge = _HOST_BRIDGES[PciModel(controller.model or "")]
            line.add("-global", f"{bridge}.pci-hole64-size={hole}K")


def add_root_hotplug(launch: Launch, line: CommandLine) -> None:
    """Whether devices can be plugged into the root of a PC."""
    for controller in launch.domain.devices.controllers:
        hotplug = controller.target.hotplug if controller.target is not None else None
        if controller.type is ControllerType.PCI and controller.model == PciModel.PCI_ROOT and hotplug is not None:
            line.add("-global", f"PIIX4_PM.acpi-root-pci-hotplug={on_off(hotplug)}")


def add_boot(launch: Launch, line: CommandLine) -> None:
    """The boot menu, and a kernel that is booted directly."""
    os = launch.domain.os
    words = []
    if os.bootmenu is not None and os.bootmenu.enable is not None:
        words.append(f"menu={on_off(os.bootmenu.enable)}")
        if os.bootmenu.enable and os.bootmenu.timeout_ms is not None:
            words.append(f"splash-time={os.bootmenu.timeout_ms}")
    if os.bios is not None and os.bios.reboot_timeout_ms is not None:
        words.append(f"reboot-timeout={os.bios.reboot_timeout_ms}")
    words.append("strict=on")
    line.add("-boot", ",".join(words))
    if os.kernel:
        line.add("-kernel", os.kernel)
    if os.initrd:
        line.add("-initrd", os.initrd)
    if os.cmdline:
        line.add("-append", os.cmdline)
    if os.dtb:
        line.add("-dtb", os.dtb)
    for table in os.acpi_tables:
        line.add("-acpitable", f"sig=SLIC,file={comma_doubled(table.path or '')}")
