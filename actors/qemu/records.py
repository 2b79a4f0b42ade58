"""What is on disk of a guest: one document, written whole at each change.

It holds the definition for the next start and, while the guest runs, the definition it runs with and which process it
is. The facts that lists answer are beside them, so that a start with ten thousand guests parses no XML.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec

from actors.qemu.process import ProcessId
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource, DirSource, FileSource, StorageSource
from conf.domain.tags import tags_of_markup
from schema.enums.domain_state import DomainShutoffReason
from schema.errors import HostSystemError, InternalError

FOLDER = "domains"


class KeptText(str):
    """A definition that lies in its guest's document and is read when it is asked for: `text_of` gives it.

    It stands in a record where the text would; as a string it is empty, and equal to itself alone.
    """

    __slots__ = ("path", "text")

    def __new__(cls, path: str) -> KeptText:
        """Stands for the definition in this document."""
        self = super().__new__(cls)
        self.path = path
        self.text = None
        return self

    path: str
    text: str | None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def read(self) -> str:
        """The text, which stays once it was read: the document may hold another one day.

        Raises HostSystemError and InternalError when the document cannot be read any more.
        """
        if self.text is not None:
            return self.text
        try:
            self.text = decode(Path(self.path).read_bytes()).xml or ""
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot read '{self.path}'") from exc
        except msgspec.DecodeError as exc:
            raise InternalError(f"the guest's document '{self.path}' cannot be read: {exc}") from exc
        return self.text


def text_of(text: str) -> str:
    """A definition's text, wherever it is. Raises HostSystemError and InternalError."""
    return text.read() if isinstance(text, KeptText) else text


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lists answer without reading the definition."""

    os_type: str = "hvm"
    max_mem: int = 0
    mem: int = 0
    vcpus: int = 1
    title: str | None = None
    tags: tuple[str, ...] = ()
    vcpus_max: int = 0
    disks: tuple[tuple[str, str, str], ...] | None = None
    """Name, path and format of each disk; None in documents of before these were noted."""


class BlockJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job of QEMU's over the images of a disk, written down before QEMU is told of it.

    Images are named by their numbers. `state` is `new`, `running`, `ready`, `pivoting` or `aborting`.
    """

    name: str
    kind: str
    disk: str
    state: str = "new"
    top: int = 0
    base: int = 0
    above: int = 0
    """The image whose backing image becomes `base`; 0: none, the top image itself is replaced."""
    deletes: bool = False
    shallow: bool = False
    reuses: bool = False
    bitmap: str = ""
    """The recording that a backup reads, which goes with it."""
    left: tuple[tuple[int, str], ...] = ()
    """Images that it leaves, with their files: they are closed once QEMU has forgotten it."""
    snapshot: str = ""
    """The snapshot that is deleted by it."""


class BackupRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A backup that is going on: its document, and when it began."""

    xml: str
    began: float
    exports: tuple[str, ...] = ()
    scratch: tuple[tuple[str, int, str], ...] = ()
    """Disk, number of the image and path of each image that only serves the backup."""
    made: tuple[str, ...] = ()
    """Files that go when the backup has failed, or, in pull mode, when it has ended."""
    outcomes: tuple[tuple[str, str, int], ...] = ()
    """What has ended: disk, error (empty: none) and bytes."""


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """A running guest on its way between two hosts, and how far it is.

    Here it leaves (`out`): `asking` whether the other side takes it, `sending` while QEMU sends, `switching` when
    QEMU may let its memory follow it, `sent` when the other side has everything and only it may go on, `gone` when
    it goes on there. Or it arrives (`in`): `waiting` for its memory, `starting` when it is about to go on here,
    `running` once it has. With post-copy, on both sides: `postcopy` while its memory follows it, `broken` when the
    connection broke meanwhile.
    """

    way: str
    phase: str
    flags: int = 0
    ran: bool = False
    peer: str | None = None
    name: str | None = None
    uri: str | None = None
    persists: str | None = None
    makes: bool = False
    """The guest is persistent here by this move alone, so that it is not if nothing comes of it."""
    switched: bool = False
    """It arrives, and its memory follows it: it cannot go on any more where it came from."""


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A running guest: the definition in force, its process, where its files are, and its state as last known."""

    id: int
    pid: int
    start_ticks: int
    boot: str
    folder: str
    emulator: str
    xml: str
    facts: Facts
    state: int
    reason: int
    since: float
    started: float
    reboots: bool = False
    """The guest was asked to power off so that it can be started again."""
    fixed_xml: str | None = None
    """The definition of a transient guest as it was given."""
    bound_to: str = ""
    """The connection that it ends with (`binding.py`); empty: none."""
    threads: tuple[int, ...] = ()
    agent_timeout: int | None = None
    move: Move | None = None
    partition: str = ""
    """Where the guest's control groups are, as its definition says."""
    group: str = ""
    """The path of its control groups, where somebody else has made them (systemd); empty: the one that we give."""
    images: int = 0
    """The highest number that an image of it has had; 0: see the definition."""
    jobs: tuple[BlockJob, ...] = ()
    backup: BackupRun | None = None
    commanded: bool = False
    """Somebody has given its monitor commands that nobody here knows of."""
    processor: str = ""
    """The processor that was asked for, where the guest has another one; empty: it is the definition's."""

    @property
    def vcpu_threads(self) -> dict[int, int]:
        """The threads of the processors that are on, by number; in `threads`, 0 stands for one that is off."""
        return {number: thread for number, thread in enumerate(self.threads) if thread}

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.start_ticks, self.boot)


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A guest."""

    uuid: str
    name: str
    facts: Facts
    xml: str | None = None
    run: Run | None = None
    autostart: bool = False
    managed_save: bool = False
    off_reason: int = int(DomainShutoffReason.UNKNOWN)
    off_since: float = 0.0

    @property
    def key(self) -> bytes:
        return UUID(self.uuid).bytes


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def path_of(uuid: str) -> str:
    """Where a guest's document lies in the store."""
    return f"{FOLDER}/{uuid}.json"


def encode(record: Record) -> bytes:
    """A guest's document. Raises HostSystemError and InternalError when its definition cannot be read any more."""
    if isinstance(record.xml, KeptText):
        record = msgspec.structs.replace(record, xml=record.xml.read())
    return _encoder.encode(record)


def decode(data: bytes) -> Record:
    """The guest of a document. Raises msgspec.DecodeError for what is none."""
    return _decoder.decode(data)


def facts_of(domain: Domain) -> Facts:
    """What lists answer of a definition."""
    current = domain.current_memory_kib
    total = domain.memory.kib
    return Facts(
        os_type=domain.os.kind.type or "hvm",
        max_mem=total,
        mem=total if current is None else current,
        vcpus=domain.vcpu.current or domain.vcpu.count,
        title=domain.title,
        tags=tags_of_markup(domain.metadata),
        vcpus_max=domain.vcpu.count,
        disks=tuple(
            (disk.target.dev, _path_of(disk.source), (disk.driver.type if disk.driver is not None else None) or "raw")
            for disk in domain.devices.disks
        ),
    )


def _path_of(source: StorageSource | None) -> str:
    match source:
        case FileSource():
            return source.file or ""
        case BlockSource():
            return source.dev or ""
        case DirSource():
            return source.dir or ""
    return ""
