"""libvirt's status document of a running QEMU guest: what the driver keeps of it, and the guest's own document."""

from __future__ import annotations

from lxml import etree

from actors.qemu.rules import QemuRules
from conf.cpu.cpu import GuestCpu
from conf.document import parse_document
from conf.domain.disk import BackingStore, Disk
from conf.domain.documents import complete_domain
from conf.domain.domain import Domain
from conf.domain.hostdev import ScsiHostSource
from conf.domain.status import DomainStatus
from conf.domain.status_parts import ImagePrivate, NodeName, QemuObjects, SecretObject
from conf.domain.storage_source import (
    SOURCES,
    BlockSource,
    FileSource,
    NetworkSource,
    NvmeSource,
    Protocol,
    SourceType,
    StorageSource,
    VolumeSource,
)
from conf.element import Element, Empty, attr, child, children, flag, one_of, text, value
from conf.flags import ParseFlags, XmlFlags
from conf.moment.backup import Backup
from conf.values import INT, UINT, ULONG, YES_NO


class Monitor(Element, tag="monitor"):
    """The socket of the monitor."""

    path: str = attr("path", str)
    type: str = attr("type", str)


class Namespaces(Element, tag="namespaces", empty=Empty.OMIT):
    """The namespaces of the kernel that the guest has of its own."""

    mount: bool = flag("mount", default=False)


class VcpuThread(Element, tag="vcpu"):
    """The thread of one processor."""

    id: int = attr("id", UINT)
    pid: int = attr("pid", INT)


class KnownFlag(Element, tag="flag"):
    """Something that the guest's emulator can do."""

    name: str = attr("name", str)


class MigrationParameter(Element, tag="param"):
    """A parameter of the migration as it was before."""

    name: str = attr("name", str)
    value: str = attr("value", str)


class TypedImage(Element):
    """An image whose type and format its element tells."""

    type: SourceType = attr("type", SourceType)
    format: str | None = attr("format", str, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)
    backing_store: BackingStore | None = child(BackingStore, default=None)


class MigrationSource(TypedImage, tag="migrationSource"):
    """Where a disk is copied to."""


class MigratedDisk(Element, tag="disk"):
    """A disk in a migration."""

    dev: str = attr("dev", str)
    migrating: bool = attr("migrating", YES_NO)
    migration_source: MigrationSource | None = child(MigrationSource, default=None)


class TemporaryBitmap(Element, tag="bitmap"):
    """A bitmap that is only there for the migration."""

    name: str = attr("name", str)
    nodename: str = attr("nodename", str)


class StatusJob(Element, tag="job"):
    """What is done with the guest."""

    type: str = attr("type", str)
    asynchronous: str | None = attr("async", str, default=None)
    phase: str | None = attr("phase", str, default=None)
    flags: str = attr("flags", str, default="0x0")
    async_started: int = attr("asyncStarted", ULONG, default=0)
    disks: list[MigratedDisk] = children(MigratedDisk, default=[])
    bitmaps: list[TemporaryBitmap] = children(TemporaryBitmap, within="tempBlockDirtyBitmaps", default=[])
    snapshot_delete: bool = flag("snapshotDelete", default=False)
    parameters: list[MigrationParameter] = children(MigrationParameter, within="migParams", default=[])


class KnownDevice(Element, tag="device"):
    """A device that QEMU has."""

    alias: str = attr("alias", str)


class AutomaticPlacement(Element, tag="numad"):
    """The nodes and processors that numad advised."""

    nodeset: str | None = attr("nodeset", str, default=None)
    cpuset: str | None = attr("cpuset", str, default=None)


class JobDisk(Element, tag="disk"):
    """The disk that a block job works on."""

    dst: str = attr("dst", str)
    mirror: bool | None = attr("mirror", YES_NO, default=None)


class ChainDisk(TypedImage, tag="disk"):
    """The images of a disk that the guest has no more."""


class ChainMirror(TypedImage, tag="mirror"):
    """The copy of such a disk."""


class Chains(Element, tag="chains", empty=Empty.OMIT):
    """The images of a job without a disk."""

    disk: ChainDisk | None = child(ChainDisk, default=None)
    mirror: ChainMirror | None = child(ChainMirror, default=None)


class CreatedImage(TypedImage, tag="src"):
    """The image that a job creates."""


class BackupStore(TypedImage, tag="store"):
    """Where a backup goes."""


class NamedBitmap(Element, tag="bitmap"):
    """A bitmap by name."""

    name: str = attr("name", str)


class StatusBlockJob(Element, tag="blockjob"):
    """A block job; which parts count depends on `type`."""

    name: str = attr("name", str)
    type: str = attr("type", str)
    state: str = attr("state", str)
    new_state: str | None = attr("newstate", str, default=None)
    broken_type: str | None = attr("brokentype", str, default=None)
    job_flags: str | None = attr("jobflags", str, default=None)
    shallow_new: bool | None = attr("shallownew", YES_NO, default=None)
    error: str | None = text("errmsg", str, default=None)
    disk: JobDisk | None = child(JobDisk, default=None)
    chains: Chains | None = child(Chains, default=None)
    base: str | None = value("base", "node", str, default=None)
    top: str | None = value("top", "node", str, default=None)
    top_parent: str | None = value("topparent", "node", str, default=None)
    disabled_bitmaps: list[NamedBitmap] = children(NamedBitmap, within="disabledBaseBitmaps", default=[])
    delete_images: bool = flag("deleteCommittedImages", default=False)
    create: str | None = value("create", "mode", str, default=None)
    created: CreatedImage | None = child(CreatedImage, default=None)
    bitmap: str | None = value("bitmap", "name", str, default=None)
    store: BackupStore | None = child(BackupStore, default=None)


class BlockJobs(Element, tag="blockjobs"):
    """The block jobs of the guest."""

    active: bool = attr("active", YES_NO, default=False)
    jobs: list[StatusBlockJob] = children(StatusBlockJob, default=[])


class SlirpFeature(Element, tag="feature"):
    """Something that a slirp helper can do."""

    name: str = attr("name", str)


class SlirpHelper(Element, tag="helper"):
    """The process that connects one interface."""

    alias: str = attr("alias", str)
    pid: int = attr("pid", INT)
    features: list[SlirpFeature] = children(SlirpFeature, default=[])


class QemuStatus(DomainStatus, tag="domstatus"):
    """Everything that libvirt's QEMU driver keeps of a running guest."""

    monitor: Monitor | None = child(Monitor, default=None)
    dbus_daemon: bool = flag("dbusDaemon", default=False)
    dbus_vmstate: bool = flag("dbusVMState", default=False)
    namespaces: Namespaces | None = child(Namespaces, default=None)
    vcpus: list[VcpuThread] = children(VcpuThread, within="vcpus", default=[])
    flags: list[KnownFlag] = children(KnownFlag, within="qemuCaps", default=[])
    lock_state: str | None = text("lockstate", str, default=None)
    job: StatusJob | None = child(StatusJob, default=None)
    fake_reboot: bool = flag("fakereboot", default=False)
    devices: list[KnownDevice] = children(KnownDevice, within="devices", default=[])
    numad: AutomaticPlacement | None = child(AutomaticPlacement, default=None)
    folder: str | None = value("libDir", "path", str, default=None)
    channel_folder: str | None = value("channelTargetDir", "path", str, default=None)
    original_cpu: GuestCpu | None = child(GuestCpu, default=None)
    chardev_stdio_logd: bool = flag("chardevStdioLogd", default=False)
    remember_owner: bool = flag("rememberOwner", default=False)
    allow_reboot: str = value("allowReboot", "value", str, default="default")
    reservations_daemon: bool = flag("prDaemon", default=False)
    node_index: int = value("nodename", "index", ULONG, default=0)
    fdset_index: int = value("fdset", "index", UINT, default=0)
    prealloc: bool = flag("memPrealloc", default=False)
    block_jobs: BlockJobs = child(BlockJobs, default_factory=BlockJobs)
    slirp: list[SlirpHelper] = children(SlirpHelper, within="slirp", default=[])
    agent_timeout_s: int = text("agentTimeout", INT, default=-2)
    backups: list[Backup] = children(Backup, within="backups", default=[])
    original_memlock: int | None = text("originalMemlock", ULONG, default=None)
    memlock_before_migration: int | None = text("preMigrationMemlock", ULONG, default=None)
    domain: Domain = child(Domain)


def parse_status(xml: str | bytes, rules: QemuRules) -> QemuStatus:
    """A status document. The guest in it was checked when it began to run, and is not checked again.

    Raises XmlError and other VirtErrors for what is no such document.
    """
    node = parse_document(xml, name="domain_status", root="domstatus")
    for old in node.iterfind("job/disk/migrationSource"):
        _move_source(old)
    status = QemuStatus.parse(node, ParseFlags.STATUS)
    complete_domain(status.domain, rules, ParseFlags.STATUS | ParseFlags.SKIP_VALIDATE)
    _complete(status, rules)
    return status


def _complete(status: QemuStatus, rules: QemuRules) -> None:
    """Says what older versions took for granted: folders by the guest's name, objects by the device's."""
    domain = status.domain
    if status.folder is None and rules.state_folder is not None:
        status.folder = f"{rules.state_folder}/domain-{domain.name}"
    if status.channel_folder is None and rules.channel_folder is not None:
        status.channel_folder = f"{rules.channel_folder}/domain-{domain.name}"
    for disk in domain.devices.disks:
        _name_secrets(disk)
    for hostdev in domain.devices.hostdevs:
        source = hostdev.source
        if isinstance(source, ScsiHostSource) and source.protocol == "iscsi":
            private = source.private = source.private or ImagePrivate()
            if not any(one.type == "storage" for one in private.node_names):
                private.node_names.insert(0, NodeName(type="storage", name=f"libvirt-{hostdev.alias}-backend"))
            if source.auth is not None:
                _name_secret(private, "auth", f"{hostdev.alias}-secret0")


def _name_secrets(disk: Disk) -> None:
    source = disk.source
    if source is None:
        return
    auth = getattr(source, "auth", None) or disk.auth
    if auth is not None and isinstance(source, NetworkSource) and source.protocol in (Protocol.RBD, Protocol.ISCSI):
        source.private = source.private or ImagePrivate()
        _name_secret(source.private, "auth", f"{disk.alias}-secret0")
    encryption = getattr(source, "encryption", None) or disk.encryption
    if encryption is not None and encryption.format == "luks" and isinstance(source, _WITH_PRIVATE):
        source.private = source.private or ImagePrivate()
        _name_secret(source.private, "encryption", f"{disk.alias}-luks-secret0")


_WITH_PRIVATE = (FileSource, BlockSource, NetworkSource, VolumeSource, NvmeSource)


def _name_secret(private: ImagePrivate, kind: str, alias: str) -> None:
    objects = private.objects = private.objects or QemuObjects()
    if not any(one.type == kind for one in objects.secrets):
        objects.secrets.append(SecretObject(type=kind, alias=alias))


def _move_source(element: etree._Element) -> None:
    """Older versions wrote what a source holds into the element around it."""
    if element.find("source") is not None:
        return
    source = etree.Element("source")
    for name in [name for name in element.attrib if name not in ("type", "format")]:
        source.set(name, element.attrib.pop(name))
    source.extend(list(element))
    element.append(source)


def write_status(status: QemuStatus) -> str:
    """The document as libvirt keeps it, secrets included."""
    return status.to_xml(XmlFlags.STATUS | XmlFlags.SECURE)
