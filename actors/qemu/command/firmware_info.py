"""What the firmware tells the guest about its hardware: `-smbios` and `-fw_cfg`."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.launch import Launch
from actors.qemu.command.line import CommandLine, comma_doubled
from conf.domain.sysinfo import Sysinfo, SysinfoBlock
from schema.errors import ConfigUnsupported, XmlError

_BIOS: Final = (("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release"))
_SYSTEM: Final = (
    ("manufacturer", "manufacturer"),
    ("product", "product"),
    ("version", "version"),
    ("serial", "serial"),
    ("uuid", "uuid"),
    ("sku", "sku"),
    ("family", "family"),
)
_BOARD: Final = (
    ("manufacturer", "manufacturer"),
    ("product", "product"),
    ("version", "version"),
    ("serial", "serial"),
    ("asset", "asset"),
    ("location", "location"),
)
_CHASSIS: Final = (
    ("manufacturer", "manufacturer"),
    ("version", "version"),
    ("serial", "serial"),
    ("asset", "asset"),
    ("sku", "sku"),
)


def add_sysinfo(launch: Launch, line: CommandLine) -> None:
    """The tables of a guest whose definition says what they hold. Raises XmlError, ConfigUnsupported."""
    if launch.domain.os.smbios_mode != "sysinfo":
        return
    info = next((one for one in launch.domain.sysinfos if one.type == "smbios"), None)
    if info is None:
        raise XmlError(f"Domain '{launch.domain.name}' sysinfo are not available")
    _add_smbios(line, info)


def add_fw_cfg(launch: Launch, line: CommandLine) -> None:
    """Blobs that the guest reads from its firmware."""
    for info in launch.domain.sysinfos:
        if info.type != "fwcfg":
            continue
        for entry in info.entries:
            if entry.value:
                line.add("-fw_cfg", f"name={entry.name},string={comma_doubled(entry.value)}")
            else:
                line.add("-fw_cfg", f"name={entry.name},file={comma_doubled(entry.file or '')}")


def _add_smbios(line: CommandLine, info: Sysinfo) -> None:
    if info.bios is not None:
        line.add("-smbios", f"type=0{_words(info.bios, _BIOS)}")
    if info.system is not None:
        line.add("-smbios", f"type=1{_words(info.system, _SYSTEM)}")
    if len(info.base_boards) > 1:
        raise ConfigUnsupported("qemu does not support more than one entry to Type 2 in SMBIOS table")
    for board in info.base_boards:
        line.add("-smbios", f"type=2{_words(board, _BOARD)}")
    if info.chassis is not None:
        line.add("-smbios", f"type=3{_words(info.chassis, _CHASSIS)}")
    if info.oem_strings is not None and info.oem_strings.entries:
        words = "".join(f",value={comma_doubled(entry.value or '')}" for entry in info.oem_strings.entries)
        line.add("-smbios", f"type=11{words}")


def _words(block: SysinfoBlock, names: tuple[tuple[str, str], ...]) -> str:
    found = ((word, block.get(name)) for name, word in names)
    return "".join(f",{word}={comma_doubled(value)}" for word, value in found if value)
