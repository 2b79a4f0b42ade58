"""Checkpoints and backups of the QEMU driver over QEMU itself: what is backed up is restored and compared."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schema.errors import (
    ConfigUnsupported,
    InvalidArguments,
    NoSuchBackup,
    NoSuchCheckpoint,
    OperationFailed,
    OperationUnsupported,
)
from schema.objects import DomainCheckpointRef
from tests.contract.house import House
from tests.real.test_qemu_block import Still, disk_xml, holds
from tests.real.test_qemu_guests import driver, root, run, until
from tests.real.test_qemu_migration_tls import certificates

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
__all__ = ["root"]


async def one_disk(root: Path, name: str = "a.qcow2", megabytes: int = 8) -> Path:
    path = root / name
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{megabytes}M")
    await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 1M", str(path))
    return path


async def write(house: House, guest: Still, letter: int, place: int) -> None:
    """Writes a megabyte as the guest would, through QEMU's own block layer."""
    device = "/machine/peripheral/virtio-disk0/virtio-backend"
    line = f'qemu-io -d {device} "write -P {letter} {place}M 1M"'
    told = await house.host.guest(guest.ref).ask("human-monitor-command", {"command-line": line})
    assert told == "", told


def checkpoint_xml(name: str) -> str:
    return f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"


def completed(house: House) -> list[dict[str, Any]]:
    return [
        {
            one["field"] if isinstance(one, dict) else one[0]: one["value"] if isinstance(one, dict) else one[1]
            for one in record["data"]["params"]
        }
        for record in house.broker.records
        if record["kind"] == "domain_event_job_completed"
    ]


async def test_checkpoints_are_a_tree_with_sizes(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk) + "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>")
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        make = {"dom": guest.ref, "flags": 0}
        with pytest.raises(OperationUnsupported, match="cannot create checkpoint for inactive domain"):
            await house.call("domain_checkpoint_create_xml", **make, xml_desc=checkpoint_xml("ck1"))
    async with driver(root, epoch=2) as house, guest.paused(house, persistent=True):
        await house.call("domain_checkpoint_create_xml", **make, xml_desc=checkpoint_xml("ck1"))
        with pytest.raises(OperationFailed, match="domain moment ck1 already exists"):
            await house.call("domain_checkpoint_create_xml", **make, xml_desc=checkpoint_xml("ck1"))
        bad = "<domaincheckpoint><name>b</name><disks><disk name='sda' checkpoint='bitmap'/></disks></domaincheckpoint>"
        with pytest.raises(ConfigUnsupported, match="disk 'sda' is empty or readonly"):
            await house.call("domain_checkpoint_create_xml", **make, xml_desc=bad)
        await write(house, guest, 66, 1)
        await house.call("domain_checkpoint_create_xml", **make, xml_desc=checkpoint_xml("ck2"))
        ck1, ck2 = DomainCheckpointRef("ck1", guest.ref), DomainCheckpointRef("ck2", guest.ref)
        told = await house.call("domain_checkpoint_get_xml_desc", checkpoint=ck1, flags=2 | 4)
        assert "<disk name='vda' checkpoint='bitmap' bitmap='ck1' size='1048576'/>" in told.xml
        assert "<domain " not in told.xml
        parent = await house.call("domain_checkpoint_get_parent", checkpoint=ck2, flags=0)
        assert parent.parent.name == "ck1"
        await house.call(
            "domain_snapshot_create_xml",
            dom=guest.ref,
            flags=16,
            xml_desc="<domainsnapshot><name>s1</name></domainsnapshot>",
        )
        await write(house, guest, 67, 2)
        told = await house.call("domain_checkpoint_get_xml_desc", checkpoint=ck1, flags=2 | 4)
        assert "size='2097152'" in told.xml, "the recording goes on above the snapshot"
        await house.call("domain_checkpoint_delete", checkpoint=ck1, flags=0)
        told = await house.call("domain_list_all_checkpoints", dom=guest.ref, need_results=1, flags=0)
        assert [one.name for one in told.checkpoints] == ["ck2"]
        nodes = await house.host.guest(guest.ref).ask("query-named-block-nodes", {"flat": True})
        assert not [one for one in nodes for bitmap in one.get("dirty-bitmaps", ()) if bitmap["name"] == "ck1"]


async def test_pushed_full_and_since_a_checkpoint(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    full, part = root / "full.qcow2", root / "part.qcow2"
    push = "<domainbackup>{}<disks><disk name='vda' type='file'><target file='{}'/></disk></disks></domainbackup>"
    async with driver(root) as house, guest.paused(house, persistent=True):
        begin = {"dom": guest.ref, "flags": 0}
        with pytest.raises(NoSuchBackup, match="no domain backup job present"):
            await house.call("domain_backup_get_xml_desc", dom=guest.ref, flags=0)
        await house.call(
            "domain_backup_begin", **begin, backup_xml=push.format("", full), checkpoint_xml=checkpoint_xml("ck1")
        )
        await until("it is complete", lambda: len(completed(house)) == 1, 30)
        await write(house, guest, 66, 1)
        with pytest.raises(InvalidArguments, match="exists"):
            await house.call("domain_backup_begin", **begin, backup_xml=push.format("", full), checkpoint_xml=None)
        since = "<incremental>ck1</incremental>"
        with pytest.raises(NoSuchCheckpoint, match="Checkpoint 'nosuch' for incremental backup of disk 'vda'"):
            bad = push.format("<incremental>nosuch</incremental>", part)
            await house.call("domain_backup_begin", **begin, backup_xml=bad, checkpoint_xml=None)
        await house.call(
            "domain_backup_begin",
            **begin,
            backup_xml=push.format(since, part),
            checkpoint_xml=checkpoint_xml("ck2"),
        )
        await until("it is complete", lambda: len(completed(house)) == 2, 30)
        stats = await house.call("domain_get_job_stats", dom=guest.ref, flags=1)
        values = {one.field: one.value for one in stats.params}
        assert values["operation"] == 9 and values["disk_remaining"] == 0 and values["success"] in (True, 1)
    await holds(full, "A ")
    await holds(part, " B")
    await run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", str(full), "-F", "qcow2", str(part))
    await run("qemu-img", "compare", "-q", str(part), str(disk))


def fetch(socket: Path, name: str, target: Path) -> None:
    subprocess.run(
        ["qemu-img", "convert", "-q", "-O", "qcow2", f"nbd+unix:///{name}?socket={socket}", str(target)],
        check=True,
        timeout=30,
        capture_output=True,
    )


async def test_pulled_over_nbd_is_of_its_moment(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    socket, fetched = root / "nbd.sock", root / "fetched.qcow2"
    pull = (
        f"<domainbackup mode='pull'>{{}}<server transport='unix' socket='{socket}'/><disks>"
        f"<disk name='vda' type='file'><scratch file='{root}/scratch.qcow2'/></disk></disks></domainbackup>"
    )
    async with driver(root) as house, guest.paused(house, persistent=True):
        begin = {"dom": guest.ref, "flags": 0}
        await house.call(
            "domain_backup_begin", **begin, backup_xml=pull.format(""), checkpoint_xml=checkpoint_xml("ck1")
        )
        xml = (await house.call("domain_backup_get_xml_desc", dom=guest.ref, flags=0)).xml
        assert "backupmode='full' exportname='vda' index='2'>" in xml
        await write(house, guest, 66, 0)
        await asyncio.to_thread(fetch, socket, "vda", fetched)
        info = await house.call("domain_get_job_info", dom=guest.ref)
        assert info.type == 2
        await house.call("domain_abort_job", dom=guest.ref)
        await until("it is over", lambda: len(completed(house)) == 1, 30)
        assert not (root / "scratch.qcow2").exists() and not socket.exists()
        since = "<incremental>ck1</incremental>"
        await house.call("domain_backup_begin", **begin, backup_xml=pull.format(since), checkpoint_xml=None)
        told = await asyncio.to_thread(
            subprocess.run,
            [
                "qemu-img",
                "map",
                "--output=json",
                "--image-opts",
                f"driver=nbd,export=vda,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:backup-vda",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert '"start": 0, "length": 1048576' in told.stdout and '"data": false' in told.stdout.splitlines()[0]
    async with driver(root, epoch=2) as house:
        assert await guest.state(house) == (5, 2)
    await holds(fetched, "A ")
    await holds(disk, "B ")


async def test_pulled_over_tls_by_whom_the_authority_knows(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    pki, fetched = certificates(root, "one"), root / "fetched.qcow2"
    pull = (
        "<domainbackup mode='pull'><server transport='tcp' tls='yes' name='127.0.0.1'/><disks>"
        f"<disk name='vda' type='file'><scratch file='{root}/scratch.qcow2'/></disk></disks></domainbackup>"
    )
    async with driver(root) as house, guest.paused(house, persistent=True):
        config = house.runtime.config
        qemu = dataclasses.replace(config.qemu, backup_tls_folder=str(pki))
        house.runtime.config = dataclasses.replace(config, qemu=qemu)
        await house.call("domain_backup_begin", dom=guest.ref, flags=0, backup_xml=pull, checkpoint_xml=None)
        xml = (await house.call("domain_backup_get_xml_desc", dom=guest.ref, flags=0)).xml
        port = re.search(r"port='(\d+)'", xml)
        assert port is not None
        image = f"driver=nbd,export=vda,server.type=inet,server.host=127.0.0.1,server.port={port[1]}"
        credentials = f"tls-creds-x509,id=t,endpoint=client,dir={pki}"
        fetch = ["qemu-img", "convert", "-q", "-O", "qcow2", "--object", credentials, "--image-opts"]
        with pytest.raises(subprocess.CalledProcessError):
            await run("qemu-img", "info", "--image-opts", image)
        await run(*fetch, f"{image},tls-creds=t", str(fetched))
        await house.call("domain_abort_job", dom=guest.ref)
        await until("it is over", lambda: len(completed(house)) == 1, 30)
        told = await house.host.guest(guest.ref).ask("qom-list", {"path": "/objects"})
        assert not [one for one in told if "tls" in one["name"]]
    await holds(fetched, "A ")


async def test_a_backup_outlives_the_driver(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    socket = root / "nbd.sock"
    pull = (
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks><disk name='vda' type='file'>"
        f"<scratch file='{root}/scratch.qcow2'/></disk></disks></domainbackup>"
    )
    async with driver(root) as house:
        await house.outcome(house.post("domain_create_xml", xml_desc=guest.xml, flags=1, deadline_s=60))
        await house.call("domain_backup_begin", dom=guest.ref, flags=0, backup_xml=pull, checkpoint_xml=None)
    async with driver(root, epoch=2) as house:
        try:
            assert "exportname='vda'" in (await house.call("domain_backup_get_xml_desc", dom=guest.ref, flags=0)).xml
            await asyncio.to_thread(fetch, socket, "vda", root / "fetched.qcow2")
            await house.call("domain_abort_job", dom=guest.ref)
            await until("it is over", lambda: len(completed(house)) == 1, 30)
            with pytest.raises(NoSuchBackup):
                await house.call("domain_backup_get_xml_desc", dom=guest.ref, flags=0)
        finally:
            await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
    await holds(root / "fetched.qcow2", "A ")
