"""Secrets, volumes and networks that the host's configuration names, with real QEMU."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.process.agent import Agent
from tests.real.guest import needs_qemu, qemu_pid

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

URI = "qemu:///system"
PASSPHRASE = "a passphrase that is on no command line"
SECRET = uuid.UUID("6f1d4f0e-1c4f-4a6e-9d0c-5f5d1b6f2b10")
OTHER = uuid.UUID("7f1d4f0e-1c4f-4a6e-9d0c-5f5d1b6f2b10")


def document(name: str, identity: uuid.UUID, devices: str) -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
    )


def luks_disk(path: Path, secret: uuid.UUID) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'>"
        f"<encryption format='luks'><secret type='passphrase' uuid='{secret}'/></encryption></source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def make_luks(folder: Path, image: Path) -> None:
    key = folder / "key"
    key.write_text(PASSPHRASE)
    (folder / "wrong").write_text("another one")
    words = [
        *("qemu-img", "create", "-q", "-f", "luks", "--object", f"secret,id=s,file={key}"),
        *("-o", "key-secret=s,iter-time=100", str(image), "1M"),
    ]
    for _ in range(20):  # it gives up when the host's clock of processor time is too coarse for it
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


def test_an_encrypted_disk_opens_with_its_secret_alone(tmp_path: Path) -> None:
    needs_qemu()
    image = tmp_path / "secret.luks"
    make_luks(tmp_path, image)
    config = f'[qemu.secrets]\n"{SECRET}" = "{tmp_path}/key"\n"{OTHER}" = "{tmp_path}/wrong"\n'
    with Agent(config) as agent:
        identity = uuid.uuid4()
        right = tmp_path / "right.xml"
        right.write_text(document("right", identity, luks_disk(image, SECRET)))
        agent.run("-c", URI, "define", str(right))
        agent.run("-c", URI, "start", "right")
        pid = qemu_pid(identity)
        assert pid is not None
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"libvirt-1-format-encryption-secret0" in words
        assert PASSPHRASE.encode() not in words
        agent.run("-c", URI, "destroy", "right")
        for number, says in ((OTHER, "Invalid password"), (uuid.UUID(int=9), "no secret with matching uuid")):
            wrong = tmp_path / "wrong.xml"
            wrong.write_text(document("wrong", uuid.uuid4(), luks_disk(image, number)))
            failed = agent.run("-c", URI, "create", str(wrong), check=False)
            assert failed.returncode != 0
            assert says in failed.stderr
        assert [one["name"] for one in json.loads(agent.run("-c", URI, "--json", "list", "--all").stdout)] == ["right"]


def test_a_volume_is_found_in_its_pool(tmp_path: Path) -> None:
    needs_qemu()
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "one.img").write_bytes(bytes(1 << 20))
    with Agent(f'[qemu.pools]\nimages = "{pool}"\n') as agent:
        identity = uuid.uuid4()
        volume = tmp_path / "volume.xml"
        disk = (
            "<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
            "<source pool='images' volume='{}'/><target dev='vda' bus='virtio'/></disk>"
        )
        volume.write_text(document("volume", identity, disk.format("one.img")))
        agent.run("-c", URI, "define", str(volume))
        agent.run("-c", URI, "start", "volume")
        pid = qemu_pid(identity)
        assert pid is not None
        held = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
        assert str(pool / "one.img") in held
        assert "<source pool='images' volume='one.img'" in agent.run("-c", URI, "dumpxml", "volume").stdout
        agent.run("-c", URI, "destroy", "volume")
        volume.write_text(document("absent", uuid.uuid4(), disk.format("two.img")))
        failed = agent.run("-c", URI, "create", str(volume), check=False)
        assert "no storage vol with matching name 'two.img'" in failed.stderr


def test_a_connection_without_vlans_is_refused_at_the_start(tmp_path: Path) -> None:
    needs_qemu()
    with Agent() as agent:
        tagged = tmp_path / "tagged.xml"
        card = "<interface type='user'><vlan><tag id='5'/></vlan><model type='virtio'/></interface>"
        tagged.write_text(document("tagged", uuid.uuid4(), card))
        failed = agent.run("-c", URI, "create", str(tagged), check=False)
        assert failed.returncode != 0
        assert "vlan tag not supported for this connection type" in failed.stderr
