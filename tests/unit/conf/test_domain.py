"""A domain's text to a definition and back: what is filled in, hidden, and refused."""

from __future__ import annotations

from uuid import UUID

import pytest

from conf.domain.chardev import Console
from conf.domain.controller import ControllerType
from conf.domain.disk import Disk, DiskBus
from conf.domain.documents import parse_device, parse_domain, write_device, write_domain
from conf.domain.domain import Domain
from conf.domain.interface import Interface
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags, XmlFlags
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, VirtError, XmlError

INACTIVE = ParseFlags.INACTIVE


class Rules(DomainRules):
    """A driver that makes up nothing at random."""

    default_arch = "x86_64"

    def random_bytes(self, count: int) -> bytes:
        return bytes(range(count))


def domain_of(devices: str = "", rest: str = "", flags: ParseFlags = INACTIVE, type: str = "test") -> Domain:
    return parse_domain(
        f"<domain type='{type}'><name>a</name><memory>1024</memory><os><type>hvm</type></os>{rest}"
        f"<devices>{devices}</devices></domain>",
        Rules(),
        flags,
    )


def test_the_least_definition_gets_its_defaults() -> None:
    domain = domain_of()
    assert write_domain(domain, XmlFlags.INACTIVE) == (
        "<domain type='test'>\n"
        "  <name>a</name>\n"
        "  <uuid>00010203-0405-4607-8809-0a0b0c0d0e0f</uuid>\n"
        "  <memory unit='KiB'>1024</memory>\n"
        "  <currentMemory unit='KiB'>1024</currentMemory>\n"
        "  <vcpu placement='static'>1</vcpu>\n"
        "  <os>\n"
        "    <type arch='x86_64'>hvm</type>\n"
        "    <boot dev='hd'/>\n"
        "  </os>\n"
        "  <clock offset='utc'/>\n"
        "  <on_poweroff>destroy</on_poweroff>\n"
        "  <on_reboot>restart</on_reboot>\n"
        "  <on_crash>destroy</on_crash>\n"
        "  <devices>\n"
        "  </devices>\n"
        "</domain>\n"
    )


def test_writing_is_a_fixed_point() -> None:
    domain = domain_of(
        "<disk type='file'><source file='/a'/><target dev='hdb'/></disk><interface type='user'/><serial type='pty'/>"
        "<graphics type='vnc' port='-1'/><channel type='unix'><target type='virtio' name='x'/></channel>"
    )
    once = write_domain(domain, XmlFlags.INACTIVE)
    assert write_domain(parse_domain(once, Rules(), INACTIVE), XmlFlags.INACTIVE) == once
    assert parse_domain(once, Rules(), INACTIVE) == domain


def test_id_is_written_for_running_guests_only() -> None:
    domain = domain_of()
    assert write_domain(domain, id=7).startswith("<domain type='test' id='7'>")
    assert write_domain(domain, XmlFlags.INACTIVE, id=7).startswith("<domain type='test'>")
    assert domain.id is None


def test_password_is_written_on_request_only() -> None:
    domain = domain_of("<graphics type='vnc' passwd='geheim'/>")
    assert "geheim" not in write_domain(domain)
    assert "passwd='geheim'" in write_domain(domain, XmlFlags.SECURE)


def test_aliases_of_the_hypervisor_are_not_part_of_a_definition() -> None:
    devices = (
        "<disk type='file'><source file='/a'/><target dev='vda'/><alias name='virtio-disk0'/></disk>"
        "<disk type='file'><source file='/b'/><target dev='vdb'/><alias name='ua-mine'/></disk>"
    )
    assert [disk.alias for disk in domain_of(devices).devices.disks] == [None, "ua-mine"]
    live = domain_of(devices, flags=ParseFlags.NONE)
    assert "virtio-disk0" in write_domain(live)
    assert "virtio-disk0" not in write_domain(live, XmlFlags.INACTIVE)


@pytest.mark.parametrize(
    ("dev", "bus", "place"),
    [
        ("hdc", None, (0, 1, 0, 0)),
        ("hdf", "ide", (1, 0, 0, 1)),
        ("sdh", None, (1, 0, 0, 0)),
        ("sdg", "sata", (1, 0, 0, 0)),
        ("fdb", None, (0, 0, 0, 1)),
        ("sdaa", "sata", (4, 0, 0, 2)),
    ],
)
def test_disk_name_gives_its_place(dev: str, bus: str | None, place: tuple[int, ...]) -> None:
    word = f" bus='{bus}'" if bus else ""
    kind = "floppy" if dev.startswith("fd") else "disk"
    domain = domain_of(f"<disk type='file' device='{kind}'><source file='/a'/><target dev='{dev}'{word}/></disk>")
    address = domain.devices.disks[0].address
    assert tuple(getattr(address, name) for name in ("controller", "bus", "target", "unit")) == place
    assert max(one.index or 0 for one in domain.devices.controllers) == place[0]


def test_wide_scsi_skips_the_controllers_own_unit() -> None:
    class Wide(Rules):
        wide_scsi = True

    xml = (
        "<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>"
        "<disk type='file'><source file='/x'/><target dev='sdh'/></disk><disk type='file'><source file='/x'/>"
        "<target dev='sdp'/></disk></devices></domain>"
    )
    places = [disk.address for disk in parse_domain(xml, Wide()).devices.disks]
    assert [(one.controller, one.unit) for one in places if one is not None] == [(0, 8), (1, 0)]  # type: ignore[attr-defined]


def test_disks_of_a_bus_are_sorted_by_name() -> None:
    names = ("vdb", "hda", "vda", "vdaa")
    domain = domain_of(
        "".join(
            f"<disk type='file'><source file='/{name}'/><target dev='{name}' bus='{bus}'/></disk>"
            for name, bus in zip(names, ("virtio", "ide", "virtio", "virtio"), strict=True)
        )
    )
    assert [disk.target.dev for disk in domain.devices.disks] == ["vda", "vdb", "vdaa", "hda"]


def test_console_and_serial_port_are_one() -> None:
    domain = domain_of("<serial type='file'><source path='/log'/></serial>")
    assert isinstance(domain.devices.consoles[0], Console)
    xml = write_domain(domain)
    assert xml.count("<source path='/log'/>") == 2
    assert "<target type='serial' port='0'/>" in xml
    alone = domain_of("<console type='pty'/>")
    assert len(alone.devices.serials) == 1


def test_live_console_shows_the_serial_ports_terminal() -> None:
    domain = domain_of(
        "<serial type='pty'><source path='/dev/pts/3'/><alias name='serial0'/></serial>", flags=ParseFlags.NONE
    )
    assert "<console type='pty' tty='/dev/pts/3'>" in write_domain(domain)
    assert "/dev/pts/3" not in write_domain(domain, XmlFlags.INACTIVE)


def test_implicit_controllers() -> None:
    domain = domain_of(
        "<disk type='file'><source file='/x'/><target dev='sdi'/></disk>"
        "<channel type='pty'><target type='virtio' name='c'/></channel>"
        "<smartcard mode='host'/>"
    )
    found = [(one.type, one.index) for one in domain.devices.controllers]
    assert found == [
        (ControllerType.SCSI, 0),
        (ControllerType.SCSI, 1),
        (ControllerType.VIRTIO_SERIAL, 0),
        (ControllerType.CCID, 0),
    ]


def test_memory_follows_the_nodes_of_new_definitions() -> None:
    nodes = "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/></numa></cpu>"
    assert domain_of(rest=nodes).memory.kib == 1024
    assert domain_of(rest=nodes, flags=INACTIVE | ParseFlags.ABI_UPDATE).memory.kib == 1 << 20


def test_vnc_port_of_a_running_guest_is_known_to_its_status_only() -> None:
    graphics = "<graphics type='vnc' port='5901' autoport='yes'/>"
    live = domain_of(graphics, flags=ParseFlags.STATUS)
    assert "port='5901' autoport='yes'" in write_domain(live)
    assert "port='-1' autoport='yes'" in write_domain(live, XmlFlags.INACTIVE)
    assert domain_of(graphics).devices.graphics[0].port is None


@pytest.mark.parametrize(
    ("rest", "devices", "message"),
    [
        ("", "<disk type='file'><source file='/x'/><target dev='vda'/></disk>" * 2, "target 'vda' duplicated"),
        ("<vcpu current='3'>2</vcpu>", "", "maximum vCPU count must not be less than current vCPU count"),
        ("<maxMemory slots='2'>512</maxMemory>", "", "maximum memory size must be equal or greater"),
        ("", "<controller type='ide' index='0'/>" * 2, "Multiple 'ide' controllers with index '0'"),
        (
            "",
            "<interface type='user'><boot order='1'/></interface>" * 2,
            "boot order '1' used for more than one device",
        ),
        ("", "<serial type='tcp'><source mode='connect' service='1'/></serial>", "Missing source host attribute"),
        ("<title>a\nb</title>", "", "Domain title can't contain newlines"),
        ("", "<video><model type='none'/></video><video/>", "a 'none' video type must be the only video device"),
        ("", "<disk type='file'><source file='/x'/><target dev='zzz' bus='scsi'/></disk>", "Unknown disk name 'zzz'"),
    ],
)
def test_contradictions_are_refused(rest: str, devices: str, message: str) -> None:
    with pytest.raises(VirtError, match=message) as caught:
        domain_of(devices, rest)
    assert caught.value.domain == ErrorDomain.DOMAIN


def test_name_with_a_slash_is_refused() -> None:
    with pytest.raises(XmlError, match="name a/b cannot contain '/'"):
        parse_domain("<domain type='test'><name>a/b</name><memory>1</memory><os><type>hvm</type></os></domain>")


def test_validation_can_be_skipped_for_what_was_checked_before() -> None:
    xml = "<domain type='test'><name>a/b</name><memory>1</memory><os><type>hvm</type></os></domain>"
    assert parse_domain(xml, flags=ParseFlags.SKIP_VALIDATE).name == "a/b"


def test_hooks_are_called_in_order() -> None:
    heard: list[str] = []

    class Telling(Rules):
        def basic(self, domain: Domain, flags: ParseFlags) -> None:
            heard.append("basic")

        def domain(self, domain: Domain, flags: ParseFlags) -> None:
            heard.append("domain")

        def device(self, device: object, domain: Domain, flags: ParseFlags) -> None:
            heard.append(type(device).__name__)

        def assign_addresses(self, domain: Domain, flags: ParseFlags) -> None:
            heard.append("addresses")

        def check_device(self, device: object, domain: Domain) -> None:
            heard.append(f"check {type(device).__name__}")
            if isinstance(device, Interface):
                raise ConfigUnsupported("no")

        def check(self, domain: Domain) -> None:
            heard.append("check")

    with pytest.raises(ConfigUnsupported):
        parse_domain(
            "<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>"
            "<interface type='user'/>"
            "<disk type='file'><source file='/x'/><target dev='vda'/></disk></devices></domain>",
            Telling(),
        )
    assert heard == ["basic", "domain", "Disk", "Interface", "addresses", "check", "check Disk", "check Interface"]


def test_one_device_is_read_for_a_guest_that_stays_as_it_is() -> None:
    domain = domain_of("<disk type='file'><source file='/x'/><target dev='sda'/></disk>")
    before = domain.copy()
    disk = parse_device("<disk type='file'><source file='/b'/><target dev='sdb'/></disk>", domain, Rules(), INACTIVE)
    assert isinstance(disk, Disk)
    assert disk.target.bus is DiskBus.SCSI
    assert domain == before
    interface = parse_device("<interface type='user'/>", domain, Rules(), INACTIVE)
    assert isinstance(interface, Interface)
    assert write_device(interface).startswith("<interface type='user'>\n  <mac address='52:54:00:00:01:02'/>\n")


def test_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigUnsupported, match="unknown device type 'toaster'"):
        parse_device("<toaster/>", domain_of())


def test_uuid_of_the_text_is_kept() -> None:
    text = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
    assert domain_of(rest=f"<uuid>{text}</uuid>").uuid == UUID(text)


def test_extensions_of_another_hypervisor_are_not_kept() -> None:
    xml = (
        "<domain type='test' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name>"
        "<memory>1</memory><os><type>hvm</type></os><qemu:commandline><qemu:arg value='-foo'/>"
        "<qemu:env name='A' value='b'/>"
        "</qemu:commandline></domain>"
    )

    class Qemu(Rules):
        namespaces = frozenset({"qemu"})

    assert "qemu" not in write_domain(parse_domain(xml, Rules()))
    written = write_domain(parse_domain(xml, Qemu()))
    assert written.startswith("<domain type='test' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>")
    assert "  <qemu:commandline>\n    <qemu:arg value='-foo'/>\n    <qemu:env name='A' value='b'/>\n" in written


def test_metadata_is_kept_as_it_is() -> None:
    xml = "<metadata><app:x xmlns:app='urn:app' a='1'><app:y>t</app:y></app:x></metadata>"
    written = write_domain(domain_of(rest=xml))
    assert '    <app:x xmlns:app="urn:app" a="1">\n      <app:y>t</app:y>\n    </app:x>\n' in written


def test_budget_with_fivefold_slack() -> None:
    from tests.bench.conf_documents import measure

    figures = {one.name: one.value for one in measure()}
    assert figures["conf.parse"] < 5 * 0.3
    assert figures["conf.write"] < 5 * 0.1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("<controller type='pci' index='0' model='pci-toor'/>", "Unknown model type 'pci-toor'"),
        ("<controller type='sata' model='ahci'/>", "Unknown model type 'ahci'"),
        (
            "<controller type='pci' index='256' model='pci-bridge'/>",
            "PCI controller index 256 too high, maximum is 255",
        ),
        ("<controller type='usb' index='2147483648'/>", "Expected integer value"),
        (
            "<disk type='file'><target dev='sda' bus='scsi'/><address type='drive' controller='4000000000'/></disk>",
            "scsi controller index 4000000000 too high",
        ),
    ],
)
def test_controllers_that_cannot_be_are_refused_at_once(device: str, message: str) -> None:
    with pytest.raises(VirtError, match=message):
        domain_of(device)
