"""Snapshots, checkpoints and backups of the corpus: read, made what the case says, written."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from conf.domain.documents import parse_domain
from conf.flags import XmlFlags
from conf.moment.backups import fit_backup, parse_backup, write_backup
from conf.moment.documents import date, parse_checkpoint, parse_snapshot, write_moment
from conf.moment.moment import Checkpoint, DomainStub, Parent, Snapshot
from conf.text import escape
from tests.conformance.drivers import rules_for

SUFFIX = "SUFFIX"
EXTRA_DISK = "vdextradisk"


def snapshot_round_trip(case: dict[str, Any], source: bytes) -> str:
    """A snapshot, new or made known again."""
    flags = case.get("parse_flags", ())
    redefine = "VIR_DOMAIN_SNAPSHOT_PARSE_REDEFINE" in flags
    snapshot = parse_snapshot(source, rules_for(case), redefine=redefine)
    _complete(snapshot, case, redefine=redefine)
    if "domain_uuid" in case:
        snapshot.stub = DomainStub(uuid=UUID(case["domain_uuid"]))
    if "set_state" in case:
        snapshot.state = case["set_state"]
    return write_moment(snapshot, secure=True)


def checkpoint_round_trip(case: dict[str, Any], source: bytes) -> str:
    """A checkpoint, new or made known again."""
    redefine = "VIR_DOMAIN_CHECKPOINT_PARSE_REDEFINE" in case.get("parse_flags", ())
    checkpoint = parse_checkpoint(source, rules_for(case), redefine=redefine)
    _complete(checkpoint, case, redefine=redefine)
    for disk in checkpoint.disks:
        if disk.name == "vda" and case.get("add_disk_vda_bitmap"):
            disk.bitmap = checkpoint.name
    return write_moment(checkpoint, secure=True)


def backup_round_trip(case: dict[str, Any], source: bytes) -> str:
    """A backup of a guest that has the disks of the document and one more."""
    backup = parse_backup(source)
    names = [escape(disk.name) for disk in backup.disks]
    disks = "".join(
        f"<disk type='file'><driver type='qcow2'/><source file='/fake/{name}.qcow2'/><target dev='{name}'/></disk>"
        for name in (*names, EXTRA_DISK)
    )
    text = (
        "<domain type='test'><name>d</name><memory>1</memory><os><type arch='x86_64'>hvm</type></os>"
        f"<devices>{disks}</devices></domain>"
    )
    fit_backup(backup, parse_domain(text, rules_for(case)), SUFFIX)
    return write_backup(backup, XmlFlags.SECURE)


def _complete(moment: Snapshot | Checkpoint, case: dict[str, Any], *, redefine: bool) -> None:
    if "creation_time" in case and not redefine:
        date(moment, case["creation_time"])
    if "set_parent" in case:
        moment.parent = Parent(name=case["set_parent"])
