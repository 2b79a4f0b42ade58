"""What an operator sets of the QEMU driver, at a real guest: displays, and certificates whose keys have passwords."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from actors.qemu.driver import QemuActor
from actors.runtime.configured_ports import configured_ports
from schema.errors import NoSuchSecret
from schema.objects import DomainRef
from tests.contract.house import House, open_house
from tests.real.guest import needs_qemu
from tests.real.houses import SCOPE, do, root
from tests.real.test_qemu_migration_tls import certificates

__all__ = ["root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

SECRET = UUID("0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f")
PORTS = (5971, 5979)
VENCRYPT = 19  # a security type of RFB
DEVICES = """<graphics type='vnc' port='-1'/><video><model type='vga'/></video>
<serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/></serial>"""
NUMBER = UUID("7d2c6f0e-93a1-4a55-8c12-5a0c4e1f9a77")
GUEST = DomainRef(name="settled", uuid=NUMBER.bytes)
XML = f"""<domain type='qemu'><name>settled</name><uuid>{NUMBER}</uuid><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{DEVICES}</devices></domain>"""


def seal_key(path: Path, password: str) -> None:
    plain = path.read_bytes()
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{password}", "-out", str(path)],
        input=plain,
        check=True,
        capture_output=True,
    )


@pytest.fixture
async def house(root: Path) -> AsyncIterator[House]:
    needs_qemu()
    pki = certificates(root, "one")
    seal_key(pki / "server-key.pem", "open")
    (root / "password").write_text("visitor\n")
    async with open_house(QemuActor(), SCOPE, root / "o") as house:
        config = house.runtime.config
        qemu = dataclasses.replace(
            config.qemu,
            tls_folder=str(pki),
            tls_secret=str(SECRET),
            vnc_tls=True,
            vnc_tls_folder=str(pki),
            vnc_password_file=str(root / "password"),
            chardev_tls=True,
            chardev_tls_folder=str(pki),
            display_ports=PORTS,
            process_names=True,
        )
        house.runtime.config = dataclasses.replace(config, qemu=qemu)
        (root / "key").write_text("open")
        house.host.needed = configured_ports({str(SECRET): str(root / "key")}, {}, {}, house.runtime.in_thread)
        yield house


async def security_types(port: int) -> list[int]:
    """How a display lets clients in (RFC 6143, 7.1.2)."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(await reader.readexactly(12))
            return list(await reader.readexactly((await reader.readexactly(1))[0]))
        finally:
            writer.close()


async def test_a_host_says_how_its_guests_are_reached(house: House) -> None:
    await do(house, "domain_define_xml_flags", xml=XML, flags=0)
    await do(house, "domain_create_with_flags", dom=GUEST, flags=0)
    running = house.host.guests[GUEST.uuid]
    display = running.live.devices.graphics[0]
    assert display.port is not None
    assert PORTS[0] <= display.port <= PORTS[1]
    assert await security_types(display.port) == [VENCRYPT]
    words = Path(f"/proc/{running.need_run().pid}/cmdline").read_bytes()
    assert b"process=qemu:" in words
    assert b"tls-creds=objcharserial0_tls0" in words
    assert b"visitor" not in words
    told = {one["name"] for one in await running.ask("qom-list", {"path": "/objects"})}
    assert {"vnc-tls-creds0", "objcharserial0_tls0"} <= told
    await do(house, "domain_destroy_flags", dom=GUEST, flags=0)
    assert display.port not in house.host.ports


async def test_a_key_whose_password_nobody_knows_is_refused_before_anything_runs(house: House) -> None:
    house.host.needed = configured_ports({}, {}, {}, house.runtime.in_thread)
    await do(house, "domain_define_xml_flags", xml=XML, flags=0)
    with pytest.raises(NoSuchSecret):
        await do(house, "domain_create_with_flags", dom=GUEST, flags=0)
    assert not house.host.guests[GUEST.uuid].is_active
    assert not house.host.ports
