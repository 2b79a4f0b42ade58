"""A running guest's disk becomes larger or smaller, and what lies in one can be looked at."""

from __future__ import annotations

import os
from typing import Final

from actors.qemu.block.chain import find_disk as find_live_disk
from actors.qemu.block.chain import images_of, path_of
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_block import DomainBlockResizeFlags as ResizeFlags
from schema.errors import DomainStateError, HostSystemError, InvalidArguments, NumericOverflow, OperationUnsupported
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_MOST_KIB: Final = ((1 << 64) - 1) // 1024
_PEEK_MAX: Final = 4 * 1024 * 1024


@calls.handles(key="dom")
async def domain_block_resize(host: QemuHost, dom: DomainRef, disk: str, size: int, flags: int) -> None:
    """Gives a running guest's disk another size, in KiB, or bytes where the caller says so.

    Raises NoSuchDomain, DomainStateError when the guest is off, InvalidArguments for a disk that is not there,
    OperationUnsupported for one that QEMU cannot resize, InternalError when it refuses.
    """
    check_flags(flags, int(ResizeFlags.BYTES), "qemuDomainBlockResize")
    if not disk:
        raise InvalidArguments("empty path")
    if not flags & ResizeFlags.BYTES:
        if size > _MOST_KIB:
            raise NumericOverflow(f"size must be less than {_MOST_KIB}")
        size *= 1024
    guest = host.guest(dom)
    guest.need_run()
    found = find_live_disk(guest.live, disk)
    if found is None:
        raise InvalidArguments(f"disk '{disk}' was not found in the domain config")
    images = images_of(found)
    if not images:
        raise OperationUnsupported("block resize is not supported for an empty disk")
    if images[0].format in ("qcow2", "qed"):
        size = -(-size // 512) * 512
    await guest.ask("block_resize", {"node-name": images[0].format_node, "size": size})
    host.publish(guest)


@calls.handles(key="dom", lane="query")
async def domain_block_peek(host: QemuHost, dom: DomainRef, path: str, offset: int, size: int, flags: int) -> bytes:
    """What lies in a raw disk at a place.

    Raises NoSuchDomain, InvalidArguments for a disk that is not there, OperationUnsupported for another format,
    HostSystemError when it cannot be read.
    """
    check_flags(flags, 0, "qemuDomainBlockPeek")
    guest = host.guest(dom)
    definition = guest.live if guest.is_active else guest.config
    disk = find_live_disk(definition, path)
    if disk is None:
        raise InvalidArguments(f"invalid disk or path '{path}'")
    if not images_of(disk):
        raise DomainStateError(f"disk '{disk.target.dev}' has currently no source assigned")
    if size > _PEEK_MAX:
        raise InvalidArguments(f"size must be less than {_PEEK_MAX + 1}")
    image = images_of(disk)[0]
    where = path_of(image.source)
    if image.format != "raw" or where is None:
        raise OperationUnsupported(f"peeking is only supported for disk with 'raw' format not '{image.format}'")
    return await host.runtime.in_thread(_read, where, offset, size)


def _read(path: str, offset: int, size: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
    except (OSError, OverflowError) as exc:
        raise HostSystemError(getattr(exc, "errno", 0) or 0, f"failed to read '{path}'") from exc
