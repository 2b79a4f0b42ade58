"""Pieces of command lines that no recorded one shows, and the rules that they follow."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from actors.qemu.command.blockdev import disk_nodes, guest_write_cache, number_images
from actors.qemu.command.build import build_command, marker_of
from actors.qemu.command.launch import Launch, Options, boot_indexes
from actors.qemu.command.line import NULL, comma_doubled, json_text
from actors.qemu.prepare import Places, align_memory, prepare_domain
from actors.qemu.rules import QemuRules
from conf.domain.disk import DiskCache
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported
from tests.conformance.qemu_launch import RecordedHost, RecordedPorts
from tests.unit.qemu.emulators import capabilities


def domain_of(devices: str = "", *, top: str = "", os: str = "", kind: str = "qemu", machine: str = "pc") -> Domain:
    xml = (
        f"<domain type='{kind}'><name>web,1</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
        f"<memory unit='MiB'>128</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>"
        f"{top}<devices>{devices}</devices></domain>"
    )
    return parse_domain(xml, QemuRules(capabilities()), ParseFlags.INACTIVE)


def launch_of(domain: Domain, **options: object) -> Launch:
    folder = Path("/run/vt/domain-1-web")
    host = RecordedHost()
    places = Places(folder=folder, channels=Path("/run/vt/channel"))
    prepare_domain(domain, QemuRules(capabilities()), places, RecordedPorts(), host.render_node)
    return Launch(domain, capabilities(), Options(**options), folder, host, 9)  # type: ignore[arg-type]


def words_of(domain: Domain, **options: object) -> list[str]:
    return build_command(launch_of(domain, **options)).words


def after(words: list[str], option: str) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == option]


DISKS = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/a'/>"
    "<backingStore type='file'><format type='raw'/><source file='/base'/><backingStore/></backingStore>"
    "<target dev='vda' bus='virtio'/></disk>"
    "<disk type='file' device='cdrom'><source file='/b'/><target dev='hda' bus='ide'/><readonly/></disk>"
)


def test_json_leaves_out_what_is_not_said_and_keeps_a_null() -> None:
    assert json_text({"a": None, "b": NULL, "c": [1, True]}) == '{"b":null,"c":[1,true]}'
    assert comma_doubled("a,b") == "a,,b"


def test_images_are_numbered_from_the_last_disk_and_down_each_chain() -> None:
    domain = domain_of(DISKS)
    assert number_images(domain) == 3
    first, second = domain.devices.disks
    assert first.target.dev == "vda" and first.source is not None and second.source is not None
    assert (second.source.index, first.source.index) == (1, 2)
    assert first.backing_store is not None and first.backing_store.index == 3


def test_the_deepest_image_comes_first_and_names_its_place() -> None:
    domain = domain_of(DISKS)
    launch = launch_of(domain)
    nodes = disk_nodes(launch, domain.devices.disks[0])
    assert [node.name for node in nodes] == ["libvirt-3-format", "libvirt-2-format"]
    top = nodes[1].steps[-1][1]
    assert top["backing"] == "libvirt-3-format" and top["cache"] == {"direct": True, "no-flush": False}
    assert top["read-only"] is False and nodes[0].steps[-1][1]["read-only"] is True


@pytest.mark.parametrize(
    ("mode", "said"),
    [(None, None), (DiskCache.DEFAULT, None), (DiskCache.WRITETHROUGH, "off"), (DiskCache.UNSAFE, "on")],
)
def test_the_guest_hears_of_a_write_cache_when_the_mode_is_chosen(mode: DiskCache | None, said: str | None) -> None:
    assert guest_write_cache(mode) == said


def test_boot_devices_give_the_first_of_each_kind_its_turn() -> None:
    domain = domain_of(DISKS, os="<boot dev='cdrom'/><boot dev='hd'/>")
    turns = boot_indexes(domain)
    first, second = domain.devices.disks
    assert (turns[id(second)], turns[id(first)]) == (1, 2)


def test_a_name_with_a_comma_stays_one_name() -> None:
    assert after(words_of(domain_of()), "-name") == ["guest=web,,1,debug-threads=on"]


def test_the_marker_is_a_word_of_the_command_line() -> None:
    assert marker_of(Path("/run/vt/domain-1-web")) in words_of(domain_of())


def test_kvm_and_tcg() -> None:
    assert after(words_of(domain_of()), "-accel") == ["tcg"]
    assert after(words_of(domain_of(kind="kvm")), "-accel") == ["kvm"]
    with pytest.raises(ConfigUnsupported, match="host-passthrough"):
        words_of(domain_of(top="<cpu mode='host-passthrough'/>"))
    assert after(words_of(domain_of(kind="kvm", top="<cpu mode='host-passthrough'/>")), "-cpu")[0].startswith("host")


def test_newer_emulators_have_acpi_as_an_option_of_the_machine() -> None:
    domain = domain_of()
    launch = launch_of(domain)
    assert "-no-acpi" in build_command(launch).words
    launch.caps = msgspec.structs.replace(launch.caps, version=(9, 0, 0))
    words = build_command(launch).words
    assert "-no-acpi" not in words and ",acpi=off" in after(words, "-machine")[0]


def test_a_kernel_is_booted_directly() -> None:
    words = words_of(domain_of(os="<kernel>/k</kernel><initrd>/i</initrd><cmdline>console=ttyS0 a,b</cmdline>"))
    assert (after(words, "-kernel"), after(words, "-initrd"), after(words, "-append")) == (
        ["/k"],
        ["/i"],
        ["console=ttyS0 a,b"],
    )


def test_memory_is_rounded_up_to_what_the_emulator_is_told() -> None:
    domain = domain_of()
    domain.memory.kib = 100_001
    align_memory(domain)
    assert domain.memory.kib == 98 * 1024


def test_a_vnc_display_gets_a_port_and_an_address() -> None:
    domain = domain_of("<graphics type='vnc' autoport='yes'/>")
    words = words_of(domain)
    assert after(words, "-vnc")[0].startswith("127.0.0.1:0")
    assert domain.devices.graphics[0].port == 5900


def test_a_display_with_a_password_lets_nobody_in_before_it_is_set() -> None:
    words = words_of(domain_of("<graphics type='vnc' autoport='yes' passwd='secret'/>"))
    assert ",password=on" in after(words, "-vnc")[0]
    assert not any("secret" in word for word in words if "masterKey0" not in word)


def test_an_agents_channel_gets_a_socket_of_its_own() -> None:
    domain = domain_of("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
    words = words_of(domain)
    source = domain.devices.channels[0].source
    assert getattr(source, "path", None) == "/run/vt/channel/domain-1-web/org.qemu.guest_agent.0"
    assert any("virtserialport" in word for word in after(words, "-device"))


def test_older_emulators_take_the_same_as_words() -> None:
    domain = domain_of(DISKS)
    launch = launch_of(domain)
    launch.caps = msgspec.structs.replace(launch.caps, flags=launch.caps.flags - {"device.json+hotplug"})
    words = build_command(launch).words
    disk = next(word for word in after(words, "-device") if word.startswith("virtio-blk-pci,"))
    assert ",drive=libvirt-2-format,id=virtio-disk0," in disk and disk.endswith("write-cache=on")
    assert after(words, "-object")[0].startswith("{"), "each option is told apart"


def test_properties_that_the_user_sets_replace_ours() -> None:
    override = """<qemu:override xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <qemu:device alias='virtio-disk0'><qemu:frontend>
        <qemu:property name='drive' type='remove'/><qemu:property name='queue-size' type='unsigned' value='8'/>
        <qemu:property name='x' type='bool' value='true'/></qemu:frontend></qemu:device></qemu:override>"""
    words = words_of(domain_of(DISKS, top=override))
    disk = next(json.loads(word) for word in after(words, "-device") if '"virtio-disk0"' in word)
    assert "drive" not in disk and disk["queue-size"] == 8 and disk["x"] is True


def test_flags_that_the_user_takes_away_are_gone() -> None:
    corrected = """<qemu:capabilities xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <qemu:del capability='device.json+hotplug'/></qemu:capabilities>"""
    words = words_of(domain_of(DISKS, top=corrected))
    assert any(word.startswith("virtio-blk-pci,") for word in after(words, "-device"))


def test_cookies_are_sealed() -> None:
    disk = """<disk type='network' device='cdrom'><source protocol='http' name='a.iso'><host name='h' port='80'/>
      <cookies><cookie name='a'>1</cookie><cookie name='b'>2</cookie></cookies></source>
      <target dev='hda' bus='ide'/><readonly/></disk>"""
    words = words_of(domain_of(disk))
    sealed = next(json.loads(word) for word in after(words, "-object") if "httpcookie" in word)
    storage = json.loads(after(words, "-blockdev")[0])
    assert storage["cookie-secret"] == sealed["id"] == "libvirt-1-storage-httpcookie-secret0"
    assert "a=1" not in " ".join(words)


def test_a_spice_display_without_a_password_lets_everybody_in() -> None:
    with_spice = msgspec.structs.replace(capabilities(), flags=capabilities().flags | {"spice"})

    rules = QemuRules(with_spice)

    def shown(attributes: str) -> str:
        display = f"<graphics type='spice' autoport='yes'{attributes}/>"
        domain = parse_domain(domain_of().to_xml().replace("</devices>", f"{display}</devices>"), rules)
        folder, host = Path("/run/vt/domain-1-web"), RecordedHost()
        prepare_domain(
            domain, rules, Places(folder=folder, channels=Path("/run/vt/channel")), RecordedPorts(), host.render_node
        )
        return after(build_command(Launch(domain, with_spice, Options(), folder, host, 9)).words, "-spice")[0]

    assert "disable-ticketing=on" in shown("")
    assert "disable-ticketing" not in shown(" passwd='secret'")
