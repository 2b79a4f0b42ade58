"""Pulling data up: a disk's top image takes over what the images below it hold, and stands without them."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.block.chain import find_image, images_of, need_disk
from actors.qemu.block.copy import copy_as_before
from actors.qemu.block.jobs import PULL, begin_job, check_no_job
from actors.qemu.block.nodes import name_for
from actors.qemu.block.relative import relative_name
from actors.qemu.block.speed import speed_of
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.records import BlockJob
from actors.qemu.transient import check_lasting
from actors.runtime.calls import Calls
from schema.enums.domain_block import DomainBlockPullFlags as PullFlags
from schema.enums.domain_block import DomainBlockRebaseFlags as RebaseFlags
from schema.errors import InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_REBASE: Final = int(
    RebaseFlags.SHALLOW
    | RebaseFlags.REUSE_EXT
    | RebaseFlags.COPY
    | RebaseFlags.COPY_RAW
    | RebaseFlags.RELATIVE
    | RebaseFlags.COPY_DEV
    | RebaseFlags.BANDWIDTH_BYTES
)


@calls.handles(key="dom")
async def domain_block_pull(host: QemuHost, dom: DomainRef, path: str, bandwidth: int, flags: int) -> None:
    """Begins to pull everything below a disk's top image up. Raises as `domain_block_rebase` does."""
    check_flags(flags, int(PullFlags.BANDWIDTH_BYTES), "qemuDomainBlockPull")
    await _pull(host, dom, path, None, bandwidth, flags)


@calls.handles(key="dom")
async def domain_block_rebase(
    host: QemuHost, dom: DomainRef, path: str, base: str | None, bandwidth: int, flags: int
) -> None:
    """Begins to pull what lies between a disk's top image and `base` up; with COPY, a copy to the file `base`.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for a disk or image that is not
    there, BlockCopyActive and OperationUnsupported beside another job, InternalError when QEMU refuses.
    """
    check_flags(flags, _REBASE, "qemuDomainBlockRebase")
    if flags & RebaseFlags.COPY:
        await copy_as_before(host, dom, path, base, bandwidth, flags)
        return
    kept = flags & (RebaseFlags.RELATIVE | RebaseFlags.BANDWIDTH_BYTES)
    if flags & ~kept:
        raise InvalidArguments("flags besides relative names and bandwidth need a copy")
    await _pull(host, dom, path, base, bandwidth, flags)


async def _pull(host: QemuHost, dom: DomainRef, path: str, base: str | None, bandwidth: int, flags: int) -> None:
    guest = host.guest(dom)
    if flags & RebaseFlags.RELATIVE and not base:
        raise InvalidArguments("flag VIR_DOMAIN_BLOCK_REBASE_RELATIVE is valid only with non-null base")
    guest.need_run()
    disk = need_disk(guest.live, path)
    check_no_job(guest, disk)
    check_lasting(disk)
    images = images_of(disk)
    if not images:
        raise InvalidArguments(f"disk '{disk.target.dev}' has no source file to be pulled")
    speed = speed_of(bandwidth, in_bytes=bool(flags & RebaseFlags.BANDWIDTH_BYTES))
    arguments: dict[str, Any] = {"device": images[0].format_node}
    number = 0
    if base:
        place = find_image(images, disk.target.dev, base, 1)
        number = images[place].index
        arguments["base-node"] = images[place].format_node
        if flags & RebaseFlags.RELATIVE:
            arguments["backing-file"] = await host.runtime.in_thread(relative_name, images, 0, place)
        else:
            arguments["backing-file"] = await name_for(host, guest, disk, images[place])
    if speed:
        arguments["speed"] = speed
    # QEMU 7.2 dies when it is asked about its nodes while such a job has ended and is not forgotten yet
    arguments["auto-dismiss"] = True
    name = f"pull-{disk.target.dev}-{images[0].format_node}"
    job = BlockJob(name=name, kind=PULL, disk=disk.target.dev, top=images[0].index, base=number)
    await begin_job(host, guest, job, "block-stream", arguments)
