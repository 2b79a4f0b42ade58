"""Block jobs while they go on: how far they are, how fast they may be, and their end by a caller's word."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.qemu.block.bitmaps_live import watch_writes
from actors.qemu.block.chain import need_disk
from actors.qemu.block.jobs import (
    ACTIVE_COMMIT,
    COPY,
    END,
    FAILED,
    TYPES,
    check_not_ending,
    job_of,
    need_job,
    wait_for_end,
)
from actors.qemu.block.keeping import find_job, keep_now, put_job
from actors.qemu.block.speed import shown_speed, speed_of
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_block import DomainBlockJobAbortFlags as AbortFlags
from schema.enums.domain_block import DomainBlockJobInfoFlags as InfoFlags
from schema.enums.domain_block import DomainBlockJobSetSpeedFlags as SpeedFlags
from schema.errors import BlockCopyActive, DomainStateError, OperationFailed
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_NONE: Final = {"found": 0, "type": 0, "bandwidth": 0, "cur": 0, "end": 0}


@calls.handles(key="dom", lane="query")
async def domain_get_block_job_info(host: QemuHost, dom: DomainRef, path: str, flags: int) -> dict[str, int]:
    """How far the block job of a disk is. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, int(InfoFlags.BANDWIDTH_BYTES), "qemuDomainGetBlockJobInfo")
    guest = host.guest(dom)
    guest.need_run()
    disk = need_disk(guest.live, path)
    job = job_of(guest, disk)
    if job is None:
        return dict(_NONE)
    for one in await guest.ask("query-block-jobs"):
        if one.get("device") == job.name:
            done, total = int(one["offset"]), int(one["len"])
            if done == total:
                # complete means ready; what is not ready has something left to do
                if one.get("ready"):
                    done, total = (done, total) if total else (1, 1)
                elif done > 0:
                    done -= 1
            speed = shown_speed(int(one["speed"]), in_bytes=bool(flags & InfoFlags.BANDWIDTH_BYTES))
            return {"found": 1, "type": int(TYPES[job.kind]), "bandwidth": speed, "cur": done, "end": total}
    # QEMU is done, and what it leaves is being put in order
    return {"found": 1, "type": int(TYPES[job.kind]), "bandwidth": 0, "cur": 99, "end": 100}


@calls.handles(key="dom")
async def domain_block_job_set_speed(host: QemuHost, dom: DomainRef, path: str, bandwidth: int, flags: int) -> None:
    """Limits the speed of a block job. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, int(SpeedFlags.BANDWIDTH_BYTES), "qemuDomainBlockJobSetSpeed")
    speed = speed_of(bandwidth, in_bytes=bool(flags & SpeedFlags.BANDWIDTH_BYTES))
    guest = host.guest(dom)
    guest.need_run()
    job = need_job(guest, need_disk(guest.live, path))
    await guest.ask("block-job-set-speed", {"device": job.name, "speed": speed})


@calls.handles(key="dom")
async def domain_block_job_abort(host: QemuHost, dom: DomainRef, path: str, flags: int) -> None:
    """Ends a block job: it is given up, or (PIVOT) the guest goes on with the copy.

    Raises NoSuchDomain, DomainStateError when the guest is off or the job cannot pivot, InvalidArguments when there is
    none, BlockCopyActive when the copy is not complete yet, OperationFailed when it fails at the end.
    """
    check_flags(flags, int(AbortFlags.ASYNC | AbortFlags.PIVOT), "qemuDomainBlockJobAbort")
    guest = host.guest(dom)
    guest.need_run()
    disk = need_disk(guest.live, path)
    job = need_job(guest, disk)
    check_not_ending(job)
    pivots = bool(flags & AbortFlags.PIVOT)
    if pivots:
        if job.kind not in (COPY, ACTIVE_COMMIT):
            word = {"pull": "pull", "commit": "commit", "backup": "backup"}[job.kind]
            raise DomainStateError(f"job type '{word}' does not support pivot")
        if job.state != "ready":
            raise BlockCopyActive(f"block job '{job.name}' not ready for pivot yet")
        await watch_writes(guest, disk, job)
    facts = {"uuid": guest.record.uuid, "job": job.name}
    async with host.intents.change(END, facts):
        state = "pivoting" if pivots else "aborting"
        put_job(guest, msgspec.structs.replace(job, state=state))
        if disk.mirror is not None:
            disk.mirror.ready = "pivot" if pivots else "abort"
        waits = None if flags & AbortFlags.ASYNC else guest.waiters.expect(job.name)
        try:
            await keep_now(host, guest)
            if pivots:
                await guest.ask("job-complete", {"id": job.name})
            else:
                await guest.ask("block-job-cancel", {"device": job.name})
        except BaseException:
            guest.waiters.leave(job.name)
            now = find_job(guest, job.name)
            if now is not None:
                put_job(guest, job)
                if disk.mirror is not None:
                    disk.mirror.ready = "yes" if job.state == "ready" else None
                host.keep_soon(guest)
            raise
        if waits is None:
            return
        if await wait_for_end(host, guest, job.name, waits) == FAILED and pivots:
            raise OperationFailed(f"block job '{job.name}' failed while pivoting")
