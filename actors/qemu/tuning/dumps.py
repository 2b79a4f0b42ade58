"""A guest's memory in a file for those who look for faults in it; the guest goes on, is reset, or ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors.qemu.ending import end_process
from actors.qemu.flags import check_apart, check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job, running_job
from actors.qemu.monitor.link import CommandRefused, MonitorGone
from actors.qemu.pausing import go_on, pause
from actors.qemu.saved.streams import RAW, Stream, Way, format_of, writing
from actors.qemu.transient import check_all_lasting
from actors.runtime.calls import Calls
from schema.enums.domain import DomainCoreDumpFlags as DumpFlags
from schema.enums.domain import DomainCoreDumpFormat as DumpFormat
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import (
    DomainStateError,
    HostSystemError,
    HypervisorGone,
    InternalError,
    InvalidArguments,
    OperationFailed,
    OperationUnsupported,
    VirtError,
)
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(DumpFlags.CRASH | DumpFlags.LIVE | DumpFlags.BYPASS_CACHE | DumpFlags.RESET | DumpFlags.MEMORY_ONLY)
_FORMATS: Final = {
    DumpFormat.RAW: "elf",
    DumpFormat.KDUMP_ZLIB: "kdump-zlib",
    DumpFormat.KDUMP_LZO: "kdump-lzo",
    DumpFormat.KDUMP_SNAPPY: "kdump-snappy",
    DumpFormat.WIN_DMP: "win-dmp",
}
_FD_NAME: Final = "dump"
_POLL_S: Final = 0.05
_UNLIMITED: Final = 1 << 60


@calls.handles(key="dom")
async def domain_core_dump_with_format(host: QemuHost, dom: DomainRef, to: str, dumpformat: int, flags: int) -> None:
    """Writes a guest's memory to a file; then it goes on, or with CRASH ends, or with RESET begins anew.

    Raises NoSuchDomain, DomainStateError when it is off, InvalidArguments, OperationUnsupported for a format that the
    emulator does not have, HostSystemError and OperationFailed when the file cannot be written, OperationAborted.
    """
    check_flags(flags, _FLAGS, "qemuDomainCoreDumpWithFormat")
    check_apart(flags, DumpFlags.CRASH, "VIR_DUMP_CRASH", DumpFlags.LIVE, "VIR_DUMP_LIVE")
    check_apart(flags, DumpFlags.CRASH, "VIR_DUMP_CRASH", DumpFlags.RESET, "VIR_DUMP_RESET")
    check_apart(flags, DumpFlags.LIVE, "VIR_DUMP_LIVE", DumpFlags.RESET, "VIR_DUMP_RESET")
    if dumpformat not in _FORMATS:
        raise InvalidArguments(f"dumpformat '{dumpformat}' is not supported")
    guest = host.guest(dom)
    guest.need_run()
    if dumpformat != DumpFormat.RAW and not flags & DumpFlags.MEMORY_ONLY:
        raise DomainStateError("kdump-compressed format is only supported with memory-only dump")
    if not flags & DumpFlags.MEMORY_ONLY:
        check_all_lasting(guest.live)
    was_running = guest.state is DomainState.RUNNING
    pauses = was_running and not flags & DumpFlags.LIVE
    facts = {"uuid": guest.record.uuid, "path": to, "ran": pauses}
    async with host.intents.change("dump", facts):
        try:
            if pauses:
                await pause(host, guest, DomainPausedReason.DUMP)
            await dump_memory(host, guest, Path(to), _FORMATS[DumpFormat(dumpformat)], flags)
        except BaseException:
            if pauses and guest.run is not None:
                await go_on(host, guest)
            raise
        if flags & DumpFlags.CRASH:
            guest.destroys = True
            await end_process(guest, force=True)
            await host.end(guest, DomainShutoffReason.CRASHED)
            return
        if flags & DumpFlags.RESET:
            await guest.ask("system_reset")
        if pauses:
            await go_on(host, guest)


@calls.handles(key="dom")
async def domain_core_dump(host: QemuHost, dom: DomainRef, to: str, flags: int) -> None:
    """The same in the usual format. Raises as that does."""
    await domain_core_dump_with_format(host, dom, to, int(DumpFormat.RAW), flags)


async def dump_memory(host: QemuHost, guest: Guest, path: Path, form: str, flags: int) -> None:
    """Writes the file; a file that is not whole is removed. Raises as the call does."""
    is_memory = bool(flags & DumpFlags.MEMORY_ONLY)
    if is_memory and form != "elf":
        known = await guest.ask("query-dump-guest-memory-capability")
        if form not in known["formats"]:
            raise OperationUnsupported(f"unsupported dumpformat '{form}' for this QEMU binary")
    _empty(path)
    way = Way(RAW if is_memory else _format(host), bool(flags & DumpFlags.BYPASS_CACHE))
    with contextlib.ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        async with writing(path, 0, way) as stream:
            await _hand_over(guest, stream)
            if is_memory:
                await _dump(guest, form)
            else:
                await _migrate(guest)
        undo.pop_all()


def _empty(path: Path) -> None:
    # whoever names a pipe that nobody reads must not hold us up
    mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        os.close(os.open(path, mode, 0o600))
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to create file '{path}'") from exc


def _format(host: QemuHost) -> int:
    """A dump in a format that cannot be had is better than none."""
    try:
        return format_of(host.config.qemu.dump_image_format, "dump")
    except OperationFailed as exc:
        host.log.warning("a dump is not packed", error=exc.message)
        return RAW


async def dump_crash(host: QemuHost, guest: Guest) -> None:
    """Keeps the memory of a guest whose kernel gave up, for whoever wants to know why; never fails."""
    folder = Path(host.config.qemu.auto_dump_folder or host.state_folder / "dump")
    way = DumpFlags.MEMORY_ONLY
    if host.config.qemu.auto_dump_bypass_cache:
        way |= DumpFlags.BYPASS_CACHE
    path = folder / f"{guest.name.replace('/', '_')}-{time.strftime('%Y-%m-%d-%H-%M-%S', time.gmtime())}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await dump_memory(host, guest, path, "elf", int(way))
    except (OSError, VirtError) as exc:
        host.log.error("the memory of a guest that crashed was not kept", guest=guest.name, error=str(exc))
    else:
        host.log.info("the memory of a guest that crashed was kept", guest=guest.name, path=str(path))


async def _hand_over(guest: Guest, stream: Stream) -> None:
    try:
        await guest.need_monitor().hand_over(_FD_NAME, stream.descriptor)
    except CommandRefused as exc:
        raise InternalError(f"unable to execute QEMU command 'getfd': {exc.reason}") from exc
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    finally:
        stream.close()


async def _dump(guest: Guest, form: str) -> None:
    # QEMU cannot give up a dump once it writes
    with running_job(guest, Operation.DUMP, "dump job") as job:
        await guest.ask(
            "dump-guest-memory", {"paging": False, "protocol": f"fd:{_FD_NAME}", "detach": True, "format": form}
        )
        while True:
            status = await guest.ask("query-dump")
            done, total = int(status["completed"]), int(status["total"])
            job.status = {"ram": {"total": total, "transferred": done, "remaining": total - done}}
            if status["status"] == "completed":
                return
            if status["status"] == "failed":
                raise OperationFailed(
                    f"memory-only dump failed: {job.error}"
                    if job.error
                    else "memory-only dump failed for unknown reason"
                )
            await asyncio.sleep(_POLL_S)


async def _migrate(guest: Guest) -> None:
    async def cancel() -> None:
        await guest.ask("migrate_cancel")

    with running_job(guest, Operation.DUMP, "dump job", cancel) as job:
        await guest.ask_all(
            [
                ("migrate-set-parameters", {"max-bandwidth": _UNLIMITED}),
                ("migrate", {"uri": f"fd:{_FD_NAME}", "detach": True}),
            ]
        )
        await follow_migration(guest, job)


async def follow_migration(guest: Guest, job: Job, told: Callable[[Job], None] | None = None) -> None:
    """Waits until QEMU has written its memory.

    Raises OperationFailed when it could not, OperationAborted when a client has asked for its end; whoever is cancelled
    meanwhile leaves no migration behind.
    """
    try:
        while True:
            job.status = await guest.ask("query-migrate")
            if told is not None:
                told(job)
            state = job.status.get("status")
            if state == "completed":
                return
            if state in ("failed", "cancelled"):
                job.check()
                raise OperationFailed(f"{job.word}: {job.status.get('error-desc', 'unexpectedly failed')}")
            await asyncio.sleep(_POLL_S)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(_cancel(guest)))
        raise


async def _cancel(guest: Guest) -> None:
    await guest.ask("migrate_cancel")
    for _ in range(100):
        if (await guest.ask("query-migrate")).get("status") in ("cancelled", "failed", "completed"):
            return
        await asyncio.sleep(_POLL_S)


async def settle_dump(guest: Guest | None, path: Path, *, ran: bool) -> None:
    """What is left of a dump that the last process did not finish: the guest goes on, the unfinished file goes.

    Raises VirtError when the guest does not answer.
    """
    path.unlink(missing_ok=True)
    if guest is None or guest.run is None or guest.monitor is None or not guest.monitor.is_open:
        return
    await guest.ask("migrate_cancel")
    if ran and guest.state is DomainState.PAUSED:
        await guest.ask("cont")
        guest.adopt(guest.running(state=int(DomainState.RUNNING), reason=int(DomainRunningReason.UNPAUSED)))
