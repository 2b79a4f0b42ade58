"""What QEMU tells of disks and threads that no counter of the host knows: errors, and how threads poll."""

from __future__ import annotations

from typing import Any

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_block import DomainDiskErrorCode as DiskError
from schema.objects import DomainDiskError, DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()


@calls.handles(key="dom", lane="query")
async def domain_get_disk_errors(host: QemuHost, dom: DomainRef, maxerrors: int, flags: int) -> dict[str, Any]:
    """The disks that have failed since the guest was let go last. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "qemuDomainGetDiskErrors")
    guest = host.guest(dom)
    guest.need_run()
    disks = guest.live.devices.disks
    if not maxerrors:
        return {"errors": [], "nerrors": len(disks)}
    words = {"nospace": DiskError.NO_SPACE, "failed": DiskError.UNSPEC}
    said = {}
    for one in await guest.ask("query-block"):
        path = str(one.get("qdev") or one.get("device") or "")
        said[path.removeprefix("/machine/peripheral/").partition("/")[0]] = words.get(str(one.get("io-status")))
    errors: list[DomainDiskError] = []
    for disk in disks:
        error = said.get(disk.alias or "")
        if error is not None and len(errors) < maxerrors:
            errors.append(DomainDiskError(disk.target.dev, int(error)))
    return {"errors": errors, "nerrors": len(errors)}


async def iothread_stats(guest: Guest) -> list[TypedParam]:
    """How a running guest's input/output threads poll. Raises as `Guest.ask` does."""
    threads = await guest.ask("query-iothreads")
    if not threads:
        return []
    found = [TypedParam.of_uint("iothread.count", len(threads))]
    for one in threads:
        number = str(one["id"]).removeprefix("iothread")
        if number.isdigit() and "poll-max-ns" in one:
            found.append(TypedParam.of_ullong(f"iothread.{number}.poll-max-ns", int(one["poll-max-ns"])))
            found.append(TypedParam.of_uint(f"iothread.{number}.poll-grow", int(one["poll-grow"])))
            found.append(TypedParam.of_uint(f"iothread.{number}.poll-shrink", int(one["poll-shrink"])))
    return found
