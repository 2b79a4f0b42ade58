"""The driver's documents against libvirt's own schemas, with the emulator of this host."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from actors.qemu.driver import QemuActor
from schema.errors import InvalidArguments
from tests.contract.house import open_house
from tests.real.guest import needs_qemu
from tests.real.test_qemu_guests import SCOPE, Subject

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SCHEMAS: Final = Path("/usr/share/libvirt/schemas")


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def check(name: str, text: str) -> etree._Element:
    """The document, if it is valid. Debian's package libvirt0 brings the schemas."""
    path = SCHEMAS / f"{name}.rng"
    assert path.exists(), f"'{path}' is not installed (Debian: libvirt0)"
    node = etree.fromstring(text)
    schema = etree.RelaxNG(etree.parse(str(path)))
    assert schema.validate(node), schema.error_log
    return node


async def test_capabilities_are_valid_and_name_the_emulator(root: Path) -> None:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root) as house:
        text = (await house.call("connect_get_capabilities")).capabilities
        # libvirt writes sse4.1 and its like, which its own schema of a host's features does not know
        node = check("capability", re.sub(r"<feature name='[^']*\.[^']*'/>", "", text))
        assert "/usr/bin/qemu-system-x86_64" in node.xpath("//emulator/text()")
        assert "q35" in node.xpath("//guest/arch[@name='x86_64']/machine/text()")


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_domain_capabilities_are_valid(machine: str, root: Path) -> None:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root) as house:
        arguments = {"emulatorbin": None, "arch": "x86_64", "machine": machine, "virttype": "qemu", "flags": 0}
        text = (await house.call("connect_get_domain_capabilities", **arguments)).capabilities
        node = check("domaincaps", text)
        assert node.findtext("machine", "").startswith("pc-q35-" if machine == "q35" else "pc-i440fx-")
        assert "virtio" in node.xpath("//disk/enum[@name='bus']/value/text()")
        assert node.xpath("//cpu/mode[@name='custom']/model/text()")
        with pytest.raises(InvalidArguments):
            await house.call("connect_get_domain_capabilities", **{**arguments, "machine": "toaster"})


async def test_definitions_of_running_and_resting_guests_are_valid(root: Path) -> None:
    needs_qemu()
    guest = Subject(
        root,
        "<interface type='user'><model type='virtio'/></interface><graphics type='vnc' autoport='yes'/>"
        "<video><model type='vga'/></video><input type='tablet' bus='usb'/><memballoon model='virtio'/>",
        boots=False,
    )
    async with open_house(QemuActor(), SCOPE, root) as house, guest.running(house):
        live = check("domain", await guest.xml_desc(house))
        assert live.get("id") == "1"
        check("domain", await guest.xml_desc(house, 2))
        again = await house.call("domain_define_xml_flags", xml=await guest.xml_desc(house, 2), flags=0)
        assert again.dom.uuid == guest.uuid.bytes
        assert await guest.xml_desc(house, 2) == await guest.xml_desc(house, 2)
