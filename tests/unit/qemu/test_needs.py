"""What a definition needs of other drivers."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from actors.qemu.command.launch import MASTER_KEY, Options
from actors.qemu.needs import ask_ports, seal
from actors.runtime.ports import Ports
from conf.domain.documents import parse_domain
from conf.domain.interface import NetworkSource
from conf.domain.secrets import SecretRef
from conf.domain.storage_source import BlockSource, FileSource, VolumeSource
from schema.errors import ConfigUnsupported, HostSystemError

NUMBER = UUID("6f1d4f0e-1c4f-4a6e-9d0c-5f5d1b6f2b10")
DOCUMENT = f"""
<domain type='qemu'><name>a</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os><devices>
  <disk type='network' device='disk'><driver name='qemu' type='raw'/>
    <auth username='admin'><secret type='ceph' usage='client.admin'/></auth>
    <source protocol='rbd' name='pool/image'><host name='mon'/></source><target dev='vda' bus='virtio'/></disk>
  <disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='images' volume='one'>
    <encryption format='luks'><secret type='passphrase' uuid='{NUMBER}'/></encryption></source>
    <target dev='vdb' bus='virtio'/></disk>
  <disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='lvm' volume='two'/>
    <target dev='vdc' bus='virtio'/></disk>
  <interface type='network'><source network='default'/></interface>
</devices></domain>"""


class Keeper:
    """Answers for all three ports, and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def secret_value(self, *, uuid: UUID | None, usage_type: str, usage: str) -> bytes:
        self.asked.append((uuid, usage_type, usage))
        return b"by uuid" if uuid else b"by use"

    async def volume_path(self, pool: str, volume: str) -> str:
        return f"/dev/{pool}/{volume}" if pool == "lvm" else f"/srv/{pool}/{volume}"

    async def network_bridge(self, network: str) -> str:
        return f"br-{network}"


def opened(data: str, vector: str, key: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(base64.b64decode(vector))).decryptor()
    padded = decryptor.update(base64.b64decode(data)) + decryptor.finalize()
    return padded[: -padded[-1]]


@pytest.mark.parametrize("value", [b"", b"x", b"fifteen letters", b"sixteen letters!", bytes(1000)])
def test_what_is_sealed_opens_with_the_key_alone(value: bytes) -> None:
    data, vector = seal(value, bytes(range(32)), b"0123456789abcdef")
    assert opened(data, vector, bytes(range(32))) == value
    assert base64.b64decode(vector) == b"0123456789abcdef"


async def test_a_definition_gets_what_it_names(tmp_path: Path) -> None:
    (tmp_path / MASTER_KEY).write_bytes(bytes(32))
    domain, keeper = parse_domain(DOCUMENT), Keeper()
    needs = await ask_ports(domain, Ports(keeper, keeper, keeper), tmp_path, Options())
    assert sorted(keeper.asked, key=str) == sorted([(None, "ceph", "client.admin"), (NUMBER, "volume", "")], key=str)
    assert opened(*needs.sealed(SecretRef(uuid=NUMBER)), bytes(32)) == b"by uuid"
    assert opened(*needs.sealed(SecretRef(type="ceph", usage="client.admin")), bytes(32)) == b"by use"
    places = [needs.volume(disk.source) for disk in domain.devices.disks if isinstance(disk.source, VolumeSource)]
    assert isinstance(places[0], FileSource)
    assert places[0].file == "/srv/images/one"
    assert isinstance(places[1], BlockSource)
    assert places[1].dev == "/dev/lvm/two"
    source = domain.devices.interfaces[0].source
    assert isinstance(source, NetworkSource)
    assert source.bridge == "br-default"


async def test_what_was_not_asked_for_is_not_given(tmp_path: Path) -> None:
    keeper = Keeper()
    needs = await ask_ports(parse_domain(DOCUMENT), Ports(keeper, keeper, keeper), tmp_path, Options())
    with pytest.raises(ConfigUnsupported, match="not available"):
        needs.sealed(SecretRef(uuid=UUID(int=5)))
    with pytest.raises(ConfigUnsupported, match="storage pool 'none'"):
        needs.volume(VolumeSource(pool="none", volume="x"))
    with pytest.raises(HostSystemError, match=MASTER_KEY):
        needs.sealed(SecretRef(uuid=NUMBER))


async def test_the_keys_of_certificates_are_asked_for_where_they_are_used(tmp_path: Path) -> None:
    options = Options(vnc_tls=True, vnc_tls_secret=str(UUID(int=1)), chardev_tls_secret=str(UUID(int=2)))
    options = replace(options, nbd_tls=True, nbd_tls_secret=str(UUID(int=3)))
    parts = """<graphics type='vnc' port='-1'/><video><model type='vga'/></video>
      <serial type='tcp'><source mode='bind' host='::1' service='1' tls='{chardev}'/></serial>
      <disk type='network'><source protocol='nbd' name='x'{nbd}><host name='y'/></source>
        <target dev='vdz' bus='virtio'/></disk></devices>"""
    for chardev, nbd, numbers in (("yes", "", {1, 2, 3}), ("no", " tls='no'", {1})):
        keeper = Keeper()
        document = DOCUMENT.replace("</devices>", parts.format(chardev=chardev, nbd=nbd))
        await ask_ports(parse_domain(document), Ports(keeper, keeper, keeper), tmp_path, options)
        assert {(UUID(int=number), "tls", "") for number in numbers} <= set(keeper.asked)
        assert len({one for one in keeper.asked if one[1] == "tls"}) == len(numbers)
