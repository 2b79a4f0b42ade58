"""Domain capabilities of this host's emulators, as a real libvirtd tells them beside ours."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.qemu.capabilities.domain_document import read_host_facts, write_domain_capabilities
from actors.qemu.capabilities.probe import probe_emulator
from actors.qemu.capabilities.processor_files import load_processors
from actors.qemu.firmware import default_folders, load_descriptors
from actors.qemu.helpers.tpm_programs import TpmPrograms
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun

EMULATORS = {"x86_64": "/usr/bin/qemu-system-x86_64", "i686": "/usr/bin/qemu-system-i386"}


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        with Libvirtd(base) as daemon:
            yield daemon
    except CannotRun as exc:
        pytest.skip(str(exc))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def ask(libvirtd: Libvirtd, arch: str, virt: str, machine: str) -> str:
    """What libvirtd says; skips what it cannot say on this host."""
    words = ("domcapabilities", "--arch", arch, "--virttype", virt, "--machine", machine)
    done = subprocess.run(
        ["virsh", "-q", "-c", libvirtd.uri("qemu:///system"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"libvirtd has no such guests here: {done.stderr.strip()}")
    return done.stdout.strip()


# an i386 emulator without KVM is left out: which of its many half-fitting models is nearest is judged otherwise there
@pytest.mark.real
@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize(("arch", "virt"), [("x86_64", "kvm"), ("x86_64", "qemu"), ("i686", "kvm")])
async def test_domain_capabilities_are_what_libvirtd_tells(
    libvirtd: Libvirtd, arch: str, virt: str, machine: str
) -> None:
    theirs = ask(libvirtd, arch, virt, machine)
    caps = await probe_emulator(Path(EMULATORS[arch]))
    found = caps.find_machine(machine)
    assert found is not None
    programs = TpmPrograms()
    await programs.refresh()
    firmwares = load_descriptors(default_folders())
    host = read_host_facts("x86_64", firmwares, load_processors(), programs.versions or ())
    assert write_domain_capabilities(caps, found, virt, host).strip() == theirs
