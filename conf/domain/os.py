"""How a guest boots: `<os>`."""

from enum import StrEnum

from conf.domain.storage_source import SOURCES, SourceType, StorageSource
from conf.element import Element, Empty, attr, child, children, content, one_of, text, texts, value
from conf.faults import lacking, malformed, unsupported
from conf.values import INT32, ONLY_YES, UINT, YES_NO, words
from schema.errors import XmlError

ARCHITECTURES = frozenset(
    (
        "alpha", "armv6l", "armv7l", "armv7b", "aarch64", "cris", "i686", "ia64", "lm32",
        "m68k", "microblaze", "microblazeel", "mips", "mipsel", "mips64", "mips64el", "openrisc", "parisc",
        "parisc64", "ppc", "ppcle", "ppc64", "ppc64le", "ppcemb", "riscv32", "riscv64", "s390", "s390x",
        "sh4", "sh4eb", "sparc", "sparc64", "unicore32", "x86_64", "xtensa", "xtensaeb",
    )
)  # fmt: skip
"""The architectures of guests."""


class OsType(StrEnum):
    """What the guest is to the hypervisor."""

    HVM = "hvm"
    XEN = "xen"
    LINUX = "linux"
    EXE = "exe"
    UML = "uml"
    XENPVH = "xenpvh"


class OsKind(Element, tag="type"):
    """Type, architecture and machine."""

    arch: str | None = attr("arch", str, default=None, blank=True)
    machine: str | None = attr("machine", str, default=None, blank=True)
    type: str | None = content(str, default=None)


class FirmwareFeature(Element, tag="feature"):
    """A feature the chosen firmware must have, or not."""

    enabled: bool = attr("enabled", YES_NO)
    name: str = attr("name", words("enrolled-keys", "secure-boot"))


class Firmware(Element, tag="firmware", empty=Empty.OMIT):
    """What the firmware chosen for `<os firmware=...>` must be like."""

    features: list[FirmwareFeature] = children(FirmwareFeature, default=[])


class LoaderType(StrEnum):
    """How the firmware image is mapped."""

    ROM = "rom"
    PFLASH = "pflash"


class Loader(Element, tag="loader", empty=Empty.OMIT):
    """The firmware image."""

    readonly: bool | None = attr("readonly", YES_NO, default=None)
    secure: bool | None = attr("secure", YES_NO, default=None)
    type: LoaderType | None = attr("type", LoaderType, default=None)
    stateless: bool | None = attr("stateless", YES_NO, default=None)
    path: str | None = content(str, default=None)


class NvramStore(Element, tag="nvram", empty=Empty.OMIT):
    """The firmware's variables: a path as text, or a typed source."""

    template: str | None = attr("template", str, default=None)
    type: SourceType | None = attr("type", SourceType, default=None)
    path: str | None = content(str, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)


class AcpiTable(Element, tag="table"):
    """An extra ACPI table."""

    type: str = attr(
        "type",
        words("slic"),
        missing=lacking(XmlError, "Missing acpi table type"),
        bad=malformed("Unknown acpi table type: {}"),
    )
    path: str | None = content(str, default=None)


class BootDevice(StrEnum):
    """What the firmware tries."""

    FLOPPY = "fd"
    CDROM = "cdrom"
    DISK = "hd"
    NETWORK = "network"


class Boot(Element, tag="boot"):
    """One try of the firmware."""

    dev: BootDevice = attr("dev", BootDevice)


class BootMenu(Element, tag="bootmenu", empty=Empty.OMIT):
    """Does the firmware ask the user?"""

    enable: bool | None = attr("enable", YES_NO, default=None)
    timeout_ms: int | None = attr("timeout", UINT, default=None)


class Bios(Element, tag="bios", empty=Empty.OMIT):
    """Options of the BIOS."""

    useserial: bool | None = attr("useserial", ONLY_YES, default=None)
    reboot_timeout_ms: int | None = attr("rebootTimeout", INT32, default=None)


class InitEnv(Element, tag="initenv"):
    """A variable of a container's init."""

    name: str | None = attr("name", str, default=None)
    value: str | None = content(str, default=None)


class Os(Element, tag="os"):
    """How a guest boots."""

    firmware: str | None = attr(
        "firmware", words("bios", "efi"), default=None, bad=malformed("unknown firmware value {}"), blank=True
    )
    kind: OsKind = child(OsKind, default_factory=OsKind)
    firmware_features: Firmware | None = child(Firmware, default=None)
    init: str | None = text("init", str, default=None)
    initargs: list[str] = texts("initarg", str, default=[])
    initenvs: list[InitEnv] = children(InitEnv, default=[])
    initdir: str | None = text("initdir", str, default=None)
    inituser: str | None = text("inituser", str, default=None)
    initgroup: str | None = text("initgroup", str, default=None)
    loader: Loader | None = child(Loader, default=None)
    nvram: NvramStore | None = child(NvramStore, default=None)
    kernel: str | None = text("kernel", str, default=None)
    initrd: str | None = text("initrd", str, default=None)
    cmdline: str | None = text("cmdline", str, default=None)
    dtb: str | None = text("dtb", str, default=None)
    root: str | None = text("root", str, default=None)
    acpi_tables: list[AcpiTable] = children(AcpiTable, within="acpi", default=[])
    boots: list[Boot] = children(Boot, default=[])
    bootmenu: BootMenu | None = child(BootMenu, default=None)
    bios: Bios | None = child(Bios, default=None)
    smbios_mode: str | None = value(
        "smbios",
        "mode",
        words("emulate", "host", "sysinfo"),
        default=None,
        bad=unsupported("unknown smbios mode '{}'"),
    )
