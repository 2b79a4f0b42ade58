"""Which firmware descriptors count, in which order, and what they offer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.firmware import (
    descriptor_files,
    load_descriptors,
    parse_descriptor,
    supported_firmware,
    template_of,
    write_descriptor,
)

FLASH: dict[str, Any] = {
    "description": "for people",
    "interface-types": ["uefi"],
    "mapping": {
        "device": "flash",
        "executable": {"filename": "/code.fd", "format": "raw"},
        "nvram-template": {"filename": "/vars.fd", "format": "raw"},
    },
    "targets": [{"architecture": "i386", "machines": ["pc-q35-*"]}],
    "features": ["requires-smm", "secure-boot"],
    "tags": [],
}
BIOS: dict[str, Any] = {
    "interface-types": ["bios"],
    "mapping": {"device": "memory", "filename": "/bios.bin"},
    "targets": [{"architecture": "x86_64", "machines": ["pc-*"]}],
    "features": [],
}


def test_a_later_folder_replaces_and_an_empty_file_takes_away(tmp_path: Path) -> None:
    first, second = tmp_path / "usr", tmp_path / "etc"
    for folder in (first, second):
        folder.mkdir()
    for name in ("10-a.json", "20-b.json", "30-c.json"):
        (first / name).write_text(json.dumps(BIOS))
    (second / "20-b.json").write_text(json.dumps(FLASH))
    (second / "30-c.json").write_bytes(b"")
    (second / "05-d.json").write_text("no json")
    assert descriptor_files((first, second, tmp_path / "absent")) == [
        second / "05-d.json",
        first / "10-a.json",
        second / "20-b.json",
    ]
    assert [one.code for one in load_descriptors((first, second))] == ["/bios.bin", "/code.fd"]


@pytest.mark.parametrize("data", [FLASH, BIOS])
def test_a_descriptor_is_written_as_it_was_read(data: dict[str, Any]) -> None:
    kept = {name: value for name, value in data.items() if name not in ("description", "tags")}
    assert write_descriptor(parse_descriptor(data)) == kept


def test_the_mode_says_whether_variables_are_kept() -> None:
    stateless = {**FLASH, "mapping": {**FLASH["mapping"], "mode": "stateless"}}
    assert parse_descriptor(stateless).stateless and not parse_descriptor(FLASH).stateless
    with pytest.raises(ValueError, match="unknown mode"):
        parse_descriptor({**FLASH, "mapping": {**FLASH["mapping"], "mode": "torn"}})


def test_what_is_offered_to_a_machine() -> None:
    descriptors = [parse_descriptor(BIOS), parse_descriptor(FLASH), parse_descriptor(FLASH)]
    small = supported_firmware(descriptors, "i686", "pc-q35-8.0")
    assert (small.interfaces, small.images, small.secure) == (("efi",), (("/code.fd", "/vars.fd"),), True)
    assert supported_firmware(descriptors, "x86_64", "pc-q35-8.0").images == (("/bios.bin", None),)
    assert not supported_firmware(descriptors, "aarch64", "virt").interfaces


def test_variables_that_are_not_named_are_those_of_the_firmware() -> None:
    enrolled = parse_descriptor(
        {
            **FLASH,
            "features": [*FLASH["features"], "enrolled-keys"],
            "mapping": {**FLASH["mapping"], "nvram-template": {"filename": "/keys.fd", "format": "raw"}},
        }
    )
    assert template_of("/code.fd", [enrolled, parse_descriptor(FLASH)]) == "/vars.fd"
    assert template_of("/code.fd", [enrolled]) == "/keys.fd"
    assert template_of("/usr/share/OVMF/OVMF_CODE.fd", []) == "/usr/share/OVMF/OVMF_VARS.fd"
    assert template_of("/other.fd", [enrolled]) is None
