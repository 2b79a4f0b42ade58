"""QEMU's machines: which is which, and what each always has."""

from __future__ import annotations

from dataclasses import dataclass

from actors.qemu.capabilities.model import Capabilities
from conf.cpu.cpu import CpuFeature, FeaturePolicy, GuestCpu
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.defaults_controller import ensure_controller, has_controller
from conf.domain.domain import Domain, VirtType
from conf.domain.graphics import GraphicsType
from conf.domain.small_devices import Input, InputBus, InputType, MemBalloon, Panic, PanicModel
from conf.domain.sound import Audio, AudioType
from schema.errors import ConfigUnsupported, XmlError
from util.cpuset import parse_cpuset, write_cpuset

X86 = ("i686", "x86_64")
ARM = ("armv6l", "armv7l", "aarch64")
RISCV = ("riscv32", "riscv64")
PPC64 = ("ppc64", "ppc64le")
MIPS = ("mips", "mipsel", "mips64", "mips64el")
S390 = ("s390", "s390x")


def arch_of(domain: Domain) -> str:
    """The guest's architecture."""
    return domain.os.kind.arch or ""


def machine_of(domain: Domain) -> str:
    """The guest's machine."""
    return domain.os.kind.machine or ""


def is_x86(domain: Domain) -> bool:
    """Is the guest a PC?"""
    return arch_of(domain) in X86


def is_s390(domain: Domain) -> bool:
    """Is the guest a mainframe?"""
    return arch_of(domain) in S390


def _is(machine: str, name: str) -> bool:
    return machine == name or machine.startswith(f"{name}-")


def is_q35(domain: Domain) -> bool:
    """Does the machine have PCI Express as PCs have it?"""
    machine = machine_of(domain)
    return is_x86(domain) and (machine == "q35" or machine.startswith("pc-q35"))


def is_i440fx(domain: Domain) -> bool:
    """Is the machine the old PC?"""
    machine = machine_of(domain)
    if not is_x86(domain):
        return False
    return machine == "pc" or machine.startswith(("pc-0.", "pc-1.", "pc-i440", "rhel"))


def is_arm_virt(domain: Domain) -> bool:
    """Is the machine the paravirtual ARM one?"""
    return arch_of(domain) in ARM and _is(machine_of(domain), "virt")


def is_riscv_virt(domain: Domain) -> bool:
    """Is the machine the paravirtual RISC-V one?"""
    return arch_of(domain) in RISCV and _is(machine_of(domain), "virt")


def is_pseries(domain: Domain) -> bool:
    """Is the machine a POWER server?"""
    return arch_of(domain) in PPC64 and _is(machine_of(domain), "pseries")


def is_old_s390(domain: Domain) -> bool:
    """Is the machine from before QEMU knew models of mainframe processors?"""
    version = machine_of(domain).removeprefix("s390-ccw-virtio-").split(".")
    return [int(part) for part in version if part.isdecimal()] < [2, 8] and len(version) > 1


def complete_nodes(domain: Domain) -> None:
    """Gives the first NUMA node the processors that no node has."""
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    if not cells:
        return
    taken = frozenset().union(*(parse_cpuset(cell.cpus) for cell in cells if cell.cpus))
    missing = frozenset(range(domain.vcpu.count)) - taken
    if missing:
        first = parse_cpuset(cells[0].cpus) if cells[0].cpus else frozenset()
        cells[0].cpus = write_cpuset(first | missing)


def has_builtin_ide(domain: Domain) -> bool:
    """Does the machine have IDE by itself?"""
    return is_i440fx(domain) or machine_of(domain) in ("malta", "sun4u", "g3beige")


def has_numbered_pci(domain: Domain) -> bool:
    """Is the first PCI bus `pci.0`, as on machines that may have more than one?"""
    if is_x86(domain) or is_s390(domain) or is_pseries(domain) or is_arm_virt(domain) or is_riscv_virt(domain):
        return True
    return arch_of(domain) in ("ppc", *PPC64)


def builtin_alias(domain: Domain, controller: Controller) -> str | None:
    """QEMU's own name of a controller that the machine has by itself."""
    if controller.index != 0:
        return None
    if controller.type is ControllerType.IDE and has_builtin_ide(domain):
        return "ide"
    if controller.type is ControllerType.SATA and is_q35(domain):
        return "ide"
    if controller.type is ControllerType.SCSI and controller.model == "ncr53c90":
        return "scsi"
    is_root = controller.type is ControllerType.PCI and controller.model == PciModel.PCI_ROOT
    if is_root and not has_numbered_pci(domain):
        return "pci"
    return None


def cpu_model_name(capabilities: Capabilities, virt: str, typename: str) -> str | None:
    """The model that QEMU's type name (`qemu64-x86_64-cpu`) stands for; None where QEMU lists no models."""
    models = capabilities.cpu_models(virt)
    for model in models:
        if model.typename == typename:
            return model.name
    if not models:
        return None
    for tail in ("-x86_64-cpu", "-i386-cpu", "-powerpc64-cpu", "-s390x-cpu", "-arm-cpu", "-riscv-cpu", "-cpu"):
        if typename.endswith(tail):
            return typename[: -len(tail)]
    return typename


def add_default_devices(domain: Domain, capabilities: Capabilities) -> None:
    """Adds the controllers, balloon, input devices and audio backend that the machine has in any case.

    Raises XmlError when the definition has another root bus than the machine.
    """
    devices = domain.devices
    usb: str | None = None
    wants_usb = False
    balloon = False
    root: PciModel | None = None
    arch = arch_of(domain)
    if is_x86(domain):
        balloon = True
        if is_q35(domain):
            root = PciModel.PCIE_ROOT
            usb = _q35_usb(capabilities)
            wants_usb = usb is not None
            if not has_controller(domain, ControllerType.USB, 0) and wants_usb:
                add_usb_controller(domain, usb)
            ensure_controller(domain, ControllerType.SATA, 0)
            wants_usb = False
        elif machine_of(domain) != "isapc":
            wants_usb = True
            if is_i440fx(domain):
                root = PciModel.PCI_ROOT
    elif arch in ARM or arch in RISCV:
        balloon = arch in RISCV
        if arch == "armv6l" and machine_of(domain) == "versatilepb":
            root = PciModel.PCI_ROOT
        if (is_arm_virt(domain) or is_riscv_virt(domain)) and capabilities.has("gpex-pcihost"):
            root = PciModel.PCIE_ROOT
    elif arch in PPC64 or arch == "ppc":
        wants_usb = balloon = True
        root = PciModel.PCI_ROOT
    elif arch in S390:
        balloon = True
        if capabilities.has("zpci"):
            root = PciModel.PCI_ROOT
    elif arch == "sparc":
        pass
    else:
        wants_usb = balloon = True
        has_root = arch in ("alpha", "sh4", "sh4eb", "sparc64") or (arch in MIPS and machine_of(domain) == "malta")
        root = PciModel.PCI_ROOT if has_root else None
    if wants_usb and not has_controller(domain, ControllerType.USB, 0):
        add_usb_controller(domain, usb)
    if root is not None:
        _ensure_root(domain, root)
    if balloon and devices.memballoon is None:
        devices.memballoon = MemBalloon(model="xen" if domain.type is VirtType.XEN else "virtio")
    _add_inputs(domain)
    _add_panic(domain)


def _q35_usb(capabilities: Capabilities) -> str | None:
    for device, model in (("qemu-xhci", "qemu-xhci"), ("nec-usb-xhci", "nec-xhci"), ("ich9-usb-ehci1", "ich9-ehci1")):
        if capabilities.has(device):
            return model
    return None


def add_usb_controller(domain: Domain, model: str | None) -> None:
    """Adds the first USB controller, with the companions that USB 1 devices need beside ICH9's."""
    domain.devices.controllers.append(Controller(type=ControllerType.USB, index=0, model=model))
    if model == "ich9-ehci1":
        for number in range(3):
            companion = Controller(
                type=ControllerType.USB, index=0, model=f"ich9-uhci{number + 1}", master_startport=2 * number
            )
            domain.devices.controllers.append(companion)


def _ensure_root(domain: Domain, model: PciModel) -> None:
    for controller in domain.devices.controllers:
        if controller.type is ControllerType.PCI and controller.index == 0:
            if controller.model != model:
                raise XmlError(
                    f"The PCI controller with index='0' must be model='{model.value}' for this machine type, "
                    f"but model='{controller.model or '(null)'}' was found instead"
                )
            return
    domain.devices.controllers.append(Controller(type=ControllerType.PCI, index=0, model=model.value))


def _add_inputs(domain: Domain) -> None:
    inputs = domain.devices.inputs
    if is_x86(domain):
        bus, kinds = InputBus.PS2, (InputType.MOUSE, InputType.KEYBOARD)
    elif arch_of(domain) in PPC64 and domain.devices.graphics:
        bus, kinds = InputBus.USB, (InputType.KEYBOARD, InputType.MOUSE)
    else:
        return
    for kind in kinds:
        alike = (kind, InputType.TABLET) if kind is InputType.MOUSE and bus is InputBus.USB else (kind,)
        if not any(one.type in alike and one.bus in (bus, None) for one in inputs):
            inputs.append(Input(type=kind, bus=bus))


def _add_panic(domain: Domain) -> None:
    if is_pseries(domain):
        model = PanicModel.PSERIES
    elif is_s390(domain):
        model = PanicModel.S390
    else:
        return
    if not any(one.model in (model, PanicModel.DEFAULT, None) for one in domain.devices.panics):
        domain.devices.panics.append(Panic(model=model))


@dataclass(frozen=True, slots=True)
class HostAudio:
    """Where the host plays sound when the definition does not say: its backend, and whether guests without a display,
    or with VNC, may use it.
    """

    backend: str | None = None
    sdl_driver: str | None = None
    without_display: bool = False
    with_vnc: bool = False


NO_HOST_AUDIO = HostAudio()


def add_audio(domain: Domain, host: HostAudio) -> None:
    """Adds the audio backend that goes with the guest's display.

    Raises ConfigUnsupported when the host names a backend that there is not.
    """
    devices = domain.devices
    if devices.audios:
        return
    wanted: AudioType | None = None
    of_host = False
    for graphics in devices.graphics:
        match graphics.type:
            case GraphicsType.SPICE:
                of_host, wanted = False, AudioType.SPICE
            case GraphicsType.VNC:
                of_host, wanted = host.with_vnc, AudioType.NONE
            case GraphicsType.SDL:
                of_host = True
            case _:
                pass
    if not devices.graphics:
        of_host, wanted = host.without_display, AudioType.NONE
    if of_host:
        if host.backend is None:
            return
        try:
            wanted = AudioType(_BACKENDS.get(host.backend, host.backend))
        except ValueError:
            raise ConfigUnsupported(f"unknown QEMU_AUDIO_DRV setting {host.backend}") from None
    if wanted is not None:
        driver = host.sdl_driver if wanted is AudioType.SDL else None
        devices.audios.append(Audio(id=1, type=wanted, driver=_SDL_DRIVERS.get(driver or "", driver)))


_BACKENDS = {"pa": "pulseaudio", "wav": "file"}
_SDL_DRIVERS = {"pulse": "pulseaudio"}
"""Names that QEMU and SDL have for what libvirt calls otherwise."""


def complete_vectors(cpu: GuestCpu) -> None:
    """On ARM, vector lengths need vectors.

    Raises ConfigUnsupported when the definition has lengths but no vectors.
    """
    vectors = next((one for one in cpu.features if one.name == "sve"), None)
    if not any(one.name.startswith("sve") and one is not vectors for one in cpu.features):
        return
    if vectors is None:
        cpu.features.append(CpuFeature(name="sve", policy=FeaturePolicy.REQUIRE))
    elif vectors.policy in (FeaturePolicy.DISABLE, FeaturePolicy.FORBID):
        raise ConfigUnsupported("SVE disabled, but SVE vector lengths provided")
