"""Cases about emulators: what they say of themselves, and what is told of them to clients."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from actors.bhyve.capabilities import domain_capabilities as bhyve_capabilities
from actors.qemu.capabilities.document import guest_part
from actors.qemu.capabilities.domain_document import HostFacts, write_domain_capabilities
from actors.qemu.capabilities.libvirt_file import parse_capability_file, write_capability_file
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.firmware import (
    descriptor_files,
    load_descriptors,
    parse_descriptor,
    supported_firmware,
    write_descriptor,
)
from actors.qemu.memory_lock import UNLIMITED, lock_limit_bytes
from actors.qemu.monitor.processors import processor_entries
from actors.qemu.vhost_user import parse_program, write_program
from conf.capabilities.documents import HostCapabilities, write_capabilities
from conf.capabilities.host import HostPart, PowerManagement
from conf.cpu.host import HostCpu
from conf.domain.documents import parse_domain
from conf.domain_capabilities.capabilities import DomainCapabilities
from conf.domain_capabilities.features import FeatureSupport, SevSupport, SgxSupport
from conf.flags import ParseFlags
from tests.conformance import cpus
from tests.conformance.drivers import rules_for
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
    if case["driver"] == "generic":
        told = DomainCapabilities(
            path=case["emulator"], domain=case["virt_type"], machine=case["machine"], arch=case["arch"]
        )
        told.features = FeatureSupport(sev=SevSupport(supported=False), sgx=SgxSupport(supported=False))
        return told.to_xml()
    if case["driver"] == "bhyve":
        known = case.get("bhyve_caps", ())
        return bhyve_capabilities(
            case["emulator"],
            case["arch"],
            firmwares=case["firmwares"],
            boots_roms="BHYVE_CAP_LPC_BOOTROM" in known,
            has_display="BHYVE_CAP_FBUF" in known,
        ).to_xml()
    if case["driver"] != "qemu":
        pytest.skip(f"the driver '{case['driver']}' tells nothing yet")
    why = cpus.why_not({"arch": "x86_64"})
    if why:
        pytest.skip(why)
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


def descriptor(case: Case) -> str:
    """A descriptor of a firmware or a vhost-user program, read and written again."""
    text = (SHARED / "corpus" / case["input"]).read_text(encoding="utf-8")
    data = json.loads(text)
    is_firmware = "interface-types" in data
    written = write_descriptor(parse_descriptor(data)) if is_firmware else write_program(parse_program(data))
    kept = {name: value for name, value in data.items() if name not in case["drop_keys"]}
    # the text's own blanks are of no interest
    return text if json.dumps(written) == json.dumps(kept) else json.dumps(written, indent=4)


def _unpacked(case: Case, folder: Path) -> tuple[Path, ...]:
    """The folders of descriptors that a case takes for granted, the least important first."""
    places = dict(case["descriptor_map"])
    corpus = SHARED / "corpus"
    root = "qemu/qemufirmwaredata/"
    places |= {f"/{name.removeprefix(root)}": name for name in case["inputs"]["descriptors"]}
    for place, name in places.items():
        path = folder / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((corpus / name).read_bytes())
    system = (folder / "usr/share/qemu/firmware", folder / "etc/qemu/firmware")
    return system if case["privileged"] else (*system, folder / "home/user/.config/qemu/firmware")


def descriptor_precedence(case: Case) -> str:
    """The descriptors in force, in their order."""
    with tempfile.TemporaryDirectory(prefix="vtf") as name:
        folder = Path(name)
        return str([f"/{path.relative_to(folder)}" for path in descriptor_files(_unpacked(case, folder))])


def firmware_supported(case: Case) -> str:
    """What firmware there is for a machine."""
    with tempfile.TemporaryDirectory(prefix="vtf") as name:
        descriptors = load_descriptors(_unpacked(case, Path(name)))
    found = supported_firmware(descriptors, case["arch"], case["machine"])
    images = [{"image": image, "nvram": template} for image, template in found.images]
    return str({"secure": found.secure, "firmwares": images, "interfaces": list(found.interfaces)})


def memory_lock(case: Case) -> str:
    """How much memory a guest may lock."""
    xml = (SHARED / "corpus" / case["input"]).read_bytes()
    rules = rules_for({**case, "domain": {"arch": case["host_arch"]}})
    limit = lock_limit_bytes(parse_domain(xml, rules, ParseFlags.INACTIVE))
    return "unlimited" if limit == UNLIMITED else str(limit)


def cpu_data(case: Case) -> str:
    """The registers of a processor, from QEMU's words for its features."""
    answer = json.loads((SHARED / "corpus" / case["input"]).read_text(encoding="utf-8"))["return"]
    leaves: dict[tuple[int, int], dict[str, int]] = {}
    for one in answer:
        key = (int(one["cpuid-input-eax"]), int(one.get("cpuid-input-ecx", 0)))
        register = str(one["cpuid-register"]).lower()
        leaf = leaves.setdefault(key, {})
        leaf[register] = leaf.get(register, 0) | int(one["features"])
    lines = ["<cpudata arch='x86'>"]
    for (eax, ecx), leaf in sorted(leaves.items()):
        if any(leaf.values()):
            values = " ".join(f"{name}='{leaf.get(name, 0):#010x}'" for name in ("eax", "ebx", "ecx", "edx"))
            lines.append(f"  <cpuid eax_in='{eax:#010x}' ecx_in='{ecx:#010x}' {values}/>")
    return "\n".join([*lines, "</cpudata>"])


def cpu_info(case: Case) -> str:
    """What QEMU tells of each processor of a guest."""
    cpus_told, slots = (
        json.loads((SHARED / "corpus" / name).read_text(encoding="utf-8")).get("return")
        for name in (case["input"], case["inputs"]["hotpluggable"])
    )
    lines = []
    for number, one in enumerate(processor_entries(cpus_told, slots, case["max_vcpus"])):
        lines.append(f"[vcpu libvirt-id='{number}']")
        lines.append(f"    online={'yes' if one.online else 'no'}")
        lines.append(f"    hotpluggable={'yes' if one.hotpluggable else 'no'}")
        told = (
            ("thread-id", one.thread),
            ("enable-id", one.enabled_as),
            ("query-cpus-id", one.number),
            ("type", one.type),
            ("alias", one.alias),
            ("qom_path", one.path),
        )
        lines += [f"    {name}='{value}'" for name, value in told if value is not None]
        if one.place:
            place = "".join(f" {name}='{value}'" for name, value in one.place.items())
            lines.append(f"    topology:{place} vcpus='{one.count}'")
    return "\n".join(lines)


KINDS: Final[dict[str, Callable[[Case], str]]] = {
    "caps-to-capabilities": caps_to_capabilities,
    "descriptor-json-roundtrip": descriptor,
    "descriptor-precedence": descriptor_precedence,
    "domain-capabilities": domain_caps,
    "firmware-supported": firmware_supported,
    "qmp-cpu-data": cpu_data,
    "qmp-cpu-info": cpu_info,
    "qmp-replies-to-caps": replies_to_caps,
    "xml-to-memlock": memory_lock,
}
"""How the text of a case is made."""
