"""What the hypervisor offers beside devices: `<features>`."""

from conf.element import Element, Empty, attr, child, content, flag, size, value
from conf.faults import malformed, unsupported
from conf.values import ANY_BASE32, ON_OFF, ULONG, words


class Apic(Element, tag="apic"):
    """The interrupt controller of a PC."""

    eoi: bool | None = attr("eoi", ON_OFF, default=None)


class Hap(Element, tag="hap"):
    """Hardware assisted paging."""

    state: bool | None = attr("state", ON_OFF, default=None)


class Spinlocks(Element, tag="spinlocks"):
    """Tells the hypervisor that a lock is waited for."""

    state: bool = attr("state", ON_OFF)
    retries: int | None = attr("retries", ANY_BASE32, default=None)


class VendorId(Element, tag="vendor_id"):
    """The hypervisor's name."""

    state: bool = attr("state", ON_OFF)
    value: str | None = attr("value", str, default=None)


class Stimer(Element, tag="stimer"):
    """Synthetic timers."""

    state: bool = attr("state", ON_OFF)
    direct: bool | None = value("direct", "state", ON_OFF, default=None, needed=True)


class Hyperv(
    Element, tag="hyperv", empty=Empty.OPEN, unknown=unsupported("unsupported HyperV Enlightenment feature: {}")
):
    """Hyper-V enlightenments."""

    mode: str | None = attr("mode", words("custom", "passthrough"), default=None)
    relaxed: bool | None = value("relaxed", "state", ON_OFF, default=None, needed=True)
    vapic: bool | None = value("vapic", "state", ON_OFF, default=None, needed=True)
    spinlocks: Spinlocks | None = child(Spinlocks, default=None)
    vpindex: bool | None = value("vpindex", "state", ON_OFF, default=None, needed=True)
    runtime: bool | None = value("runtime", "state", ON_OFF, default=None, needed=True)
    synic: bool | None = value("synic", "state", ON_OFF, default=None, needed=True)
    stimer: Stimer | None = child(Stimer, default=None)
    reset: bool | None = value("reset", "state", ON_OFF, default=None, needed=True)
    vendor_id: VendorId | None = child(VendorId, default=None)
    frequencies: bool | None = value("frequencies", "state", ON_OFF, default=None, needed=True)
    reenlightenment: bool | None = value("reenlightenment", "state", ON_OFF, default=None, needed=True)
    tlbflush: bool | None = value("tlbflush", "state", ON_OFF, default=None, needed=True)
    ipi: bool | None = value("ipi", "state", ON_OFF, default=None, needed=True)
    evmcs: bool | None = value("evmcs", "state", ON_OFF, default=None, needed=True)
    avic: bool | None = value("avic", "state", ON_OFF, default=None, needed=True)


class DirtyRing(Element, tag="dirty-ring"):
    """KVM's ring of dirty pages."""

    state: bool = attr("state", ON_OFF)
    size: int | None = attr("size", ANY_BASE32, default=None)


class Kvm(Element, tag="kvm", empty=Empty.OPEN, unknown=unsupported("unsupported KVM feature: {}")):
    """KVM's own features."""

    hidden: bool | None = value("hidden", "state", ON_OFF, default=None, needed=True)
    hint_dedicated: bool | None = value("hint-dedicated", "state", ON_OFF, default=None, needed=True)
    poll_control: bool | None = value("poll-control", "state", ON_OFF, default=None, needed=True)
    pv_ipi: bool | None = value("pv-ipi", "state", ON_OFF, default=None, needed=True)
    dirty_ring: DirtyRing | None = child(DirtyRing, default=None)


class XenPassthrough(Element, tag="passthrough"):
    """PCI passthrough of Xen."""

    state: bool = attr("state", ON_OFF)
    mode: str | None = attr("mode", words("sync_pt", "share_pt"), default=None)


class XenFeatures(Element, tag="xen", empty=Empty.OPEN, unknown=unsupported("unsupported Xen feature: {}")):
    """Xen's own features."""

    e820_host: bool | None = value("e820_host", "state", ON_OFF, default=None, needed=True)
    passthrough: XenPassthrough | None = child(XenPassthrough, default=None)


class ContainerCapabilities(Element, tag="capabilities"):
    """The capabilities of a container's processes, in the kernel's words."""

    policy: str | None = attr("policy", words("default", "allow", "deny"), default=None)
    audit_control: bool | None = value("audit_control", "state", ON_OFF, default=None, bare=True)
    audit_write: bool | None = value("audit_write", "state", ON_OFF, default=None, bare=True)
    block_suspend: bool | None = value("block_suspend", "state", ON_OFF, default=None, bare=True)
    chown: bool | None = value("chown", "state", ON_OFF, default=None, bare=True)
    dac_override: bool | None = value("dac_override", "state", ON_OFF, default=None, bare=True)
    dac_read_search: bool | None = value("dac_read_search", "state", ON_OFF, default=None, bare=True)
    fowner: bool | None = value("fowner", "state", ON_OFF, default=None, bare=True)
    fsetid: bool | None = value("fsetid", "state", ON_OFF, default=None, bare=True)
    ipc_lock: bool | None = value("ipc_lock", "state", ON_OFF, default=None, bare=True)
    ipc_owner: bool | None = value("ipc_owner", "state", ON_OFF, default=None, bare=True)
    kill: bool | None = value("kill", "state", ON_OFF, default=None, bare=True)
    lease: bool | None = value("lease", "state", ON_OFF, default=None, bare=True)
    linux_immutable: bool | None = value("linux_immutable", "state", ON_OFF, default=None, bare=True)
    mac_admin: bool | None = value("mac_admin", "state", ON_OFF, default=None, bare=True)
    mac_override: bool | None = value("mac_override", "state", ON_OFF, default=None, bare=True)
    mknod: bool | None = value("mknod", "state", ON_OFF, default=None, bare=True)
    net_admin: bool | None = value("net_admin", "state", ON_OFF, default=None, bare=True)
    net_bind_service: bool | None = value("net_bind_service", "state", ON_OFF, default=None, bare=True)
    net_broadcast: bool | None = value("net_broadcast", "state", ON_OFF, default=None, bare=True)
    net_raw: bool | None = value("net_raw", "state", ON_OFF, default=None, bare=True)
    setgid: bool | None = value("setgid", "state", ON_OFF, default=None, bare=True)
    setfcap: bool | None = value("setfcap", "state", ON_OFF, default=None, bare=True)
    setpcap: bool | None = value("setpcap", "state", ON_OFF, default=None, bare=True)
    setuid: bool | None = value("setuid", "state", ON_OFF, default=None, bare=True)
    sys_admin: bool | None = value("sys_admin", "state", ON_OFF, default=None, bare=True)
    sys_boot: bool | None = value("sys_boot", "state", ON_OFF, default=None, bare=True)
    sys_chroot: bool | None = value("sys_chroot", "state", ON_OFF, default=None, bare=True)
    sys_module: bool | None = value("sys_module", "state", ON_OFF, default=None, bare=True)
    sys_nice: bool | None = value("sys_nice", "state", ON_OFF, default=None, bare=True)
    sys_pacct: bool | None = value("sys_pacct", "state", ON_OFF, default=None, bare=True)
    sys_ptrace: bool | None = value("sys_ptrace", "state", ON_OFF, default=None, bare=True)
    sys_rawio: bool | None = value("sys_rawio", "state", ON_OFF, default=None, bare=True)
    sys_resource: bool | None = value("sys_resource", "state", ON_OFF, default=None, bare=True)
    sys_time: bool | None = value("sys_time", "state", ON_OFF, default=None, bare=True)
    sys_tty_config: bool | None = value("sys_tty_config", "state", ON_OFF, default=None, bare=True)
    syslog: bool | None = value("syslog", "state", ON_OFF, default=None, bare=True)
    wake_alarm: bool | None = value("wake_alarm", "state", ON_OFF, default=None, bare=True)


class StateFeature(Element):
    """A feature that is on, off, or on by being named."""

    state: bool | None = attr("state", ON_OFF, default=None)


class PvSpinlock(StateFeature, tag="pvspinlock"):
    """Spinlocks known to the hypervisor."""


class VmCoreInfo(StateFeature, tag="vmcoreinfo"):
    """Where the guest's kernel leaves what a dump needs."""


class Pmu(StateFeature, tag="pmu"):
    """Performance counters."""


class Gic(Element, tag="gic"):
    """The interrupt controller of ARM."""

    version: str | None = attr("version", words("2", "3", "host"), default=None)


class Tseg(Element, tag="tseg"):
    """The size of SMM memory; written in the unit it was given in."""

    unit: str | None = attr("unit", str, default=None)
    value: int | None = content(
        ULONG, default=None, bad=malformed("Invalid value '{}' for element or attribute 'string(./features/smm/tseg)'")
    )


class Smm(Element, tag="smm"):
    """System management mode."""

    state: bool | None = attr("state", ON_OFF, default=None)
    tseg: Tseg | None = child(Tseg, default=None)


class Hpt(Element, tag="hpt"):
    """The hashed page table of pSeries."""

    resizing: str | None = attr("resizing", words("enabled", "disabled", "required"), default=None)
    maxpagesize_kib: int | None = size(
        "maxpagesize", default=None, bad=unsupported("Unable to parse HPT maxpagesize setting")
    )


class TcgFeatures(Element, tag="tcg"):
    """Options of QEMU's translator."""

    tb_cache_kib: int | None = size("tb-cache", default=None, at="./tb-cache")


class Features(Element, tag="features", empty=Empty.OMIT, unknown=unsupported("unexpected feature '{}'")):
    """What the hypervisor offers beside devices."""

    acpi: bool = flag("acpi", default=False)
    apic: Apic | None = child(Apic, default=None)
    pae: bool = flag("pae", default=False)
    hap: Hap | None = child(Hap, default=None)
    viridian: bool = flag("viridian", default=False)
    privnet: bool = flag("privnet", default=False)
    hyperv: Hyperv | None = child(Hyperv, default=None)
    kvm: Kvm | None = child(Kvm, default=None)
    pvspinlock: PvSpinlock | None = child(PvSpinlock, default=None)
    capabilities: ContainerCapabilities | None = child(ContainerCapabilities, default=None)
    pmu: Pmu | None = child(Pmu, default=None)
    vmport: bool | None = value("vmport", "state", ON_OFF, default=None, bare=True)
    gic: Gic | None = child(Gic, default=None)
    smm: Smm | None = child(Smm, default=None)
    ioapic: str | None = value("ioapic", "driver", words("kvm", "qemu"), default=None)
    hpt: Hpt | None = child(Hpt, default=None)
    vmcoreinfo: VmCoreInfo | None = child(VmCoreInfo, default=None)
    htm: bool | None = value("htm", "state", ON_OFF, default=None, needed=True)
    nested_hv: bool | None = value("nested-hv", "state", ON_OFF, default=None, needed=True)
    msrs_unknown: str | None = value("msrs", "unknown", words("ignore", "fault"), default=None, needed=True)
    ccf_assist: bool | None = value("ccf-assist", "state", ON_OFF, default=None, needed=True)
    xen: XenFeatures | None = child(XenFeatures, default=None)
    cfpc: str | None = value("cfpc", "value", words("broken", "workaround", "fixed"), default=None)
    sbbc: str | None = value("sbbc", "value", words("broken", "workaround", "fixed"), default=None)
    ibs: str | None = value(
        "ibs", "value", words("broken", "workaround", "fixed-ibs", "fixed-ccd", "fixed-na"), default=None
    )
    tcg: TcgFeatures | None = child(TcgFeatures, default=None)
