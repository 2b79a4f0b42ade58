"""Changes of guests that tests cut short, and a guest that has one of everything that may be left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schema.objects import DomainCheckpointRef, DomainSnapshotRef
from settings.qemu import QemuSettings
from tests.real.networks import BRIDGE, LINK
from tests.real.test_qemu_block import Still
from tests.real.test_qemu_guests import run

SETTINGS: Final = QemuSettings(user="+64055", group="+64055")
FIRST: Final = (1234, 1235)
"""Whose images are while no guest has them."""

Caller = Callable[..., Awaitable[Any]]
ATTACH, DETACH, UPDATE = (f"domain_{one}_device_flags" for one in ("attach", "detach", "update"))
LIVE, BOTH = 1, 3
_SCSI: Final = "<controller type='scsi' index='0' model='virtio-scsi'/>"


class Furnished(Still):
    """A guest with links on a bridge and on a link, control groups, a TPM, leases, a display, and images of its own."""

    def __init__(self, root: Path, *, firmware: bool = False, more: str = "") -> None:
        self.disk, self.root = root / "a.qcow2", root
        devices = (
            disk(self.disk)
            + _SCSI
            + "<controller type='virtio-serial' index='0'/>"
            + nic("bridge", f"bridge='{BRIDGE}'", 1)
            + nic("direct", f"dev='{LINK}' mode='bridge'", 2)
            + "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
            + "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            + "<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>"
            + f"<disk type='file' device='cdrom'><source file='{root}/old.iso'/><target dev='sda' bus='sata'/></disk>"
            + f"<lease><key>own</key><target path='{root}'/></lease>"
            + more
        )
        super().__init__(root, devices)
        self.xml = (
            self.xml.replace("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu><iothreads>1</iothreads>")
            .replace("<os>", f"<memtune><hard_limit unit='GiB'>2</hard_limit></memtune>{_TUNE}<os>")
            .replace(
                "<memory unit='MiB'>128</memory>",
                "<maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit='MiB'>128</memory>"
                "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
            )
            .replace(
                "<features>", "<cpu><numa><cell id='0' cpus='0-1' memory='128' unit='MiB'/></numa></cpu><features>"
            )
        )
        if firmware:
            self.xml = self.xml.replace("<os>", "<os firmware='efi'>").replace("machine='pc'", "machine='q35'")

    async def make_images(self) -> None:
        """Its images, as somebody else's."""
        await run("qemu-img", "create", "-q", "-f", "qcow2", str(self.disk), "2M")
        await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 1M", str(self.disk))
        for name in ("b.raw", "old.iso", "new.iso"):
            (self.root / name).write_bytes(b"\0" * 65536)
        (self.root / "shared").mkdir()
        for path in (self.disk, *(self.root / name for name in ("b.raw", "old.iso", "new.iso"))):
            os.chown(path, *FIRST)


_TUNE: Final = "<cputune><shares>512</shares></cputune>"


def disk(path: Path, form: str = "qcow2", target: str = "vda", bus: str = "virtio") -> str:
    """A disk over a file."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{form}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='{bus}'/></disk>"
    )


def nic(kind: str, source: str, number: int) -> str:
    """An interface."""
    return (
        f"<interface type='{kind}'><mac address='52:54:00:11:22:{number:02x}'/><source {source}/>"
        "<model type='virtio'/></interface>"
    )


@dataclass(frozen=True)
class Change:
    """A call that is cut short: what it is made of, and what is done before it."""

    procedure: str
    arguments: Callable[[Furnished], dict[str, Any]]
    before: tuple[str, ...] = ()
    """Preparations by name; a guest runs when `start` is among them."""
    is_transient: bool = False
    firmware: bool = False
    stays_between: bool = False
    """What was undone may be neither as before nor as after: a drive is empty then."""


def _plug(xml: Callable[[Furnished], str], *, flags: int = BOTH, procedure: str = ATTACH) -> Change:
    before: tuple[str, ...] = ("start",) if procedure != DETACH else ("start", "plug")
    return Change(procedure, lambda guest: {"dom": guest.ref, "xml": xml(guest), "flags": flags}, before)


def _snapshot(more: str, flags: int) -> Change:
    def arguments(guest: Furnished) -> dict[str, Any]:
        xml = f"<domainsnapshot><name>s1</name>{more.format(root=guest.root)}</domainsnapshot>"
        return {"dom": guest.ref, "xml_desc": xml, "flags": flags}

    return Change("domain_snapshot_create_xml", arguments, ("pause",))


def _dom(guest: Furnished) -> dict[str, Any]:
    return {"dom": guest.ref, "flags": 0}


def _created(guest: Furnished) -> dict[str, Any]:
    return {"xml_desc": guest.xml, "flags": 0}


def _saved(guest: Furnished) -> dict[str, Any]:
    return {"dom": guest.ref, "to": f"{guest.root}/memory", "dxml": None, "flags": 0}


def _restored(guest: Furnished) -> dict[str, Any]:
    return {"from": f"{guest.root}/memory", "dxml": None, "flags": 0}


def _reverted(guest: Furnished) -> dict[str, Any]:
    return {"snap": DomainSnapshotRef("s1", guest.ref), "flags": 0}


def _backup(guest: Furnished) -> dict[str, Any]:
    target = (
        f"<disk name='vda' type='file'><target file='{guest.root}/backup.qcow2'/></disk><disk name='sda' backup='no'/>"
    )
    return {
        "dom": guest.ref,
        "backup_xml": f"<domainbackup><disks>{target}</disks></domainbackup>",
        "checkpoint_xml": "<domaincheckpoint><name>ck1</name></domaincheckpoint>",
        "flags": 0,
    }


def _pull_backup(guest: Furnished) -> dict[str, Any]:
    store = f"<scratch file='{guest.root}/scratch.qcow2'/>"
    disks = f"<disk name='vda' type='file'>{store}</disk><disk name='sda' backup='no'/>"
    server = "<server transport='tcp' name='127.0.0.1' port='10999'/>"
    return {
        "dom": guest.ref,
        "backup_xml": f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>",
        "checkpoint_xml": None,
        "flags": 0,
    }


def _copy(guest: Furnished) -> dict[str, Any]:
    xml = f"<disk type='file'><driver type='qcow2'/><source file='{guest.root}/copy.qcow2'/></disk>"
    return {"dom": guest.ref, "path": "vda", "destxml": xml, "params": [], "flags": 4}


def _medium(guest: Furnished) -> str:
    return (
        f"<disk type='file' device='cdrom'><source file='{guest.root}/new.iso'/><target dev='sda' bus='sata'/></disk>"
    )


def _share(guest: Furnished) -> str:
    return (
        "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/><binary xattr='on'/>"
        f"<source dir='{guest.root}/shared'/><target dir='tag'/></filesystem>"
    )


def _plugged_disk(guest: Furnished) -> str:
    return disk(guest.root / "b.raw", "raw", "sdb", "scsi")


_MEMORY: Final = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
_CHANNEL: Final = "<channel type='unix'><target type='virtio' name='org.vt.x'/></channel>"

CHANGES: Final[dict[str, Change]] = {
    "start": Change("domain_create_with_flags", _dom, ("start", "destroy"), firmware=True),
    "start-transient": Change(
        "domain_create_xml", lambda g: {"xml_desc": g.xml, "flags": 0}, ("start", "destroy"), is_transient=True
    ),
    "destroy": Change("domain_destroy_flags", _dom, ("start",)),
    "save": Change("domain_save_flags", _saved, ("start",), firmware=True),
    "managed-save": Change("domain_managed_save", _dom, ("start",)),
    "restore": Change("domain_restore_flags", _restored, ("start", "save")),
    "start-saved": Change("domain_create_with_flags", _dom, ("start", "managed-save")),
    "revert": Change("domain_revert_to_snapshot", _reverted, ("start", "snapshot")),
    "revert-transient": Change("domain_revert_to_snapshot", _reverted, ("start", "snapshot"), is_transient=True),
    "revert-to-off": Change("domain_revert_to_snapshot", _reverted, ("snapshot", "start")),
    "dump": Change(
        "domain_core_dump_with_format",
        lambda g: {"dom": g.ref, "to": f"{g.root}/core", "dumpformat": 0, "flags": 0},
        ("start",),
    ),
    "snapshot-external": _snapshot("", 16),
    "snapshot-internal": _snapshot("", 0),
    "snapshot-memory": _snapshot("<memory snapshot='external' file='{root}/s1.mem'/>", 0),
    "snapshot-delete": Change(
        "domain_snapshot_delete", lambda g: {"snap": DomainSnapshotRef("s1", g.ref), "flags": 0}, ("pause", "external")
    ),
    "checkpoint": Change(
        "domain_checkpoint_create_xml",
        lambda g: {"dom": g.ref, "xml_desc": "<domaincheckpoint><name>ck1</name></domaincheckpoint>", "flags": 0},
        ("pause",),
    ),
    "checkpoint-delete": Change(
        "domain_checkpoint_delete",
        lambda g: {"checkpoint": DomainCheckpointRef("ck1", g.ref), "flags": 0},
        ("pause", "checkpoint"),
    ),
    "backup": Change("domain_backup_begin", _backup, ("pause",)),
    "backup-pull": Change("domain_backup_begin", _pull_backup, ("pause",)),
    "copy": Change("domain_block_copy", _copy, ("pause",)),
    "commit": Change(
        "domain_block_commit",
        lambda g: {"dom": g.ref, "disk": "vda", "base": None, "top": None, "bandwidth": 0, "flags": 4},
        ("pause", "external"),
    ),
    "pivot": Change(
        "domain_block_job_abort", lambda g: {"dom": g.ref, "path": "vda", "flags": 2}, ("pause", "external", "commit")
    ),
    "pull": Change(
        "domain_block_pull", lambda g: {"dom": g.ref, "path": "vda", "bandwidth": 0, "flags": 0}, ("pause", "external")
    ),
    "disk": _plug(_plugged_disk),
    "nic": _plug(lambda guest: nic("bridge", f"bridge='{BRIDGE}'", 3)),
    "nic-direct": _plug(lambda guest: nic("direct", f"dev='{LINK}' mode='bridge'", 4)),
    "channel": _plug(lambda guest: _CHANNEL, flags=LIVE),
    "rng": _plug(lambda guest: "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"),
    "memory": _plug(lambda guest: _MEMORY),
    "filesystem": _plug(_share),
    "medium": dataclasses.replace(_plug(_medium, procedure=UPDATE), stays_between=True),
    "no-disk": _plug(_plugged_disk, procedure=DETACH),
    "no-nic": _plug(lambda guest: nic("direct", f"dev='{LINK}' mode='bridge'", 4), procedure=DETACH),
    "thread": Change("domain_add_iothread", lambda g: {"dom": g.ref, "iothread_id": 5, "flags": BOTH}, ("start",)),
    "vcpu": Change("domain_set_vcpus_flags", lambda g: {"dom": g.ref, "nvcpus": 2, "flags": BOTH}, ("start",)),
    "undefine": Change(
        "domain_undefine_flags", lambda g: {"dom": g.ref, "flags": 1 | 2 | 4 | 32}, ("start", "managed-save")
    ),
}


async def prepare(change: Change, guest: Furnished, call: Caller) -> None:
    """What there must be before the call."""
    if not change.is_transient:
        await call("domain_define_xml_flags", xml=guest.xml, flags=0)
    for step in change.before:
        match step:
            case "start" | "pause" if change.is_transient:
                await call("domain_create_xml", xml_desc=guest.xml, flags=0)
            case "start" | "pause":
                await call("domain_create_with_flags", dom=guest.ref, flags=int(step == "pause"))
            case "destroy":
                await call("domain_destroy_flags", dom=guest.ref, flags=0)
            case "save":
                await call("domain_save_flags", **_saved(guest))
            case "managed-save":
                await call("domain_managed_save", dom=guest.ref, flags=0)
            case "snapshot" | "external":
                xml = "<domainsnapshot><name>s1</name></domainsnapshot>"
                flags = 16 if step == "external" else 0
                await call("domain_snapshot_create_xml", dom=guest.ref, xml_desc=xml, flags=flags)
            case "checkpoint":
                arguments = CHANGES["checkpoint"].arguments(guest)
                await call("domain_checkpoint_create_xml", **arguments)
            case "commit":
                await call("domain_block_commit", **CHANGES["commit"].arguments(guest))
                await ready(guest, call)
            case "plug":
                await call(ATTACH, **change.arguments(guest))


async def ready(guest: Furnished, call: Caller) -> None:
    """Waits until a block job waits for its pivot."""
    for _ in range(600):
        told = await call("domain_get_block_job_info", dom=guest.ref, path="vda", flags=0)
        if told.found and told.cur == told.end:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the job does not become ready")
