"""What the firmware tells the guest about its hardware: `<sysinfo>`."""

from conf.element import Element, Empty, attr, child, children, content
from conf.values import words


class SysinfoEntry(Element, tag="entry"):
    """One string: by SMBIOS name, or for fw_cfg a value or the file that holds it."""

    name: str | None = attr("name", str, default=None)
    file: str | None = attr("file", str, default=None)
    value: str | None = content(str, default=None)


class SysinfoBlock(Element, empty=Empty.OMIT):
    """A table of strings."""

    entries: list[SysinfoEntry] = children(SysinfoEntry, default=[])

    def get(self, name: str) -> str | None:
        """The string of that name."""
        return next((one.value for one in self.entries if one.name == name), None)


class BiosInfo(SysinfoBlock, tag="bios", empty=Empty.OMIT):
    """The BIOS."""


class SystemInfo(SysinfoBlock, tag="system", empty=Empty.OMIT):
    """The system."""


class BaseBoard(SysinfoBlock, tag="baseBoard", empty=Empty.OMIT):
    """A board."""


class Chassis(SysinfoBlock, tag="chassis", empty=Empty.OMIT):
    """The case."""


class ProcessorInfo(SysinfoBlock, tag="processor", empty=Empty.OMIT):
    """A processor of the host."""


class MemoryDeviceInfo(SysinfoBlock, tag="memory_device", empty=Empty.OMIT):
    """A memory module of the host."""


class OemStrings(SysinfoBlock, tag="oemStrings", empty=Empty.OMIT):
    """The vendor's own strings."""


class Sysinfo(Element, tag="sysinfo"):
    """What the firmware tells the guest; `fwcfg` entries stand in the element itself."""

    type: str = attr("type", words("smbios", "fwcfg"))
    bios: BiosInfo | None = child(BiosInfo, default=None)
    system: SystemInfo | None = child(SystemInfo, default=None)
    base_boards: list[BaseBoard] = children(BaseBoard, default=[])
    chassis: Chassis | None = child(Chassis, default=None)
    processors: list[ProcessorInfo] = children(ProcessorInfo, default=[])
    memory_devices: list[MemoryDeviceInfo] = children(MemoryDeviceInfo, default=[])
    oem_strings: OemStrings | None = child(OemStrings, default=None)
    entries: list[SysinfoEntry] = children(SysinfoEntry, default=[])
