"""Committing data down: an image below takes over what those above it hold, and they are needed no more."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.block.chain import Image, find_image, images_of, need_disk, stores
from actors.qemu.block.jobs import ACTIVE_COMMIT, COMMIT, begin_job, check_no_job
from actors.qemu.block.nodes import name_for
from actors.qemu.block.relative import relative_name
from actors.qemu.block.speed import speed_of
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.records import BlockJob
from actors.qemu.transient import check_lasting
from actors.runtime.calls import Calls
from conf.domain.disk import ImageFormat, Mirror
from schema.enums.domain_block import DomainBlockCommitFlags as CommitFlags
from schema.errors import InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(
    CommitFlags.SHALLOW | CommitFlags.ACTIVE | CommitFlags.RELATIVE | CommitFlags.DELETE | CommitFlags.BANDWIDTH_BYTES
)


@calls.handles(key="dom")
async def domain_block_commit(
    host: QemuHost, dom: DomainRef, disk: str, base: str | None, top: str | None, bandwidth: int, flags: int
) -> None:
    """Begins to commit the images from `top` on down into `base`.

    A commit of the top image goes on until it is told to pivot. Raises NoSuchDomain, DomainStateError when the guest is
    off, InvalidArguments for a disk or image that is not there, BlockCopyActive and OperationUnsupported beside another
    job, InternalError when QEMU refuses.
    """
    check_flags(flags, _FLAGS, "qemuDomainBlockCommit")
    guest = host.guest(dom)
    definition = guest.live if guest.is_active else guest.config
    speed = speed_of(bandwidth, in_bytes=bool(flags & CommitFlags.BANDWIDTH_BYTES))
    found = need_disk(definition, disk)
    images, target = images_of(found), found.target.dev
    if not images:
        raise InvalidArguments(f"disk '{target}' has no source file to be committed")
    first = 0 if top is None or top == target else find_image(images, target, top)
    is_shallow = base is None and flags & CommitFlags.SHALLOW
    last = first + 1 if is_shallow else find_image(images, target, base, first + 1)
    guest.need_run()
    check_no_job(guest, found)
    check_lasting(found)
    is_active = first == 0
    if is_active and not flags & CommitFlags.ACTIVE:
        raise InvalidArguments(f"commit of '{target}' active layer requires active flag")
    if not is_active and flags & CommitFlags.ACTIVE:
        raise InvalidArguments(f"active commit requested but '{images[first].path}' is not active")
    if last >= len(images):
        raise InvalidArguments(f"top '{images[first].path}' in chain for '{disk}' has no backing file")
    arguments: dict[str, Any] = {
        "device": images[0].format_node,
        "top-node": images[first].format_node,
        "base-node": images[last].format_node,
    }
    if speed:
        arguments["speed"] = speed
    if not is_active:
        if flags & CommitFlags.RELATIVE:
            arguments["backing-file"] = await host.runtime.in_thread(relative_name, images, first - 1, last)
        else:
            arguments["backing-file"] = await name_for(host, guest, found, images[last])
    job = BlockJob(
        name=f"commit-{target}-{images[first].format_node}",
        kind=ACTIVE_COMMIT if is_active else COMMIT,
        disk=target,
        top=images[first].index,
        base=images[last].index,
        above=0 if is_active else images[first - 1].index,
        deletes=bool(flags & CommitFlags.DELETE),
    )
    if is_active:
        found.mirror = mirror_of(images[last], images[last + 1 :], "active-commit")
    await begin_job(host, guest, job, "block-commit", arguments)


def mirror_of(image: Image, below: list[Image], job: str) -> Mirror:
    """The `<mirror>` of a job that makes an image the top one of a disk."""
    source = image.source.copy()
    source.index = image.index
    mirror = Mirror(type=image.type, job=job, format=ImageFormat(type=image.format), source=source)
    mirror.backing_store = stores(below)
    if job == "copy" and image.type == "file":
        mirror.file, mirror.file_format = image.path, image.format
    return mirror
