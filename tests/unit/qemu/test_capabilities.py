"""What emulators say about themselves, and when they are asked again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from actors.qemu.capabilities.document import write_capabilities
from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.capabilities.questions import QUESTIONS, capabilities_from_answers
from actors.qemu.capabilities.store import CapabilityStore
from schema.errors import ConfigUnsupported, InternalError

CAPS = Capabilities(
    emulator="/usr/bin/qemu-system-x86_64",
    version=(7, 2, 0),
    package="",
    arch="x86_64",
    kvm=False,
    machines=(
        Machine("pc-i440fx-7.2", alias="pc", is_default=True, max_cpus=255),
        Machine("pc-q35-7.2", alias="q35", max_cpus=288),
        Machine("none"),
    ),
    cpus={},
    flags=frozenset({"virtio-blk-pci.scsi", "device.json+hotplug"}),
)


class Probe:
    """Counts how often an emulator is asked."""

    def __init__(self, version: tuple[int, int, int] = (7, 2, 0)) -> None:
        self.asked: list[str] = []
        self.version = version

    async def __call__(self, emulator: Path) -> Capabilities:
        self.asked.append(emulator.name)
        await asyncio.sleep(0)
        return msgspec.structs.replace(CAPS, emulator=str(emulator), version=self.version)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "qemu-system-x86_64"
    path.parent.mkdir()
    path.write_bytes(b"one")
    path.chmod(0o755)
    return path


def store_of(tmp_path: Path, binary: Path, probe: Probe) -> CapabilityStore:
    return CapabilityStore(tmp_path / "cache", (str(binary.parent),), probe)


async def test_an_emulator_is_asked_once_and_remembered_on_disk(tmp_path: Path, binary: Path) -> None:
    probe = Probe()
    store = store_of(tmp_path, binary, probe)
    first, second = await asyncio.gather(store.capabilities(binary), store.capabilities(binary))
    assert first == second == await store.capabilities(binary)
    assert await store_of(tmp_path, binary, probe).capabilities(binary) == first
    assert probe.asked == ["qemu-system-x86_64"]


async def test_another_binary_at_the_same_place_is_asked_again(tmp_path: Path, binary: Path) -> None:
    probe = Probe()
    await store_of(tmp_path, binary, probe).capabilities(binary)
    os.utime(binary, (1, 1))
    await store_of(tmp_path, binary, probe).capabilities(binary)
    binary.write_bytes(b"three")
    await store_of(tmp_path, binary, probe).capabilities(binary)
    assert len(probe.asked) == 3


async def test_a_cache_that_cannot_be_read_is_no_cache(tmp_path: Path, binary: Path) -> None:
    probe = Probe()
    await store_of(tmp_path, binary, probe).capabilities(binary)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"\xc1")
    await store_of(tmp_path, binary, probe).capabilities(binary)
    assert len(probe.asked) == 2


async def test_a_cache_folder_that_cannot_be_written_does_no_harm(tmp_path: Path, binary: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert (await store_of(tmp_path, binary, Probe()).capabilities(binary)).arch == "x86_64"


async def test_an_absent_and_an_old_emulator_are_refused(tmp_path: Path, binary: Path) -> None:
    store = store_of(tmp_path, binary, Probe((4, 2, 1)))
    with pytest.raises(ConfigUnsupported, match=r"4\.2\.1"):
        await store.capabilities(binary)
    with pytest.raises(ConfigUnsupported, match="nowhere"):
        await store.capabilities("/nowhere/qemu")


async def test_a_probe_that_fails_is_tried_again(tmp_path: Path, binary: Path) -> None:
    calls: list[int] = []

    async def probe(emulator: Path) -> Capabilities:
        calls.append(1)
        if len(calls) == 1:
            raise InternalError("broken")
        return CAPS

    store = CapabilityStore(tmp_path / "cache", (str(binary.parent),), probe)
    with pytest.raises(InternalError):
        await store.capabilities(binary)
    assert await store.capabilities(binary) == CAPS


def test_emulators_are_found_by_architecture(tmp_path: Path, binary: Path) -> None:
    other = binary.with_name("qemu-system-aarch64")
    other.write_bytes(b"")
    store = store_of(tmp_path, binary, Probe())
    assert store.find_emulator("x86_64") == binary
    assert store.find_emulator("aarch64") is None, "it is not executable"
    other.chmod(0o755)
    assert store.find_emulator("aarch64") == other
    for name in ("qemu-system-avr", "qemu-system-x86_64-microvm", "qemu-system-sparc.old"):
        binary.with_name(name).write_bytes(b"")
        binary.with_name(name).chmod(0o755)
    assert store.emulators() == {"aarch64": other, "x86_64": binary}, "libvirt has no name for the others"


def test_aliases_and_defaults_of_machines() -> None:
    assert CAPS.canonical_machine("q35") == "pc-q35-7.2"
    assert CAPS.canonical_machine("unknown") == "unknown"
    assert CAPS.default_machine() == "pc-i440fx-7.2"
    assert CAPS.has("virtio-blk-pci.scsi") and CAPS.lacks("scsi-block")
    assert CAPS.json_options == {"-device"}
    assert CAPS.number == 7_002_000


def test_answers_that_are_missing_or_malformed_are_an_error() -> None:
    with pytest.raises(ValueError, match="not every question"):
        capabilities_from_answers("q", [])
    with pytest.raises(ValueError, match="cannot be used"):
        capabilities_from_answers("q", [None] * len(QUESTIONS))


def test_the_document_names_machines_and_types_of_guests() -> None:
    text = write_capabilities([CAPS, msgspec.structs.replace(CAPS, arch="i686", kvm=True)])
    assert "<machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>" in text
    assert "<machine maxCpus='288'>pc-q35-7.2</machine>" in text
    assert ">none</machine>" not in text
    assert text.count("<domain type='qemu'/>") == 2 and text.count("<domain type='kvm'/>") == 1
    assert "<wordsize>64</wordsize>" in text and "<wordsize>32</wordsize>" in text
