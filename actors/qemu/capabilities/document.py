"""The capabilities document: the host, and for each architecture what its emulator can run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.capabilities.store import host_arch
from conf.text import escape

_WORD_SIZES: Final = {"x86_64": 64, "aarch64": 64, "ppc64": 64, "ppc64le": 64, "s390x": 64, "riscv64": 64}
_NODES: Final = Path("/sys/devices/system/node")
_CPUS: Final = Path("/sys/devices/system/cpu")


def write_capabilities(emulators: Sequence[Capabilities]) -> str:
    """The document, as libvirt's clients read it."""
    out = ["<capabilities>\n\n"]
    _write_host(out)
    for caps in emulators:
        _write_guest(out, caps)
    out.append("</capabilities>\n")
    return "".join(out)


def _write_host(out: list[str]) -> None:
    out.append("  <host>\n")
    identity = host_uuid()
    if identity is not None:
        out.append(f"    <uuid>{identity}</uuid>\n")
    out.append("    <cpu>\n")
    out.append(f"      <arch>{host_arch()}</arch>\n")
    sockets, cores, threads = _topology()
    out.append(f"      <topology sockets='{sockets}' dies='1' cores='{cores}' threads='{threads}'/>\n")
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    out.append(f"      <pages unit='KiB' size='{page_kib}'/>\n")
    out += [f"      <pages unit='KiB' size='{size}'/>\n" for size in _huge_pages_kib()]
    out.append("    </cpu>\n    <power_management/>\n    <iommu support='no'/>\n")
    out.append("    <migration_features>\n      <live/>\n      <uri_transports>\n")
    out.append("        <uri_transport>tcp</uri_transport>\n        <uri_transport>rdma</uri_transport>\n")
    out.append("      </uri_transports>\n    </migration_features>\n")
    _write_topology(out)
    out.append("    <secmodel>\n      <model>none</model>\n      <doi>0</doi>\n    </secmodel>\n")
    out.append("  </host>\n\n")


def host_uuid() -> uuid.UUID | None:
    """The host's own identity: its firmware's, else the operating system's."""
    for path in ("/sys/class/dmi/id/product_uuid", "/etc/machine-id"):
        try:
            return uuid.UUID(Path(path).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue
    return None


def _huge_pages_kib() -> list[int]:
    folder = Path("/sys/kernel/mm/hugepages")
    if not folder.is_dir():
        return []
    names = (one.name for one in folder.iterdir())
    return sorted(int(name.removeprefix("hugepages-").removesuffix("kB")) for name in names)


def _topology() -> tuple[int, int, int]:
    packages: dict[int, set[int]] = {}
    count = 0
    for cpu in _online():
        package = _number(_CPUS / f"cpu{cpu}/topology/physical_package_id")
        core = _number(_CPUS / f"cpu{cpu}/topology/core_id", cpu)
        packages.setdefault(package, set()).add(core)
        count += 1
    if not packages:
        return 1, os.cpu_count() or 1, 1
    cores = max(len(one) for one in packages.values())
    return len(packages), cores, max(1, count // (len(packages) * cores))


def _online() -> Iterator[int]:
    for path in _CPUS.glob("cpu[0-9]*"):
        if _number(path / "online", 1):
            yield int(path.name.removeprefix("cpu"))


def _number(path: Path, default: int = 0) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return default


def _write_topology(out: list[str]) -> None:
    nodes = sorted(int(one.name.removeprefix("node")) for one in _NODES.glob("node[0-9]*"))
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    cells = nodes or [0]
    out.append(f"    <topology>\n      <cells num='{len(cells)}'>\n")
    for cell in cells:
        cpus = _cpus_of_node(cell) if nodes else sorted(_online())
        memory = _memory_of_node(cell) if nodes else os.sysconf("SC_PHYS_PAGES") * page_kib
        out.append(f"        <cell id='{cell}'>\n          <memory unit='KiB'>{memory}</memory>\n")
        out.append(f"          <pages unit='KiB' size='{page_kib}'>{memory // page_kib}</pages>\n")
        out += [f"          <pages unit='KiB' size='{size}'>0</pages>\n" for size in _huge_pages_kib()]
        out.append("          <distances>\n")
        out.append(f"            <sibling id='{cell}' value='10'/>\n          </distances>\n")
        out.append(f"          <cpus num='{len(cpus)}'>\n")
        for cpu in cpus:
            socket = _number(_CPUS / f"cpu{cpu}/topology/physical_package_id")
            core = _number(_CPUS / f"cpu{cpu}/topology/core_id", cpu)
            siblings = _text(_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
            out.append(
                f"            <cpu id='{cpu}' socket_id='{socket}' die_id='0' core_id='{core}' "
                f"siblings='{escape(siblings)}'/>\n"
            )
        out.append("          </cpus>\n        </cell>\n")
    out.append("      </cells>\n    </topology>\n")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _cpus_of_node(node: int) -> list[int]:
    return sorted(int(one.name.removeprefix("cpu")) for one in (_NODES / f"node{node}").glob("cpu[0-9]*"))


def _memory_of_node(node: int) -> int:
    for line in _text(_NODES / f"node{node}/meminfo").splitlines():
        words = line.split()
        if "MemTotal:" in words:
            return int(words[words.index("MemTotal:") + 1])
    return 0


def _write_guest(out: list[str], caps: Capabilities) -> None:
    out.append("  <guest>\n    <os_type>hvm</os_type>\n")
    out.append(f"    <arch name='{escape(caps.arch)}'>\n")
    out.append(f"      <wordsize>{_WORD_SIZES.get(caps.arch, 32)}</wordsize>\n")
    out.append(f"      <emulator>{escape(caps.emulator)}</emulator>\n")
    for machine in caps.machines:
        if machine.name == "none":
            continue
        if machine.alias is not None:
            _write_machine(out, machine.alias, machine.max_cpus, canonical=machine.name, deprecated=False)
    for machine in caps.machines:
        if machine.name != "none":
            _write_machine(out, machine.name, machine.max_cpus, canonical=None, deprecated=machine.deprecated)
    out.append("      <domain type='qemu'/>\n")
    if caps.kvm:
        out.append("      <domain type='kvm'/>\n")
    out.append("    </arch>\n    <features>\n")
    if caps.arch in ("x86_64", "i686"):
        if caps.arch == "i686":
            out.append("      <pae/>\n      <nonpae/>\n")
        out.append("      <acpi default='on' toggle='yes'/>\n      <apic default='on' toggle='no'/>\n")
    out.append("      <cpuselection/>\n      <deviceboot/>\n")
    out.append("      <disksnapshot default='on' toggle='no'/>\n      \n")
    out.append("    </features>\n  </guest>\n\n")


def _write_machine(out: list[str], name: str, cpus: int, *, canonical: str | None, deprecated: bool) -> None:
    words = f" canonical='{escape(canonical)}'" if canonical is not None else ""
    words += f" maxCpus='{cpus}'"
    if deprecated:
        words += " deprecated='yes'"
    out.append(f"      <machine{words}>{escape(name)}</machine>\n")
