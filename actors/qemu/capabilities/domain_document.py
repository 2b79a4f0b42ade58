"""The domain capabilities document: what a guest on one emulator and machine can have.

It tells what this driver starts, not all that the emulator could: clients take the answer as a promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.command.launch import is_i440fx, is_q35, is_x86
from actors.qemu.firmware import Descriptor
from conf.text import escape

_LOADERS: Final = (
    "/usr/share/AAVMF/AAVMF_CODE.fd",
    "/usr/share/AAVMF/AAVMF32_CODE.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
)
_VIRTIO: Final = ("virtio", "virtio-transitional", "virtio-non-transitional")


def write_domain_capabilities(caps: Capabilities, machine: Machine, virt: str, firmwares: Sequence[Descriptor]) -> str:
    """The document for one emulator, machine and type of virtualization."""
    out = ["<domainCapabilities>\n"]
    out.append(f"  <path>{escape(caps.emulator)}</path>\n  <domain>{virt}</domain>\n")
    out.append(f"  <machine>{escape(machine.name)}</machine>\n  <arch>{caps.arch}</arch>\n")
    out.append(f"  <vcpu max='{machine.max_cpus}'/>\n  <iothreads supported='yes'/>\n")
    _write_os(out, caps, machine, firmwares)
    _write_cpu(out, caps, virt)
    out.append("  <memoryBacking supported='yes'>\n")
    sources = ["file", "anonymous"] + (["memfd"] if caps.has("memory-backend-memfd") else [])
    _write_enum(out, "    ", "sourceType", sources)
    out.append("  </memoryBacking>\n  <devices>\n")
    for name, enums in _devices(caps, machine):
        out.append(f"    <{name} supported='yes'>\n")
        for enum, values in enums:
            _write_enum(out, "      ", enum, values)
        out.append(f"    </{name}>\n")
    out.append("  </devices>\n  <features>\n    <gic supported='no'/>\n")
    yes_no = {True: "yes", False: "no"}
    out.append(f"    <vmcoreinfo supported='{yes_no[caps.has('vmcoreinfo')]}'/>\n")
    out.append(f"    <genid supported='{yes_no[caps.has('vmgenid')]}'/>\n")
    out.append("    <backingStoreInput supported='yes'/>\n    <backup supported='no'/>\n")
    out.append("    <sev supported='no'/>\n    <sgx supported='no'/>\n  </features>\n</domainCapabilities>\n")
    return "".join(out)


def _write_enum(out: list[str], pad: str, name: str, values: Iterable[str]) -> None:
    values = list(values)
    if not values:
        out.append(f"{pad}<enum name='{name}'/>\n")
        return
    out.append(f"{pad}<enum name='{name}'>\n")
    out += [f"{pad}  <value>{escape(value)}</value>\n" for value in values]
    out.append(f"{pad}</enum>\n")


def _write_os(out: list[str], caps: Capabilities, machine: Machine, firmwares: Sequence[Descriptor]) -> None:
    words = {"bios": "bios", "uefi": "efi"}
    fitting = [one for one in firmwares if one.suits(caps.arch, machine.name)]
    kinds = {words[kind] for one in fitting for kind in one.interfaces if kind in words}
    out.append("  <os supported='yes'>\n")
    _write_enum(out, "    ", "firmware", [kind for kind in ("bios", "efi") if kind in kinds])
    out.append("    <loader supported='yes'>\n")
    out += [f"      <value>{path}</value>\n" for path in _LOADERS if Path(path).exists()]
    types = ["rom", "pflash"] if is_x86(caps.arch) or caps.arch in ("aarch64", "armv7l") else ["rom"]
    _write_enum(out, "      ", "type", types)
    _write_enum(out, "      ", "readonly", ["yes", "no"])
    secure = any("secure-boot" in one.features and "requires-smm" in one.features for one in fitting)
    _write_enum(out, "      ", "secure", ["yes", "no"] if secure and is_q35(machine.name) else ["no"])
    out.append("    </loader>\n  </os>\n")


def _write_cpu(out: list[str], caps: Capabilities, virt: str) -> None:
    out.append("  <cpu>\n")
    if virt == "kvm":
        out.append("    <mode name='host-passthrough' supported='yes'>\n")
        _write_enum(out, "      ", "hostPassthroughMigratable", ["on", "off"])
        out.append("    </mode>\n")
    else:
        out.append("    <mode name='host-passthrough' supported='no'/>\n")
    models = caps.cpu_models(virt)
    if any(model.name == "max" for model in models):
        out.append("    <mode name='maximum' supported='yes'>\n")
        _write_enum(out, "      ", "maximumMigratable", ["on", "off"])
        out.append("    </mode>\n")
    else:
        out.append("    <mode name='maximum' supported='no'/>\n")
    # finding the model that comes nearest to the host's processor needs a table that is not there yet
    out.append("    <mode name='host-model' supported='no'/>\n    <mode name='custom' supported='yes'>\n")
    for model in sorted(models, key=lambda one: one.name):
        if not model.is_plain:
            continue
        usable = "unknown" if model.missing is None else ("no" if model.missing else "yes")
        deprecated = " deprecated='yes'" if model.deprecated else ""
        vendor = vendor_of(model.name)
        out.append(f"      <model usable='{usable}'{deprecated} vendor='{vendor}'>{escape(model.name)}</model>\n")
    out.append("    </mode>\n  </cpu>\n")


_GENERIC: Final = ("486", "qemu32", "qemu64", "kvm32", "kvm64", "pentium", "pentium2", "pentium3", "pentiumpro")
_AMD: Final = ("EPYC", "Opteron", "athlon", "phenom")


def vendor_of(model: str) -> str:
    """Who makes a processor of that name, in libvirt's words."""
    if model.startswith("Dhyana"):
        return "Hygon"
    if model.startswith(_AMD):
        return "AMD"
    return "unknown" if model in _GENERIC else "Intel"


_Enums = list[tuple[str, list[str]]]


def _devices(caps: Capabilities, machine: Machine) -> Iterable[tuple[str, _Enums]]:
    x86 = is_x86(caps.arch)
    buses = []
    if is_i440fx(machine.name):
        buses.append("ide")
    if x86:
        buses.append("fdc")
    buses += ["scsi", "virtio"]
    if caps.has("usb-storage"):
        buses.append("usb")
    if caps.has("ich9-ahci"):
        buses.append("sata")
    devices = ["disk", "cdrom", "floppy", "lun"] if x86 else ["disk", "cdrom", "lun"]
    yield "disk", [("diskDevice", devices), ("bus", buses), ("model", list(_VIRTIO))]
    graphics = ["vnc"] if caps.has("vnc") else []
    if caps.has("spice"):
        graphics.append("spice")
    yield "graphics", [("type", graphics)]
    cards = {
        "vga": "VGA",
        "cirrus": "cirrus-vga",
        "vmvga": "vmware-svga",
        "qxl": "qxl",
        "virtio": "virtio-gpu",
        "bochs": "bochs-display",
        "ramfb": "ramfb",
    }
    models = [name for name in ("vga", "cirrus", "vmvga", "qxl", "virtio") if caps.has(cards[name])]
    models += ["none", *(name for name in ("bochs", "ramfb") if caps.has(cards[name]))]
    yield "video", [("modelType", models)]
    yield (
        "hostdev",
        [
            ("mode", ["subsystem"]),
            ("startupPolicy", ["default", "mandatory", "requisite", "optional"]),
            ("subsysType", ["usb", "scsi"]),
            ("capsType", []),
            ("pciBackend", []),
        ],
    )
    backends = [name for name in ("random", "egd", "builtin") if caps.has(f"rng-{name}")]
    yield "rng", [("model", list(_VIRTIO)), ("backendModel", backends)]
    yield "filesystem", [("driverType", ["path"])]
    tpms = [name for name in ("tpm-tis", "tpm-crb") if caps.has(name)]
    yield "tpm", [("model", tpms), ("backendModel", ["passthrough", "external"]), ("backendVersion", [])]
    yield "redirdev", [("bus", ["usb"] if caps.has("usb-redir") else [])]
    channels = ["pty", "unix"] + (["spicevmc"] if caps.has("spice") else [])
    yield "channel", [("type", channels)]
