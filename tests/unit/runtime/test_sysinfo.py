"""What firmware and kernels say of the host's hardware."""

from __future__ import annotations

from pathlib import Path

from actors.runtime.host_facts.reading import read_sysinfo
from actors.runtime.host_facts.sysinfo import (
    sysinfo_from_arm,
    sysinfo_from_dmidecode,
    sysinfo_from_ppc,
    sysinfo_from_s390,
)

LISTING = """\
BIOS Information
\tVendor: Maker
\tRelease Date: 01/02/2003

System Information
\tProduct Name: Thing
\tSerial Number: 1 2

Processor Information
\tSocket Designation: CPU 1
\tMax Speed: 3000 MHz

Memory Device
\tSize: No Module Installed
\tLocator: DIMM 1

Memory Device
\tSize: 16 GB
\tLocator: DIMM 2

OEM Strings
\tString 1: one
\tString 2: <two>

"""


def test_a_listing_of_dmidecode_becomes_tables() -> None:
    info = sysinfo_from_dmidecode(LISTING)
    assert info.bios is not None
    assert info.bios.get("vendor") == "Maker"
    assert info.system is not None
    assert info.system.get("serial") == "1 2"
    assert [one.get("socket_destination") for one in info.processors] == ["CPU 1"]
    assert [one.get("locator") for one in info.memory_devices] == ["DIMM 2"]
    assert "<entry>&lt;two&gt;</entry>" in info.to_xml()
    assert info.base_boards == []
    assert sysinfo_from_dmidecode("").to_xml() == "<sysinfo type='smbios'/>\n"


def test_kernels_tell_of_processors_in_their_own_way() -> None:
    arm = sysinfo_from_arm("processor\t: 0\nmodel name\t: ARMv7\nprocessor\t: 1\nmodel name\t: ARMv7\n")
    assert [one.get("socket_destination") for one in arm.processors] == ["0", "1"]
    assert {one.get("type") for one in arm.processors} == {"ARMv7"}
    ppc = sysinfo_from_ppc("processor\t: 4\ncpu\t\t: POWER7\nrevision\t: 2.3\n\nplatform\t: PowerNV\n")
    assert [one.get("version") for one in ppc.processors] == ["2.3"]
    assert ppc.system is not None
    assert ppc.system.get("family") == "PowerNV"


def test_a_mainframe_has_two_places_to_look() -> None:
    info = sysinfo_from_s390(
        "Manufacturer:         IBM\nType:                 2964\nSequence Code:        0000\n",
        "vendor_id       : IBM/S390\nprocessor 0: version = FF,  identification = 07,  machine = 2964\n"
        "cpu number      : 0\ncpu MHz dynamic : 5000\n",
    )
    assert info.system is not None
    assert info.system.get("family") == "2964"
    assert [entry.value for entry in info.processors[0].entries] == ["2964", "IBM/S390", "FF", "5000", "07"]


async def test_the_host_is_asked_by_its_own_tool(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n", encoding="utf-8")
    tool.chmod(0o755)
    info = await read_sysinfo((str(tool),), "x86_64")
    assert info is not None
    assert info.bios is not None
    tool.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert await read_sysinfo((str(tool),), "x86_64") is None
    assert await read_sysinfo((str(tmp_path / "none"),), "x86_64") is None
    assert await read_sysinfo((str(tmp_path / "none"),), "aarch64") is not None
