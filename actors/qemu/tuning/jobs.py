"""What long work goes on with guests, and its end on request."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import job_parameters, job_type, sizes
from actors.runtime.calls import Calls
from schema.enums.domain_job import DomainAbortJobFlags as AbortFlags
from schema.enums.domain_job import DomainGetJobStatsFlags as StatsFlags
from schema.enums.domain_job import DomainJobType as Type
from schema.errors import DomainStateError, VirtError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_KINDS: Final = ("memory", "disk")
_WHAT: Final = ("total", "processed", "remaining")
_THEIRS: Final = {"memory": "mem", "disk": "file"}


async def _measure(guest: Guest) -> None:
    """Asks how far the work is; one that does not say is told as it last was."""
    job = guest.job
    if job is None or guest.monitor is None or job.abort is None:
        return
    try:
        told = await (guest.ask("query-migrate") if job.measure is None else job.measure())
        job.status = told or job.status
    except VirtError:
        return


@calls.handles(key="dom", lane="query")
async def domain_get_job_info(host: QemuHost, dom: DomainRef) -> dict[str, int]:
    """What long work goes on with a guest, and how far it is. Raises NoSuchDomain, DomainStateError when it is off."""
    guest = host.guest(dom)
    guest.need_run()
    await _measure(guest)
    answer = {"type": int(Type.NONE), "timeElapsed": 0, "timeRemaining": 0}
    answer |= {f"{kind}{what.title()}": 0 for kind in ("data", "mem", "file") for what in _WHAT}
    job = guest.job
    if job is None:
        return answer
    size = sizes(job)
    answer |= {f"{_THEIRS[kind]}{what.title()}": size[f"{kind}_{what}"] for kind in _KINDS for what in _WHAT}
    answer |= {f"data{what.title()}": sum(size[f"{kind}_{what}"] for kind in _KINDS) for what in _WHAT}
    return answer | {"type": int(job_type(job, is_completed=False)), "timeElapsed": job.elapsed_ms}


@calls.handles(key="dom", lane="query")
async def domain_get_job_stats(host: QemuHost, dom: DomainRef, flags: int) -> dict[str, Any]:
    """The same in more words; with COMPLETED: of the last that ended, which is then forgotten unless KEEP is given.

    Raises NoSuchDomain, DomainStateError when the guest is off.
    """
    check_flags(flags, int(StatsFlags.COMPLETED | StatsFlags.KEEP_COMPLETED), "qemuDomainGetJobStats")
    guest = host.guest(dom)
    if flags & StatsFlags.COMPLETED:
        job = guest.completed_job
        if not flags & StatsFlags.KEEP_COMPLETED:
            guest.completed_job = None
    else:
        guest.need_run()
        await _measure(guest)
        job = guest.job
    if job is None:
        return {"type": int(Type.NONE), "params": []}
    is_completed = bool(flags & StatsFlags.COMPLETED)
    return {"type": int(job_type(job, is_completed=is_completed)), "params": job_parameters(job)}


@calls.handles()
async def domain_abort_job_flags(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Has the long work that goes on with a guest end; whoever asked for it is told so.

    Raises NoSuchDomain, DomainStateError when there is none, or it cannot end early.
    """
    check_flags(flags, int(AbortFlags.POSTCOPY), "qemuDomainAbortJobFlags")
    guest = host.guest(dom)
    guest.need_run()
    job = guest.job
    if flags & AbortFlags.POSTCOPY:
        if job is None or not (job.is_outgoing and job.is_post_copy):
            raise DomainStateError("current job is not outgoing migration in post-copy mode")
        await guest.ask("migrate-pause")
        return
    if job is None:
        move = guest.need_run().move
        if move is not None and move.way == "in" and move.phase == "waiting":
            raise DomainStateError("cannot abort incoming migration; use virDomainDestroy instead")
        raise DomainStateError("no job is active on the domain")
    if job.is_post_copy:
        raise DomainStateError("cannot abort migration in post-copy mode")
    if job.abort is None:
        raise DomainStateError(f"cannot abort {job.word}")
    job.is_aborted = True
    await job.abort()


@calls.handles()
async def domain_abort_job(host: QemuHost, dom: DomainRef) -> None:
    """The same without flags. Raises as that does."""
    await domain_abort_job_flags(host, dom, 0)
