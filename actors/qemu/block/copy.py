"""Copying a disk to another image, which the guest may then go on with."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from lxml import etree

from actors.qemu.block.chain import Image, images_of, need_disk, path_of, take_number
from actors.qemu.block.commit import mirror_of
from actors.qemu.block.jobs import BEGIN, COPY, begin_noted_job, check_no_job
from actors.qemu.block.nodes import (
    close_images,
    create_image,
    launch_of,
    make_file,
    nodes_for,
    open_images,
    remove_file,
    size_of,
)
from actors.qemu.block.speed import LONG_MAX, speed_of
from actors.qemu.claims import claim_images, owner_of_new_file, settle_claims
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.images import chain_below, image_format
from actors.qemu.records import BlockJob
from actors.qemu.transient import check_lasting
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.domain.disk import Disk
from conf.domain.storage_source import BlockSource, FileSource, StorageSource
from conf.flags import ParseFlags
from schema.enums.domain_block import DomainBlockCopyFlags as CopyFlags
from schema.enums.domain_block import DomainBlockRebaseFlags as RebaseFlags
from schema.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    DomainStateError,
    HostSystemError,
    InvalidArguments,
    XmlError,
)
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(CopyFlags.SHALLOW | CopyFlags.REUSE_EXT | CopyFlags.TRANSIENT_JOB | CopyFlags.SYNCHRONOUS_WRITES)
_PARAMS: Final = ("bandwidth", "granularity", "buf-size")
_ULONG_MAX: Final = (1 << 64) - 1


@calls.handles(key="dom")
async def domain_block_copy(
    host: QemuHost, dom: DomainRef, path: str, destxml: str, params: list[TypedParam], flags: int
) -> None:
    """Begins to copy a disk to the image that a document describes.

    Raises NoSuchDomain, DomainStateError when the guest is off or would forget the copy, InvalidArguments for a disk
    that is not there or a bad parameter, XmlError, ConfigUnsupported for a place that cannot be used, BlockCopyActive
    and OperationUnsupported beside another job, InternalError when QEMU refuses.
    """
    check_flags(flags, _FLAGS, "qemuDomainBlockCopy")
    guest = host.guest(dom)
    given = {}
    for param in params:
        if param.field not in _PARAMS:
            raise ArgumentUnsupported(f"parameter '{param.field}' not supported")
        given[param.field] = int(param.value)
    speed = given.get("bandwidth", 0)
    if speed > LONG_MAX:
        raise InvalidArguments(f"bandwidth must be less than '{LONG_MAX}' bytes/s (9223372036854775807)")
    granularity, buffer = given.get("granularity", 0), given.get("buf-size", 0)
    if granularity and granularity & (granularity - 1):
        raise InvalidArguments("granularity must be power of 2")
    source, kind = _described(destxml)
    await _copy(host, guest, path, source, kind, flags, speed=speed, granularity=granularity, buffer=buffer)


async def copy_as_before(
    host: QemuHost, dom: DomainRef, path: str, base: str | None, bandwidth: int, flags: int
) -> None:
    """The older call for a copy, which names a file. Raises as `domain_block_copy` does."""
    guest = host.guest(dom)
    if base is None:
        raise InvalidArguments("base in domain_block_rebase must not be NULL")
    source: StorageSource = BlockSource(dev=base) if flags & RebaseFlags.COPY_DEV else FileSource(file=base)
    kind = "raw" if flags & RebaseFlags.COPY_RAW else None
    speed = speed_of(bandwidth, in_bytes=bool(flags & RebaseFlags.BANDWIDTH_BYTES))
    kept = flags & (RebaseFlags.SHALLOW | RebaseFlags.REUSE_EXT)
    await _copy(host, guest, path, source, kind, kept, speed=speed)


def _described(xml: str) -> tuple[StorageSource, str | None]:
    """The image that a `<disk>` describes, and its format if that is said."""
    node = parse_document(xml, name="disk_definition", root="disk")
    if node.find("target") is None:
        # a place for a copy is no disk of the guest yet
        etree.SubElement(node, "target", dev="vda")
    disk = Disk.parse(node, ParseFlags.NONE)
    if disk.source is None:
        raise XmlError("missing source for the copy")
    if disk.encryption is not None and isinstance(disk.source, FileSource | BlockSource):
        disk.source.encryption = disk.source.encryption or disk.encryption
    return disk.source, disk.driver.type if disk.driver is not None else None


async def _copy(
    host: QemuHost,
    guest: Guest,
    wanted: str,
    source: StorageSource,
    kind: str | None,
    flags: int,
    *,
    speed: int,
    granularity: int = 0,
    buffer: int = 0,
) -> None:
    path = path_of(source)
    if path is not None and not path.startswith("/"):
        raise InvalidArguments("absolute path must be used as block copy target")
    guest.need_run()
    disk = need_disk(guest.live, wanted)
    images = images_of(disk)
    check_no_job(guest, disk)
    check_lasting(disk)
    if not images:
        raise InvalidArguments(f"disk '{disk.target.dev}' has no media")
    if guest.is_persistent and not flags & CopyFlags.TRANSIENT_JOB:
        raise DomainStateError("domain is not transient")
    shallow, reuses = bool(flags & CopyFlags.SHALLOW), bool(flags & CopyFlags.REUSE_EXT)
    shallow = shallow and len(images) > 1
    await host.runtime.in_thread(_check_place, source, disk.target.dev, reuses)
    if kind is None and reuses and path is not None:
        kind = await host.runtime.in_thread(image_format, path)
    copy = Image(source, kind or images[0].format)
    target = disk.target.dev
    copy.index = take_number(guest)
    stores = [[copy.index, "" if reuses else path or ""]]
    name = f"copy-{target}-{images[0].format_node}"
    facts = {"uuid": guest.record.uuid, "job": name, "stores": stores}
    async with host.intents.change(BEGIN, facts), AsyncExitStack() as undo:
        copies = await _open_copy(host, guest, disk, images, copy, shallow=shallow, reuses=reuses, undo=undo)
        arguments: dict[str, Any] = {
            "device": images[0].format_node,
            "target": copy.format_node,
            "sync": "top" if shallow else "full",
        }
        limits = {"speed": speed, "granularity": granularity, "buf-size": buffer}
        arguments |= {word: value for word, value in limits.items() if value}
        if flags & CopyFlags.SYNCHRONOUS_WRITES:
            arguments["copy-mode"] = "write-blocking"
        disk.mirror = mirror_of(copies[0], copies[1:], "copy")
        job = BlockJob(
            name=name,
            kind=COPY,
            disk=target,
            top=images[0].index,
            shallow=shallow,
            reuses=reuses,
        )
        await begin_noted_job(host, guest, job, "blockdev-mirror", arguments)
        undo.pop_all()


async def _open_copy(
    host: QemuHost,
    guest: Guest,
    disk: Disk,
    images: Sequence[Image],
    copy: Image,
    *,
    shallow: bool,
    reuses: bool,
    undo: AsyncExitStack,
) -> list[Image]:
    """Makes and opens the image that takes the copy; gives it with those below it."""
    launch = await launch_of(host, guest, copy.source)
    if reuses or not isinstance(copy.source, FileSource) or copy.source.fdgroup is not None:
        copies = [copy]
        if shallow:
            for one in await host.runtime.in_thread(chain_below, copy.path or "", copy.format):
                one.index = take_number(guest)
                copies.append(one)
        await claim_images(host, guest, disk, copies)
        undo.push_async_callback(settle_claims, host, guest)
        nodes = nodes_for(launch, disk, copies)
        await open_images(guest, nodes)
        undo.push_async_callback(close_images, guest, copies)
        return copies
    path = copy.path or ""
    if await host.runtime.in_thread(make_file, path, owner_of_new_file(host, guest)):
        undo.callback(remove_file, path)
    await claim_images(host, guest, disk, [copy])
    undo.push_async_callback(settle_claims, host, guest)
    size = await size_of(guest, images[0].format_node)
    node = nodes_for(launch, disk, [copy])[-1]
    below = list(images[1:]) if shallow else []
    await create_image(
        host,
        guest,
        node,
        copy,
        size,
        below[0] if below else None,
        backing=below[0].format_node if below else None,
    )
    undo.push_async_callback(close_images, guest, [copy])
    return [copy, *below]


def _check_place(source: StorageSource, target: str, reuses: bool) -> None:
    path = path_of(source)
    if path is None:
        return
    try:
        facts = Path(path).stat()
    except FileNotFoundError as exc:
        if reuses or isinstance(source, BlockSource):
            raise HostSystemError(errno.ENOENT, f"missing destination file for disk {target}: {path}") from exc
        return
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"unable to stat block copy target '{path}'") from exc
    if not reuses and not stat.S_ISBLK(facts.st_mode) and facts.st_size:
        raise ConfigUnsupported(
            f"external destination file for disk {target} already exists and is not a block device: {path}"
        )
    if isinstance(source, BlockSource) and not stat.S_ISBLK(facts.st_mode):
        raise InvalidArguments(f"blockdev flag requested for disk {target}, but file '{path}' is not a block device")
