"""Cases about emulators: what they say of themselves, and what is told of them to clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from actors.qemu.capabilities.document import guest_part
from actors.qemu.capabilities.domain_document import HostFacts, write_domain_capabilities
from actors.qemu.capabilities.libvirt_file import parse_capability_file, write_capability_file
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.firmware import load_descriptors
from conf.capabilities.documents import HostCapabilities, write_capabilities
from conf.capabilities.host import HostPart, PowerManagement
from conf.cpu.host import HostCpu
from tests.conformance import cpus
from tests.conformance.qemu_caps import capabilities_of_dialogue
from tests.conformance.qemu_launch import firmware_folders
from tests.shared import SHARED

Case = dict[str, Any]


def replies_to_caps(case: Case) -> str:
    """libvirt's file of an emulator, from a recorded dialogue with it."""
    caps = capabilities_of_dialogue(SHARED / "corpus" / case["input"], case["binary"])
    return write_capability_file(caps, case["fake_microcode_version"])


def caps_to_capabilities(case: Case) -> str:
    """The part of a host's capabilities that an emulator with some flags makes."""
    flags = parse_capability_file((SHARED / "corpus" / case["input"]).read_bytes()).flags
    caps = Capabilities(
        emulator=case["binary"],
        version=(0, 0, 0),
        package="",
        arch=case["arch"],
        kvm="kvm" in flags,
        machines=(),
        cpus={},
        flags=flags,
    )
    host = HostPart(cpu=HostCpu(arch=case["arch"]), power_management=PowerManagement(), iommu=False)
    return write_capabilities(HostCapabilities(host=host, guests=[guest_part(caps)]))


def domain_caps(case: Case) -> str:
    """What guests on an emulator can have."""
    why = cpus.why_not({"arch": "x86_64"})
    if why:
        pytest.skip(why)
    if case["driver"] != "qemu":
        pytest.skip(f"the driver '{case['driver']}' tells nothing yet")
    caps = parse_capability_file((SHARED / "corpus" / case["input"]).read_bytes())
    wanted = case.get("machine")
    machine = caps.find_machine(wanted) if wanted is not None else caps.machines[0]
    assert machine is not None
    processors = cpus.processors_of({"state": {"host.arch": case["arch"], "host.cpu": case.get("host_cpu", "Default")}})
    host = HostFacts(
        arch=case["arch"],
        firmwares=load_descriptors(firmware_folders()),
        loaders=case["loader_values"],
        tpm_versions=case["swtpm_versions"],
        passes_pci=True,
        encrypted_guests=(59, 450),
        processors=processors,
    )
    return write_domain_capabilities(caps, machine, case["virt_type"], host)


KINDS: Final[dict[str, Callable[[Case], str]]] = {
    "caps-to-capabilities": caps_to_capabilities,
    "domain-capabilities": domain_caps,
    "qmp-replies-to-caps": replies_to_caps,
}
"""How the text of a case is made."""
