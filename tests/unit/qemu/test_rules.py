"""What QEMU's rules refuse and fill in."""

from __future__ import annotations

import pytest

from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.rules import QemuRules
from conf.domain.address import PciAddress
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, XmlError


def domain_of(arch: str, machine: str, devices: str, *types: str) -> Domain:
    capabilities = Capabilities(
        emulator="/usr/bin/qemu",
        version=(8, 0, 0),
        package="",
        arch=arch,
        kvm=False,
        machines=(Machine(name=machine),),
        cpus={},
        flags=frozenset(types),
    )
    xml = f"""<domain type='qemu'><name>a</name><memory>1024</memory><features><acpi/></features>
    <os><type arch='{arch}' machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"""
    return parse_domain(xml, QemuRules(capabilities), ParseFlags.INACTIVE)


ZPCI = """<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0' slot='3' function='0'/>
</source><address type='pci'{place}>{zpci}</address></hostdev>"""
MAINFRAME = ("s390x", "s390-ccw-virtio")


@pytest.mark.parametrize(
    ("machine", "devices", "type", "message"),
    [
        (
            ("x86_64", "pc"),
            "<shmem name='a'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
            "ivshmem-plain",
            "ivshmem-plain device is not supported with this QEMU binary",
        ),
        (
            ("x86_64", "q35"),
            "<iommu model='virtio'/>",
            "virtio-iommu-pci",
            "IOMMU device: 'virtio' is not supported with this QEMU binary",
        ),
        (
            ("x86_64", "pc"),
            "<controller type='pci' index='1' model='pci-bridge'/>",
            "pci-bridge",
            "The 'pci-bridge' device is not supported by this QEMU binary",
        ),
        (
            MAINFRAME,
            ZPCI.format(place="", zpci="<zpci uid='0x0003' fid='0x00000001'/>"),
            "zpci",
            "This QEMU binary doesn't support zPCI",
        ),
    ],
)
def test_what_the_emulator_was_built_without_is_refused(
    machine: tuple[str, str], devices: str, type: str, message: str
) -> None:
    others = (
        "pcie-root-port",
        "vfio-pci",
        "pcie-pci-bridge",
        "virtio-iommu.boot-bypass",
        "virtio-pci-non-transitional",
    )
    with pytest.raises(ConfigUnsupported, match=message):
        domain_of(*machine, devices, *others)
    domain_of(*machine, devices, *others, type)


def test_mainframe_numbers_go_first_to_those_that_have_one_of_two() -> None:
    plain = ZPCI.format(place="", zpci="")
    half = ZPCI.format(place=" domain='0' bus='0' slot='9' function='0'", zpci="<zpci uid='0x0053'/>").replace(
        "slot='3'", "slot='4'"
    )
    domain = domain_of(*MAINFRAME, plain + half, "zpci", "vfio-pci")
    first, second = (one.address for one in domain.devices.hostdevs)
    assert isinstance(first, PciAddress) and first.zpci is not None
    assert isinstance(second, PciAddress) and second.zpci is not None
    assert (first.zpci.uid, first.zpci.fid) == (1, 1)
    assert (second.zpci.uid, second.zpci.fid) == (0x53, 0)


def test_a_mainframe_number_of_zero_is_refused() -> None:
    device = ZPCI.format(place="", zpci="<zpci uid='0x0000' fid='0x00000001'/>")
    with pytest.raises(XmlError, match="Invalid PCI address uid='0x0000', must be > 0x0000 and <= 0xffff"):
        domain_of(*MAINFRAME, device, "zpci", "vfio-pci")
