"""Differences between two definitions: those that the guest would see are refused, the others are not."""

from __future__ import annotations

import pytest

from conf.domain.compat import check_compatible, check_device_compatible
from conf.domain.documents import parse_device, parse_domain
from conf.domain.domain import Domain
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported
from tests.conformance.cases import cases_of
from tests.conformance.drivers import rules_for
from tests.shared import SHARED

XML = """<domain type='test'><name>a</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>
<memory>2048</memory><currentMemory>1024</currentMemory><vcpu current='1'>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><smbios mode='host'/></os>
<features><acpi/><hyperv mode='custom'><relaxed state='on'/></hyperv></features>
<cpu mode='custom'><model>qemu64</model><topology sockets='2' cores='1' threads='1'/>
<feature policy='require' name='vmx'/></cpu>
<clock offset='utc'><timer name='hpet' present='no'/></clock>
<devices>
<disk type='file' device='disk'><source file='/a'/><target dev='sda' bus='scsi'/><serial>x1</serial>
<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>
<controller type='scsi' index='0' model='virtio-scsi'>
<address type='pci' domain='0' bus='0' slot='4' function='0'/></controller>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
<video><model type='vga' vram='16384' heads='1'/></video>
<memballoon model='virtio'/>
</devices></domain>"""


def domain_of(old: str = "", new: str = "") -> Domain:
    assert old in XML
    return parse_domain(XML.replace(old, new, 1) if old else XML, DomainRules(), ParseFlags.INACTIVE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type='test'", "type='kvm'", "Target domain virt type kvm does not match source test"),
        ("c7a5", "c7a6", "Target domain uuid c7a6fdbd-edaf-9455-926a-d65c16db1809 does not match source c7a5fdbd-"),
        ("<name>a<", "<name>b<", "Target domain name 'b' does not match source 'a'"),
        ("<memory>2048", "<memory>4096", "Target domain max memory 4096 does not match source 2048"),
        (">1024<", ">2048<", "Target domain current memory 2048 does not match source 1024"),
        ("current='1'", "current='2'", "Target domain vCPU count 2 does not match source 1"),
        ("machine='pc'", "machine='q35'", "Target domain machine type q35 does not match source pc"),
        ("mode='host'", "mode='emulate'", "Target domain SMBIOS mode emulate does not match source host"),
        ("<acpi/>", "", "State of feature 'acpi' differs: source: 'on', destination: 'default'"),
        ("relaxed state='on'", "relaxed state='off'", "State of feature 'hyperv' differs"),
        ("present='no'", "present='yes'", "Target timer presence 'on' does not match source 'off'"),
        ("qemu64", "kvm64", "Target CPU model kvm64 does not match source qemu64"),
        ("sockets='2' cores='1'", "sockets='1' cores='2'", "Target CPU sockets 1 does not match source 2"),
        ("name='vmx'", "name='svm'", "Target CPU is missing feature vmx"),
        ("bus='scsi'", "bus='sata'", "Target disk bus sata does not match source scsi"),
        ("<serial>x1</serial>", "", "Target disk serial none does not match source x1"),
        ("<serial>", "<readonly/><serial>", "Target disk access mode does not match source"),
        ("unit='0'", "unit='3'", "Target device drive address 0:0:3 does not match source 0:0:0"),
        ("model='virtio-scsi'", "model='lsilogic'", "Target controller model lsilogic does not match source virtio"),
        ("slot='4'", "slot='5'", "Target device PCI address 0000:00:05.0 does not match source 0000:00:04.0"),
        ("00:00:01", "00:00:02", "Target network card mac 52:54:00:00:00:02 does not match source 52:54:00:00:00:01"),
        ("type='virtio'", "type='e1000'", "Target network card model e1000 does not match source virtio"),
        ("vram='16384'", "vram='32768'", "Target video card vram 32768 does not match source 16384"),
        ("<memballoon model='virtio'/>", "", "Target domain memory balloon count 0 does not match source 1"),
    ],
)
def test_what_the_guest_sees_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigUnsupported, match=message):
        check_compatible(domain_of(), domain_of(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("file='/a'", "file='/elsewhere'"),
        ("<interface type='user'>", "<interface type='network'><source network='default'/>"),
        ("<memory>", "<title>new</title><memory>"),
        ("<devices>", "<on_crash>restart</on_crash><devices>"),
    ],
)
def test_what_the_guest_does_not_see_may_change(old: str, new: str) -> None:
    check_compatible(domain_of(), domain_of(old, new))


def test_the_balloon_may_have_moved() -> None:
    check_compatible(domain_of(), domain_of(">1024<", ">2048<"), with_current_memory=False)


def test_one_device_becomes_another() -> None:
    domain = domain_of()
    disk = domain.devices.disks[0]
    other = parse_device(
        "<disk type='file'><source file='/b'/><target dev='sda' bus='scsi'/><serial>x2</serial>"
        "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>",
        domain,
    )
    with pytest.raises(ConfigUnsupported, match="Target disk serial x2 does not match source x1"):
        check_device_compatible(disk, other)  # type: ignore[arg-type]


def test_every_domain_of_the_corpus_is_compatible_with_itself() -> None:
    seen = 0
    for case in cases_of("qemu"):
        if case["kind"] == "xml-roundtrip" and case.get("object") == "domain" and case["expectation"] == "ok":
            if seen % 4 == 0:
                source = (SHARED / "corpus" / case["expected"]).read_bytes()
                domain = parse_domain(source, rules_for(case), ParseFlags.SKIP_VALIDATE)
                check_compatible(domain, domain.copy())
            seen += 1
    assert seen > 500
