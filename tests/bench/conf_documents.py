"""Milliseconds to read and to write a domain of 100 elements, and to read and check it as a driver does."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

from lxml import etree

from conf.document import parse_document
from conf.domain.documents import parse_domain, write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from tests.bench.report import Measure

ROUNDS = 300


def sample() -> str:
    """A guest of about a hundred elements, as drivers keep them."""
    disks = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/{n}.qcow2'/>"
        f"<target dev='vd{chr(97 + n)}' bus='virtio'/>"
        f"<address type='pci' domain='0x0000' bus='0x00' slot='0x{n + 5:02x}' function='0x0'/></disk>"
        for n in range(5)
    )
    interfaces = "".join(
        f"<interface type='network'><mac address='52:54:00:00:00:0{n}'/><source network='default'/>"
        f"<model type='virtio'/><address type='pci' domain='0x0000' bus='0x00' slot='0x{n + 16:02x}' "
        "function='0x0'/></interface>"
        for n in range(4)
    )
    return (
        "<domain type='kvm'><name>web1</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>"
        "<memory unit='KiB'>4194304</memory><currentMemory unit='KiB'>4194304</currentMemory>"
        "<vcpu placement='static'>4</vcpu><os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>"
        "<boot dev='hd'/></os><features><acpi/><apic/><pae/></features>"
        "<cpu mode='custom' match='exact' check='partial'><model fallback='allow'>Haswell</model>"
        "<topology sockets='1' dies='1' cores='4' threads='1'/><feature policy='require' name='vmx'/></cpu>"
        "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>"
        "<timer name='hpet' present='no'/></clock><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>"
        "<on_crash>destroy</on_crash><pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>"
        f"<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{disks}"
        "<controller type='usb' index='0' model='piix3-uhci'><address type='pci' domain='0x0000' bus='0x00' "
        "slot='0x01' function='0x2'/></controller><controller type='pci' index='0' model='pci-root'/>"
        "<controller type='ide' index='0'/><controller type='virtio-serial' index='0'/>"
        f"{interfaces}"
        "<serial type='pty'><target type='isa-serial' port='0'><model name='isa-serial'/></target></serial>"
        "<console type='pty'><target type='serial' port='0'/></console>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<input type='tablet' bus='usb'/><input type='mouse' bus='ps2'/><input type='keyboard' bus='ps2'/>"
        "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>"
        "<listen type='address' address='127.0.0.1'/></graphics><audio id='1' type='none'/>"
        "<video><model type='cirrus' vram='16384' heads='1' primary='yes'/></video>"
        "<memballoon model='virtio'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        "</devices></domain>"
    )


def milliseconds(work: Callable[[], Any]) -> float:
    """The best of many rounds, with the collector off as in a driver that loads many."""
    work()
    gc.collect()
    gc.disable()
    try:
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - began)
    finally:
        gc.enable()
    return best * 1000


def measure() -> list[Measure]:
    """Reads and writes the sample."""
    xml = sample()
    count = sum(1 for _ in etree.fromstring(xml).iter())
    scale = 100 / count
    flags = int(ParseFlags.INACTIVE)
    domain = parse_domain(xml, flags=ParseFlags.INACTIVE)
    note = f"{count} elements, scaled to 100"
    read = milliseconds(lambda: Domain.parse(parse_document(xml), flags)) * scale
    write = milliseconds(lambda: write_domain(domain, XmlFlags.INACTIVE)) * scale
    whole = milliseconds(lambda: parse_domain(xml, flags=ParseFlags.INACTIVE)) * scale
    copied = milliseconds(domain.copy) * scale
    return [
        Measure("conf.parse", read, "ms", goal=0.3, note=note),
        Measure("conf.write", write, "ms", goal=0.1, note=note),
        Measure("conf.parse_with_defaults_and_checks", whole, "ms", note=note),
        Measure("conf.copy", copied, "ms", note=note),
    ]


def main() -> None:
    """Prints the figures as JSON."""
    print(json.dumps([one.to_json() for one in measure()], indent=2))


if __name__ == "__main__":
    main()
