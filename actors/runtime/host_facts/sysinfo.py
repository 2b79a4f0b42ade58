"""What the firmware says of the host's hardware: the listing of dmidecode or the kernel's own, as `<sysinfo>`.

A value is the first of its name after the heading of its table, even when that stands in a later table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeVar

from conf.domain.sysinfo import (
    BaseBoard,
    BiosInfo,
    Chassis,
    MemoryDeviceInfo,
    OemStrings,
    ProcessorInfo,
    Sysinfo,
    SysinfoBlock,
    SysinfoEntry,
    SystemInfo,
)

B = TypeVar("B", bound=SysinfoBlock)

DMIDECODE: Final = ("dmidecode", "-q", "-t", "0,1,2,3,4,11,17")
"""The command whose output `sysinfo_from_dmidecode` reads."""

_BIOS: Final = {"vendor": "Vendor", "version": "Version", "date": "Release Date", "release": "BIOS Revision"}
_SYSTEM: Final = {
    "manufacturer": "Manufacturer",
    "product": "Product Name",
    "version": "Version",
    "serial": "Serial Number",
    "uuid": "UUID",
    "sku": "SKU Number",
    "family": "Family",
}
_BOARD: Final = {
    "manufacturer": "Manufacturer",
    "product": "Product Name",
    "version": "Version",
    "serial": "Serial Number",
    "asset": "Asset Tag",
    "location": "Location In Chassis",
}
_CHASSIS: Final = {
    "manufacturer": "Manufacturer",
    "version": "Version",
    "serial": "Serial Number",
    "asset": "Asset Tag",
    "sku": "SKU Number",
}
_PROCESSOR: Final = {
    "socket_destination": "Socket Designation",
    "type": "Type",
    "family": "Family",
    "manufacturer": "Manufacturer",
    "signature": "Signature",
    "version": "Version",
    "external_clock": "External Clock",
    "max_speed": "Max Speed",
    "status": "Status",
    "serial_number": "Serial Number",
    "part_number": "Part Number",
}
_MEMORY: Final = {
    "size": "Size",
    "form_factor": "Form Factor",
    "locator": "Locator",
    "bank_locator": "Bank Locator",
    "type": "Type",
    "type_detail": "Type Detail",
    "speed": "Speed",
    "manufacturer": "Manufacturer",
    "serial_number": "Serial Number",
    "part_number": "Part Number",
}
_NO_MODULE: Final = "No Module Installed"
_OEM: Final = re.compile(r"String \d+: *(.*)")


def sysinfo_from_dmidecode(listing: str) -> Sysinfo:
    """What dmidecode lists."""
    memory = _tables(MemoryDeviceInfo, listing, "Memory Device", _MEMORY)
    return Sysinfo(
        type="smbios",
        bios=_first(_tables(BiosInfo, listing, "BIOS Information", _BIOS)),
        system=_first(_tables(SystemInfo, listing, "System Information", _SYSTEM)),
        base_boards=_tables(BaseBoard, listing, "Base Board Information", _BOARD),
        chassis=_first(_tables(Chassis, listing, "Chassis Information", _CHASSIS)),
        processors=_tables(ProcessorInfo, listing, "Processor Information", _PROCESSOR),
        memory_devices=[one for one in memory if one.get("size") != _NO_MODULE],
        oem_strings=_oem_strings(listing),
    )


def sysinfo_from_arm(cpuinfo: str) -> Sysinfo:
    """What the kernel of an ARM host says where the firmware has no tables."""
    kind = _after(cpuinfo, "model name") if "model name" in cpuinfo else _after(cpuinfo, "Processor")
    numbers = _each(cpuinfo, "processor") if kind is not None else ()
    processors = [_block(ProcessorInfo, socket_destination=number, type=kind) for number in numbers]
    return Sysinfo(type="smbios", system=_platform(cpuinfo), processors=processors)


def sysinfo_from_ppc(cpuinfo: str) -> Sysinfo:
    """What the kernel of a POWER host says."""
    processors = []
    for place in _places(cpuinfo, "processor"):
        rest = cpuinfo[place:]
        processors.append(
            _block(
                ProcessorInfo,
                socket_destination=_after(rest, "processor"),
                type=_after(rest, "cpu"),
                version=_after(rest, "revision"),
            )
        )
    return Sysinfo(type="smbios", system=_platform(cpuinfo), processors=processors)


def sysinfo_from_s390(sysinfo: str, cpuinfo: str) -> Sysinfo:
    """What the kernel of a mainframe says in /proc/sysinfo and /proc/cpuinfo."""
    system = _block(
        SystemInfo,
        manufacturer=_after(sysinfo, "Manufacturer"),
        serial=_after(sysinfo, "Sequence Code"),
        family=_after(sysinfo, "Type"),
    )
    maker = _after(cpuinfo, "vendor_id")
    speeds = {}
    for place in _places(cpuinfo, "cpu number"):
        rest = cpuinfo[place:]
        speeds[_after(rest, "cpu number")] = _after(rest, "cpu MHz dynamic")
    processors = []
    for number, line in enumerate(_each(cpuinfo, "processor ")):
        facts = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in line.split(","))}
        processors.append(
            _block(
                ProcessorInfo,
                family=facts.get("machine"),
                manufacturer=maker,
                version=facts.get("version"),
                max_speed=speeds.get(str(number)),
                serial_number=facts.get("identification"),
            )
        )
    return Sysinfo(type="smbios", system=system if system.entries else None, processors=processors)


def _platform(cpuinfo: str) -> SystemInfo | None:
    place = cpuinfo.find("platform")
    if place < 0:
        return None
    rest = cpuinfo[place:]
    return _block(
        SystemInfo, version=_after(rest, "machine"), serial=_after(rest, "model"), family=_after(rest, "platform")
    )


def _block(cls: type[B], **values: str | None) -> B:
    return cls(entries=[SysinfoEntry(name=name, value=value) for name, value in values.items() if value is not None])


def _tables(cls: type[B], listing: str, heading: str, names: dict[str, str]) -> list[B]:
    """A block for every heading that has anything to tell."""
    blocks = []
    for place in _places(listing, heading):
        rest = listing[place:]
        block = _block(cls, **{name: _value(rest, word) for name, word in names.items()})
        if block.entries:
            blocks.append(block)
    return blocks


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + len(word))


def _value(text: str, name: str) -> str | None:
    """What stands in the rest of the line after a name, a colon and a blank."""
    mark = f"{name}: "
    place = text.find(mark)
    if place < 0:
        return None
    line, end, _ = text[place + len(mark) :].partition("\n")
    return line.strip() if end else None


def _after(text: str, word: str) -> str | None:
    """What stands after the colon of the first line that has the word."""
    return next(_each(text, word), None)


def _each(text: str, word: str) -> Iterator[str]:
    for place in _places(text, word):
        line, end, _ = text[place:].partition("\n")
        _, colon, value = line.partition(":")
        if end and colon:
            yield value.strip()


def _oem_strings(listing: str) -> OemStrings | None:
    place = listing.find("OEM Strings")
    if place < 0:
        return None
    table = listing[place:].split("\n\n", 1)[0]
    entries = [SysinfoEntry(value=match[1].strip()) for match in _OEM.finditer(table)]
    return OemStrings(entries=entries) if entries else None


def _first(blocks: list[B]) -> B | None:
    return blocks[0] if blocks else None
