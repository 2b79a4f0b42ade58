"""Snapshots, checkpoints and backups: what is taken from a new document, what is refused, how disks are chosen."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.domain.rules import GENERIC_RULES, DomainRules
from conf.moment.backups import fit_backup, parse_backup, write_backup
from conf.moment.documents import date, parse_checkpoint, parse_snapshot, write_moment
from schema.errors import ConfigUnsupported, InternalError, VirtError, XmlError


class Rules(DomainRules):
    """A host with an architecture."""

    default_arch = "x86_64"


def guest(*disks: str) -> Domain:
    return parse_domain(
        "<domain type='test'><name>d</name><memory>1</memory><os><type arch='x86_64'>hvm</type></os><devices>"
        + "".join(disks)
        + "</devices></domain>",
        Rules(),
    )


FILE = "<disk type='file'><source file='/a.img'/><target dev='vda'/></disk>"
BLOCK = "<disk type='block'><source dev='/dev/b'/><target dev='vdb'/></disk>"


def test_a_new_snapshot_takes_no_history_from_its_document() -> None:
    text = (
        "<domainsnapshot><name>s</name><state>running</state><parent><name>p</name></parent>"
        "<creationTime>5</creationTime><domain type='nonsense'/></domainsnapshot>"
    )
    snapshot = parse_snapshot(text, GENERIC_RULES)
    assert write_moment(snapshot) == "<domainsnapshot>\n  <name>s</name>\n</domainsnapshot>\n"


def test_the_time_is_the_name_of_what_has_none() -> None:
    snapshot = parse_snapshot("<domainsnapshot/>", GENERIC_RULES)
    date(snapshot, 7)
    assert (snapshot.name, snapshot.creation_time) == ("7", 7)


def test_an_image_makes_a_disk_external() -> None:
    text = "<domainsnapshot><disks><disk name='vda'><source file='/x'/></disk></disks></domainsnapshot>"
    assert "<disk name='vda' snapshot='external' type='file'>" in write_moment(parse_snapshot(text, GENERIC_RULES))


@pytest.mark.parametrize(
    ("inside", "error", "words"),
    [
        ("", XmlError, "must have a name"),
        ("<name>s</name>", InternalError, "missing creationTime"),
        ("<name>s</name><creationTime>1</creationTime>", XmlError, "missing state"),
        ("<name>s</name><creationTime>1</creationTime><state>odd</state>", ConfigUnsupported, "Invalid state 'odd'"),
        ("<memory snapshot='internal' file='/x'/>", XmlError, "memory filename '/x' requires external snapshot"),
        ("<memory snapshot='external'/>", XmlError, "external memory snapshots require a filename"),
        ("<memory file='x'/>", XmlError, "must be absolute"),
        ("<disks><disk/></disks>", XmlError, "missing name from disk snapshot element"),
        ("<disks><disk name='a'><source file='x'/></disk></disks>", XmlError, "must be absolute"),
    ],
)
def test_snapshots_that_are_refused(inside: str, error: type[VirtError], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_snapshot(f"<domainsnapshot>{inside}</domainsnapshot>", GENERIC_RULES, redefine=True)


@pytest.mark.parametrize("name", ["../escape", ".hidden", "a/b", "a\nb", "a b"])
def test_names_of_checkpoints_are_names_of_files(name: str) -> None:
    with pytest.raises(XmlError):
        parse_checkpoint(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>", GENERIC_RULES)


def test_a_backup_without_disks_saves_them_all() -> None:
    backup = parse_backup("<domainbackup/>")
    fit_backup(backup, guest(FILE), "1")
    assert write_backup(backup) == (
        "<domainbackup mode='push'>\n  <disks>\n    <disk name='vda' backup='yes' type='file' backupmode='full'>\n"
        "      <target file='/a.img.1'/>\n    </disk>\n  </disks>\n</domainbackup>\n"
    )


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("", "refusing to generate file name for disk 'vdb'"),
        ("<disks><disk name='vdz'/></disks>", "no disk named 'vdz'"),
        ("<disks><disk name='vda'/><disk name='vda'/></disks>", "specified twice"),
    ],
)
def test_backups_that_fit_no_guest(inside: str, words: str) -> None:
    backup = parse_backup(f"<domainbackup>{inside}</domainbackup>")
    with pytest.raises(ConfigUnsupported, match=words):
        fit_backup(backup, guest(FILE, BLOCK), "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<domainbackup mode='odd'/>", "invalid value 'odd' for backup mode"),
        ("<domainbackup><server name='h'/></domainbackup>", "requires pull mode"),
        ("<domainbackup mode='pull'><server transport='unix' socket='s'/></domainbackup>", "must be absolute"),
        ("<domainbackup><disks><disk/></disks></domainbackup>", "missing name from disk backup element"),
        ("<domainbackup><disks><disk name='a' type='dir'/></disks></domainbackup>", "unsupported disk backup type"),
    ],
)
def test_backups_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(XmlError, match=words):
        parse_backup(text)
