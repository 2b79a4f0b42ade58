"""`-blockdev`: a disk's images as a graph of nodes, each with a storage node below and a format node above.

A node is named after the number of its image. Images are numbered from the last disk to the first, and within a disk
from its top image down its backing chain; the numbers stand as `index` in the running guest's definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from actors.qemu.command.launch import HostResources, Launch
from actors.qemu.command.line import NULL, CommandLine, Properties
from actors.qemu.command.protocols import network_storage, secret_object
from conf.domain.disk import (
    BackingStore,
    DetectZeroes,
    Discard,
    Disk,
    DiskBus,
    DiskCache,
    DiskDevice,
    MetadataCache,
)
from conf.domain.domain import Domain
from conf.domain.os import NvramStore
from conf.domain.secrets import Auth, Encryption
from conf.domain.storage_source import (
    BlockSource,
    DirSource,
    FileSource,
    NetworkSource,
    NvmeSource,
    PersistentReservations,
    StorageSource,
    VhostUserSource,
    VolumeSource,
)
from schema.errors import ConfigUnsupported

_WITH_BACKING: Final = frozenset({"qcow", "qcow2", "qed", "vmdk"})
_FORMATS: Final = frozenset(
    {"raw", "bochs", "cloop", "dmg", "parallels", "ploop", "qcow", "qcow2", "qed", "vdi", "vhd", "vmdk", "vpc", "luks"}
)
_DRIVERS: Final = {"vpc": "vpc", "vhd": "vhdx", "ploop": "parallels"}

_CACHE: Final[dict[DiskCache, tuple[bool, bool, bool]]] = {
    # direct, no-flush, write cache seen by the guest
    DiskCache.NONE: (True, False, True),
    DiskCache.WRITETHROUGH: (False, False, False),
    DiskCache.WRITEBACK: (False, False, True),
    DiskCache.DIRECTSYNC: (True, False, False),
    DiskCache.UNSAFE: (False, True, True),
}


@dataclass(slots=True)
class Node:
    """One image: the objects and nodes it needs, lowest first, and the name of its topmost node."""

    name: str
    steps: list[tuple[str, Properties]] = field(default_factory=list)
    descriptors: list[str] = field(default_factory=list)

    def write_descriptors(self, line: CommandLine) -> None:
        """Appends the descriptors that stand for the image."""
        for words in self.descriptors:
            line.add("-add-fd", words)

    def write(self, line: CommandLine) -> None:
        """Appends what the image needs."""
        for option, properties in self.steps:
            line.add_json(option, properties)


class Image(Protocol):
    """What top images and backing images have in common."""

    source: StorageSource | None
    backing_store: BackingStore | None


def cache_properties(mode: DiskCache | None) -> Properties | None:
    """The `cache` part of a node; None leaves it to QEMU."""
    if mode is None or mode is DiskCache.DEFAULT:
        return None
    direct, no_flush, _ = _CACHE[mode]
    return {"direct": direct, "no-flush": no_flush}


def cache_of(disk: Disk) -> DiskCache | None:
    """The wanted way of caching: an image that others write too is not cached by the host."""
    mode = disk.driver.cache if disk.driver is not None else None
    if disk.shareable and not disk.readonly and mode in (None, DiskCache.DEFAULT):
        return DiskCache.NONE
    return mode


def guest_write_cache(mode: DiskCache | None) -> str | None:
    """Whether the guest's disk says that it has a write cache; None leaves it to QEMU."""
    if mode is None or mode is DiskCache.DEFAULT:
        return None
    return "on" if _CACHE[mode][2] else "off"


def number_images(domain: Domain) -> int:
    """Gives every image of every disk its number; the highest is returned."""
    number = 0
    for disk in reversed(domain.devices.disks):
        if disk.target.bus is DiskBus.SD:
            continue
        number += 1
        if disk.source is None or is_empty(disk.source):
            continue
        below = disk.backing_store
        if has_overlay(disk) and below is not None:
            below.index, below = number, below.backing_store
        else:
            disk.source.index = number
        while below is not None and below.source is not None:
            number += 1
            below.index = number
            below = below.backing_store
    # overlays of transient disks are younger than all images, those of shared images the youngest
    with_overlay = [disk for disk in domain.devices.disks if has_overlay(disk)]
    for disk in sorted(with_overlay, key=lambda one: one.transient is not None and bool(one.transient.share_backing)):
        if disk.source is not None:
            number += 1
            disk.source.index = number
    return number


OVERLAY_MARK: Final = ".TRANSIENT-"


def has_overlay(disk: Disk) -> bool:
    """A transient disk stands on an image that it does not write to, in an overlay beside that image."""
    source, below = disk.source, disk.backing_store
    if disk.transient is None or below is None or not isinstance(source, FileSource):
        return False
    path = below.source.file if isinstance(below.source, FileSource) else None
    return bool(path) and (source.file or "").startswith(f"{path}{OVERLAY_MARK}")


def number_descriptor_sets(launch: Launch) -> None:
    """Gives every image that a client has opened a set for its descriptors, in the order of the images' numbers."""
    indexes: list[tuple[int, int]] = []
    for disk in launch.domain.devices.disks:
        images = [(disk.source.index if disk.source is not None else None, disk.source)]
        below = disk.backing_store
        while below is not None:
            images.append((below.index, below.source))
            below = below.backing_store
        indexes += [(index or 0, id(one)) for index, one in images if getattr(one, "fdgroup", None) is not None]
    for _, identity in sorted(indexes):
        launch.descriptor_sets[identity] = launch.next_fdset()


def is_empty(source: StorageSource) -> bool:
    """A drive without medium."""
    if isinstance(source, FileSource):
        return source.file is None
    if isinstance(source, BlockSource):
        return source.dev is None
    if isinstance(source, DirSource):
        return source.dir is None
    return False


def disk_nodes(launch: Launch, disk: Disk) -> list[Node]:
    """The images of a disk, the deepest first; the last one is what the guest's disk is attached to.

    Raises ConfigUnsupported for a source or format that QEMU cannot open.
    """
    if disk.source is None or is_empty(disk.source) or isinstance(disk.source, VhostUserSource):
        return []
    layers: list[_Layer] = [_top_layer(disk)]
    below, ended = disk.backing_store, False
    while below is not None:
        if below.source is None:
            ended = True
            break
        layers.append(_lower_layer(disk, below))
        below = below.backing_store
    nodes: list[Node] = []
    beneath: Node | None = None
    for depth, layer in reversed(list(enumerate(layers))):
        is_last = depth == len(layers) - 1
        node = layer.node(launch, beneath, ended=ended and is_last)
        nodes.append(node)
        beneath = node
    driver = disk.driver
    if driver is not None and driver.copy_on_read:
        top = Node(f"libvirt-CoR-{disk.target.dev}")
        properties: Properties = {"driver": "copy-on-read", "node-name": top.name, "file": nodes[-1].name}
        properties["discard"] = "unmap"
        top.steps.append(("-blockdev", properties))
        nodes.append(top)
    return nodes


def nodes_of_pflash(launch: Launch, code: str, readonly: bool, nvram: NvramStore | None) -> list[Node]:
    """The two flash chips of a firmware."""
    chips = [_flash(launch, 0, FileSource(file=code), "raw", readonly)]
    if nvram is not None:
        source = nvram.source if nvram.source is not None else FileSource(file=nvram.path)
        chips.append(_flash(launch, 1, source, "raw", False))
    return chips


def _flash(launch: Launch, number: int, source: StorageSource, kind: str, readonly: bool) -> Node:
    layer = _Layer(source, kind, f"pflash{number}", readonly)
    return layer.node(launch, None, ended=False)


def _top_layer(disk: Disk) -> _Layer:
    assert disk.source is not None
    driver = disk.driver
    number = disk.source.index or 0
    layer = _Layer(disk.source, (driver.type if driver is not None else None) or "raw", str(number), disk.readonly)
    layer.is_cdrom = disk.device is DiskDevice.CDROM
    layer.is_lun = disk.device is DiskDevice.LUN
    layer.is_floppy = disk.device is DiskDevice.FLOPPY
    if layer.is_cdrom:
        layer.readonly = True
    layer.cache = cache_of(disk)
    if driver is not None:
        layer.aio = driver.io.value if driver.io is not None else None
        layer.discard, layer.zeroes = driver.discard, driver.detect_zeroes
        layer.metadata_cache = driver.metadata_cache
    layer.encryption = getattr(disk.source, "encryption", None) or disk.encryption
    layer.auth = getattr(disk.source, "auth", None) or disk.auth
    return layer


def _lower_layer(disk: Disk, store: BackingStore) -> _Layer:
    assert store.source is not None
    kind = store.format.type if store.format is not None else "raw"
    layer = _Layer(store.source, kind, str(store.index or 0), True)
    driver = disk.driver
    layer.cache = cache_of(disk)
    if driver is not None:
        layer.aio = driver.io.value if driver.io is not None else None
        layer.discard = driver.discard
    layer.metadata_cache = store.format.metadata_cache if store.format is not None else None
    layer.encryption = getattr(store.source, "encryption", None)
    return layer


class _Layer:
    """One image before it is written."""

    def __init__(self, source: StorageSource, kind: str, number: str, readonly: bool) -> None:
        self.source = source
        self.kind = kind
        self.number = number
        self.readonly = readonly
        self.is_cdrom = self.is_lun = self.is_floppy = False
        self.cache: DiskCache | None = None
        self.aio: str | None = None
        self.discard: Discard | None = None
        self.zeroes: DetectZeroes | None = None
        self.metadata_cache: MetadataCache | None = None
        self.encryption: Encryption | None = None
        self.auth: Auth | None = getattr(source, "auth", None)

    def node(self, launch: Launch, beneath: Node | None, *, ended: bool) -> Node:
        node = Node(f"libvirt-{self.number}-format")
        lower = self._storage(launch, node)
        properties: Properties = {"node-name": node.name, "read-only": self.readonly}
        properties["cache"] = cache_properties(self.cache)
        properties["discard"] = self.discard.value if self.discard is not None else None
        properties["detect-zeroes"] = self._zeroes()
        properties.update(self._format(node))
        properties["file"] = lower
        if self.kind in _WITH_BACKING:
            if beneath is not None:
                properties["backing"] = beneath.name
            elif ended:
                properties["backing"] = NULL
        elif beneath is not None:
            raise ConfigUnsupported(f"storage format '{self.kind}' does not support backing store")
        node.steps.append(("-blockdev", properties))
        return node

    def _zeroes(self) -> str | None:
        if self.zeroes is None or self.zeroes is DetectZeroes.OFF:
            return None
        if self.zeroes is DetectZeroes.UNMAP and self.discard is not Discard.UNMAP:
            return DetectZeroes.ON.value
        return self.zeroes.value

    def _format(self, node: Node) -> Properties:
        kind = self.kind
        if kind not in _FORMATS and kind not in ("dir", "fat", "iso"):
            raise ConfigUnsupported(f"'{kind}' images are not supported by QEMU")
        secret = self._secret_name()
        properties: Properties = {}
        if self.encryption is not None and self.encryption.engine == "librbd":
            properties["driver"] = _DRIVERS.get(kind, kind)
        elif kind == "raw" and self.encryption is not None:
            properties["driver"] = "luks"
            properties["key-secret"] = secret
        elif kind in ("raw", "dir", "fat", "iso"):
            properties["driver"] = "raw"
            part = self._slice()
            if part is not None:
                properties["offset"], properties["size"] = part
        else:
            properties["driver"] = _DRIVERS.get(kind, kind)
            if self.encryption is not None:
                form = "aes" if self.encryption.format == "qcow" else "luks"
                properties["encrypt"] = {"format": form, "key-secret": secret}
            cache = self.metadata_cache
            if kind == "qcow2" and cache is not None and cache.max_size_bytes:
                properties["cache-size"] = cache.max_size_bytes
        return properties

    def _slice(self) -> tuple[int, int] | None:
        for part in getattr(self.source, "slices", ()):
            return part.offset, part.size
        return None

    def _secret_name(self) -> str:
        return f"libvirt-{self.number}-format-encryption-secret0"

    def _storage(self, launch: Launch, node: Node) -> str:
        """Adds the storage node and what it refers to; gives the name the format node stands on."""
        name = f"libvirt-{self.number}-storage"
        before = len(node.steps)
        properties = self._storage_driver(launch, node, name)
        if self.encryption is not None and self.encryption.secrets:
            data, vector = launch.host.secret(self.encryption.secrets[0])
            opening = ("-object", secret_object(self._secret_name(), data, vector))
            # what opens the image comes after what opens the way to it, and before certificates
            has_auth = any(one.get("id") == f"{name}-auth-secret0" for _, one in node.steps[before:])
            node.steps.insert(before + has_auth, opening)
        properties["node-name"] = name
        properties["cache"] = cache_properties(self.cache)
        read_only = self._fixed_access()
        if read_only is None:
            properties["auto-read-only"] = True
        else:
            properties["read-only"] = read_only
        properties["discard"] = "unmap"
        node.steps.append(("-blockdev", properties))
        part = self._slice()
        if part is not None and self._format_driver() != "raw":
            sliced = f"libvirt-{self.number}-slice-sto"
            step: Properties = {"driver": "raw", "node-name": sliced, "offset": part[0], "size": part[1], "file": name}
            step |= {"auto-read-only": True, "discard": "unmap", "cache": cache_properties(self.cache)}
            node.steps.append(("-blockdev", step))
            return sliced
        return name

    def _format_driver(self) -> str:
        return "luks" if self.kind == "raw" and self.encryption is not None else self.kind

    def _fixed_access(self) -> bool | None:
        group = getattr(self.source, "fdgroup", None)
        # one descriptor has one mode for ever
        return self.readonly if group is not None and self._descriptors == 1 else None

    _descriptors = 0

    def _storage_driver(self, launch: Launch, node: Node, name: str) -> Properties:
        source = launch.host.volume(self.source) if isinstance(self.source, VolumeSource) else self.source
        if isinstance(source, FileSource):
            path = source.file or ""
            if source.fdgroup is not None:
                descriptors = launch.host.fd_group(source.fdgroup)
                self._descriptors = len(descriptors)
                number = launch.descriptor_sets.get(id(source))
                if number is None:
                    # an image that comes later; QEMU gives the set a number of its own then
                    number = launch.descriptor_sets[id(source)] = launch.next_fdset()
                for place, descriptor in enumerate(descriptors):
                    node.descriptors.append(f"set={number},fd={descriptor},opaque={name}{place}")
                path = f"/dev/fdset/{number}"
            return {"driver": "file", "filename": path, "aio": self.aio, **self._reservations(node, name)}
        if isinstance(source, BlockSource):
            return self._block(launch.host, node, name, source.dev or "")
        if isinstance(source, DirSource):
            return {
                "driver": "vvfat",
                "dir": source.dir,
                "floppy": self.is_floppy,
                "rw": not self.readonly,
            }
        if isinstance(source, NvmeSource):
            if source.address is None:
                raise ConfigUnsupported("an NVMe source needs the address of its controller")
            address = source.address
            place_text = f"{address.domain:04x}:{address.bus:02x}:{address.slot:02x}.{address.function:x}"
            return {"driver": "nvme", "device": place_text, "namespace": source.namespace_id}
        if isinstance(source, NetworkSource):
            return network_storage(launch, node.steps, name, source, self.auth, self.encryption, self._secret_name())
        raise ConfigUnsupported("this kind of disk source is not supported")

    def _block(self, host: HostResources, node: Node, name: str, path: str) -> Properties:
        driver = "host_cdrom" if self.is_cdrom and host.is_optical(path) else "host_device"
        return {"driver": driver, "filename": path, "aio": self.aio, **self._reservations(node, name)}

    def _reservations(self, node: Node, name: str) -> Properties:
        wanted: PersistentReservations | None = getattr(self.source, "reservations", None)
        if wanted is None:
            return {}
        if wanted.managed:
            return {"pr-manager": "pr-helper0"}
        alias = f"pr-helper-{name}"
        path = wanted.source.path if wanted.source is not None else None
        node.steps.append(("-object", {"qom-type": "pr-manager-helper", "id": alias, "path": path}))
        return {"pr-manager": alias}


def topmost(nodes: Sequence[Node]) -> str | None:
    """The node a guest's disk is attached to."""
    return nodes[-1].name if nodes else None
