"""An unmodified virsh with a guest's images: jobs with their progress, snapshots as a tree, a backup and its event."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.real.guest import needs_qemu, qemu_pid
from tests.real.virsh_session import need_virsh, virsh_session

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]

URI = "qemu:///system"


class Shell:
    """virsh, and a running guest with one disk."""

    def __init__(self, house: GatewayHouse, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.uuid = uuid4()
        self.name = f"vi-{self.uuid.hex[:8]}"
        self.disk = folder / "a.qcow2"

    def says(self, *arguments: str) -> str:
        """What virsh prints."""
        run = self.house.virsh(*arguments, uri=self.house.uri(URI))
        assert run.returncode == 0, f"virsh {' '.join(arguments)}: {run.stderr}"
        return run.stdout

    def refuses(self, *arguments: str) -> str:
        """What virsh complains about."""
        run = self.house.virsh(*arguments, uri=self.house.uri(URI))
        assert run.returncode, f"virsh {' '.join(arguments)} is taken: {run.stdout}"
        return run.stderr

    def start(self) -> None:
        """Defines the guest and starts it."""
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.disk), "8M"], check=True, timeout=30)
        document = self.folder / "guest.xml"
        document.write_text(
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>32</memory>"
            "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{self.disk}'/>"
            "<target dev='vda' bus='virtio'/></disk></devices></domain>",
            encoding="utf-8",
        )
        self.says("define", str(document))
        self.says("start", self.name)


@pytest.fixture
def shell() -> Iterator[Shell]:
    need_virsh()
    needs_qemu()
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as folder, gateway_house("", "qemu") as house:
        shell = Shell(house, Path(folder))
        try:
            shell.start()
            yield shell
        finally:
            pid = qemu_pid(shell.uuid)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            house.show_logs("qemu")


def test_snapshots_are_a_tree_and_go_again(shell: Shell) -> None:
    name = shell.name
    assert "Domain snapshot s1 created" in shell.says("snapshot-create-as", name, "s1")
    assert "Domain snapshot d1 created" in shell.says("snapshot-create-as", name, "d1", "--disk-only")
    assert shell.says("snapshot-list", name, "--tree").split() == ["s1", "|", "+-", "d1"]
    assert "disk-snapshot" in shell.says("snapshot-list", name, "--external")
    assert str(shell.folder / "a.d1") in shell.says("domblklist", name)
    assert "revert to external snapshot not supported yet" in shell.refuses("snapshot-revert", name, "d1")
    shell.says("snapshot-delete", name, "d1")
    assert str(shell.disk) in shell.says("domblklist", name)
    shell.says("snapshot-revert", name, "s1")
    assert "running (from snapshot)" in shell.says("domstate", name, "--reason")
    shell.says("destroy", name)
    assert "cannot delete inactive domain with 1 snapshots" in shell.refuses("undefine", name)
    shell.says("undefine", name, "--snapshots-metadata")


def test_jobs_are_waited_for_and_pivoted(shell: Shell) -> None:
    name = shell.name
    shell.says("snapshot-create-as", name, "x", "--disk-only", "--no-metadata")
    assert "Successfully pivoted" in shell.says("blockcommit", name, "vda", "--active", "--pivot", "--wait")
    copy = shell.folder / "copy.qcow2"
    said = shell.says("blockcopy", name, "vda", "--dest", str(copy), "--transient-job", "--wait", "--pivot")
    assert "Successfully pivoted" in said
    assert str(copy) in shell.says("domblklist", name)
    assert "No current block job for vda" in shell.says("blockjob", name, "vda")


def test_a_backup_with_its_checkpoint_tells_that_it_is_complete(shell: Shell) -> None:
    name, target = shell.name, shell.folder / "full.qcow2"
    backup, checkpoint = shell.folder / "backup.xml", shell.folder / "checkpoint.xml"
    backup.write_text(
        f"<domainbackup><disks><disk name='vda' type='file'><target file='{target}'/></disk></disks></domainbackup>",
        encoding="utf-8",
    )
    checkpoint.write_text("<domaincheckpoint><name>ck1</name></domaincheckpoint>", encoding="utf-8")
    assert "Backup started" in shell.says("backup-begin", name, str(backup), str(checkpoint))
    for _ in range(100):
        if "Backup" in shell.says("domjobinfo", name, "--completed", "--keep-completed"):
            break
    assert "ck1" in shell.says("checkpoint-list", name)
    assert "no domain backup job present" in shell.refuses("backup-dumpxml", name)
    subprocess.run(["qemu-img", "check", "-q", str(target)], check=True, timeout=30)
    with virsh_session(shell.house.uri(URI), "event", name, "job-completed", "--timeout", "120") as events:
        # virsh does not say when it listens: it is told again until it hears
        for number in range(30):
            backup.write_text(backup.read_text(encoding="utf-8").replace(".qcow2", f"{number}.qcow2"), "utf-8")
            shell.says("backup-begin", name, str(backup))
            with contextlib.suppress(AssertionError):
                events.wait_for("disk_remaining: 0", 3)
                break
        assert "operation: 9" in events.output
