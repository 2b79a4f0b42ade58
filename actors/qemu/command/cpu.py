"""`-cpu` and `-smp`: the guest's processors."""

from __future__ import annotations

from typing import Final

from actors.qemu.capabilities.host_model import NAMES_IN_QEMU
from actors.qemu.command.launch import Launch, is_x86
from actors.qemu.command.line import CommandLine, comma_doubled, on_off
from conf.cpu.cpu import CpuMode, FeaturePolicy, GuestCpu
from conf.domain.features import Hyperv
from conf.domain.small_devices import PanicModel
from schema.errors import ConfigUnsupported, InternalError

_MANDATORY: Final = (FeaturePolicy.FORCE, FeaturePolicy.REQUIRE)
_ABSENT: Final = (FeaturePolicy.DISABLE, FeaturePolicy.FORBID)


def add_cpu(launch: Launch, line: CommandLine) -> None:
    """The processor's model and features. Raises ConfigUnsupported for a mode that the accelerator cannot give."""
    cpu = launch.domain.cpu
    extras = _extras(launch)
    model = _model(launch, cpu)
    if model is None:
        if not extras:
            return
        model = "qemu32" if launch.arch == "i686" else _default_model(launch)
    line.add("-cpu", ",".join((model, *_features(launch, cpu), *extras)))


def _default_model(launch: Launch) -> str:
    machine = launch.machine_facts
    name = machine.cpu_for(launch.domain.type) if machine is not None else None
    if name is None:
        return "qemu64"
    for suffix in ("-x86_64-cpu", "-i386-cpu", f"-{launch.arch}-cpu", "-arm-cpu", "-s390x-cpu", "-cpu"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _model(launch: Launch, cpu: GuestCpu | None) -> str | None:
    if cpu is None or cpu.mode is None:
        return cpu.model.name if cpu is not None and cpu.model is not None else None
    if cpu.mode is CpuMode.HOST_PASSTHROUGH or (cpu.mode is CpuMode.HOST_MODEL and launch.is_kvm):
        if not launch.is_kvm:
            raise ConfigUnsupported(
                f"CPU mode '{cpu.mode}' for {launch.arch} {launch.domain.type} domain on "
                f"{launch.arch} host is not supported by hypervisor"
            )
        return "host"
    if cpu.mode in (CpuMode.MAXIMUM, CpuMode.HOST_MODEL):
        return "max"
    return cpu.model.name if cpu.model is not None else None


def _features(launch: Launch, cpu: GuestCpu | None) -> list[str]:
    if cpu is None:
        return []
    if cpu.features and launch.arch == "s390x" and launch.caps.lacks("query-cpu-model-expansion"):
        raise InternalError(f"CPU features not supported by hypervisor for {launch.arch} architecture")
    found = []
    if launch.arch == "armv7l" and _model(launch, cpu) == "host" and launch.caps.has("aarch64-off"):
        found.append("aarch64=off")  # half of what the host's processor is
    if (
        cpu.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM)
        and cpu.migratable is not None
        and launch.caps.has("cpu.migratable")
    ):
        found.append(f"migratable={on_off(cpu.migratable)}")
    if cpu.model is not None and cpu.model.vendor_id and cpu.mode is not CpuMode.HOST_PASSTHROUGH:
        found.append(f"vendor={comma_doubled(cpu.model.vendor_id)}")
    for feature in cpu.features:
        name = NAMES_IN_QEMU.get(feature.name, feature.name)
        if feature.policy is None or feature.policy in _MANDATORY:
            found.append(f"{name}=on")
        elif feature.policy in _ABSENT:
            found.append(f"{name}=off")
    return found


_ADJUSTMENT: Final = {"delay": "off", "discard": "on"}
"""Whether time that the guest did not run is taken out of its virtual timer."""


def _extras(launch: Launch) -> list[str]:
    domain = launch.domain
    features = domain.features
    found: list[str] = []
    for timer in domain.clock.timers:
        if timer.name == "kvmclock" and timer.present is not None:
            found.append(f"kvmclock={on_off(timer.present)}")
        elif timer.name == "hypervclock" and timer.present:
            found.append("hv-time=on")
        elif timer.name == "armvtimer" and timer.tickpolicy in _ADJUSTMENT:
            found.append(f"kvm-no-adjvtime={_ADJUSTMENT[timer.tickpolicy]}")
        elif timer.name == "tsc" and timer.frequency:
            found.append(f"tsc-frequency={timer.frequency}")
    if features is not None:
        if features.apic is not None and features.apic.eoi is not None:
            found.append(f"kvm-pv-eoi={on_off(features.apic.eoi)}")
        if features.pvspinlock is not None:
            found.append(f"kvm-pv-unhalt={on_off(features.pvspinlock.state is not False)}")
        if features.hyperv is not None:
            found.extend(_hyperv(features.hyperv))
    found.extend("hv-crash" for panic in domain.devices.panics if panic.model is PanicModel.HYPERV)
    if features is not None:
        if features.kvm is not None:
            if features.kvm.hidden:
                found.append("kvm=off")
            if features.kvm.hint_dedicated:
                found.append("kvm-hint-dedicated=on")
            if features.kvm.poll_control:
                found.append("kvm-poll-control=on")
            if features.kvm.pv_ipi is False:
                found.append("kvm-pv-ipi=off")
        if features.pmu is not None and not launch.arch.startswith("ppc"):
            found.append(f"pmu={on_off(features.pmu.state is not False)}")
    cpu = domain.cpu
    if cpu is not None and cpu.cache is not None and is_x86(launch.arch):
        found.extend(_caches(cpu.cache.mode, cpu.mode))
    if cpu is not None and cpu.maxphysaddr is not None:
        if cpu.maxphysaddr.mode == "passthrough":
            found.append("host-phys-bits=on")
        elif cpu.maxphysaddr.bits:
            found.append(f"phys-bits={cpu.maxphysaddr.bits}")
    return found


def _caches(cache: str, mode: CpuMode | None) -> list[str]:
    if cache == "passthrough":
        return ["host-cache-info=on", "l3-cache=off"]
    # other models never tell of the host's caches
    hidden = ["host-cache-info=off"] if mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM) else []
    return ["l3-cache=on", *hidden] if cache == "emulate" else [*hidden, "l3-cache=off"]


def _hyperv(hyperv: Hyperv) -> list[str]:
    found = ["hv-passthrough=on"] if hyperv.mode == "passthrough" else []
    for name in ("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id"):
        value = getattr(hyperv, name)
        if isinstance(value, bool):
            if value:
                found.append(f"hv-{name}=on")
        elif value is not None and value.state:
            if name == "spinlocks":
                found.append(f"hv-spinlocks={value.retries:#x}")
            elif name == "vendor_id":
                found.append(f"hv-vendor-id={comma_doubled(value.value or '')}")
            else:
                found.append("hv-stimer=on")
                if value.direct:
                    found.append("hv-stimer-direct=on")
    late = ("frequencies", "reenlightenment", "tlbflush", "ipi", "evmcs", "avic")
    found.extend(f"hv-{name}=on" for name in late if getattr(hyperv, name))
    return found


def add_smp(launch: Launch, line: CommandLine) -> None:
    """How many processors there are, and how they are arranged."""
    domain = launch.domain
    most = domain.vcpu.count
    # processors that the user lists one by one are plugged in after the start
    plugged = domain.vcpu.current or most
    if domain.vcpus is not None and domain.vcpus.vcpus:
        plugged = sum(1 for one in domain.vcpus.vcpus if one.enabled and one.hotpluggable is not True)
    words = [str(plugged)]
    if plugged != most:
        words.append(f"maxcpus={most}")
    topology = domain.cpu.topology if domain.cpu is not None else None
    if topology is not None:
        words.append(f"sockets={topology.sockets}")
        if launch.caps.has("smp-dies"):
            words.append(f"dies={topology.dies}")
        words += [f"cores={topology.cores}", f"threads={topology.threads}"]
    else:
        words += [f"sockets={most}", "cores=1", "threads=1"]
    line.add("-smp", ",".join(words))
