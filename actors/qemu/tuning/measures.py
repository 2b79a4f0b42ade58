"""What else is measured of guests: how fast they write to their memory, events that the kernel counts, and a look at
their memory itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.enums.domain_job import DomainDirtyRateCalcFlags as RateFlags
from schema.enums.domain_job import DomainDirtyRateStatus as RateStatus
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, InvalidArguments, OperationFailed
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_SECONDS: Final = (1, 60)
_MODES: Final = {
    0: "page-sampling",
    int(RateFlags.DIRTY_BITMAP): "dirty-bitmap",
    int(RateFlags.DIRTY_RING): "dirty-ring",
}
_STATUS: Final = {
    "unstarted": RateStatus.UNSTARTED,
    "measuring": RateStatus.MEASURING,
    "measured": RateStatus.MEASURED,
}
_VIRTUAL: Final = 1
_PHYSICAL: Final = 2
_PEEK_MAX: Final = 65536


@calls.handles(key="dom")
async def domain_start_dirty_rate_calc(host: QemuHost, dom: DomainRef, seconds: int, flags: int) -> None:
    """Measures for some seconds how fast a guest writes to its memory; statistics tell the result later.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, ConfigUnsupported for a time that is too short or too long,
    InternalError when QEMU cannot measure in that way.
    """
    check_flags(flags, int(RateFlags.DIRTY_BITMAP | RateFlags.DIRTY_RING), "qemuDomainStartDirtyRateCalc")
    if flags not in _MODES:
        raise InvalidArguments("Only one of the modes of measuring can be chosen")
    low, high = _SECONDS
    if not low <= seconds <= high:
        raise ConfigUnsupported(f"seconds={seconds} is invalid, please choose value within [{low}, {high}].")
    guest = host.guest(dom)
    guest.need_run()
    arguments: dict[str, Any] = {"calc-time": seconds}
    if flags:
        arguments["mode"] = _MODES[flags]
    await guest.ask("calc-dirty-rate", arguments)


async def dirty_rate(guest: Guest) -> list[TypedParam]:
    """What was measured; nothing where QEMU cannot measure it. Raises as `Guest.ask` does when it does not answer."""
    try:
        told = await guest.ask("query-dirty-rate")
    except InternalError:
        return []
    status = _STATUS.get(str(told.get("status")), RateStatus.UNSTARTED)
    found = [
        TypedParam.of_int("dirtyrate.calc_status", int(status)),
        TypedParam.of_llong("dirtyrate.calc_start_time", int(told.get("start-time", 0))),
        TypedParam.of_int("dirtyrate.calc_period", int(told.get("calc-time", 0))),
        TypedParam.of_string("dirtyrate.calc_mode", str(told.get("mode", "page-sampling"))),
    ]
    if "dirty-rate" in told and status is RateStatus.MEASURED:
        found.append(TypedParam.of_llong("dirtyrate.megabytes_per_second", int(told["dirty-rate"])))
        for one in told.get("vcpu-dirty-rate") or ():
            name = f"dirtyrate.vcpu.{int(one['id'])}.megabytes_per_second"
            found.append(TypedParam.of_llong(name, int(one["dirty-rate"])))
    return found


def event_counts(guest: Guest) -> list[TypedParam]:
    """The events that the kernel counts for a guest."""
    if guest.perf is None:
        return []
    counts = [(name, guest.perf.read(name)) for name in guest.perf.opened]
    return [TypedParam.of_ullong(f"perf.{name}", count) for name, count in counts if count is not None]


@calls.handles(key="dom", lane="query")
async def domain_memory_peek(host: QemuHost, dom: DomainRef, offset: int, size: int, flags: int) -> bytes:
    """A piece of a guest's memory.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, HostSystemError, OperationFailed.
    """
    check_flags(flags, _VIRTUAL | _PHYSICAL, "qemuDomainMemoryPeek")
    if flags not in (_VIRTUAL, _PHYSICAL):
        raise InvalidArguments("flags must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL")
    guest = host.guest(dom)
    guest.need_run()
    if not size:
        return b""
    if size > _PEEK_MAX:
        raise InvalidArguments(f"size must not be above {_PEEK_MAX}")
    path = guest.folder / f"peek-{offset:x}"
    command = "memsave" if flags == _VIRTUAL else "pmemsave"
    try:
        await guest.ask(command, {"val": offset, "size": size, "filename": str(path)})
        return await host.runtime.in_thread(_read, path, size)
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path, size: int) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"failed to read temporary file created with template {path}") from exc
    if len(data) != size:
        raise OperationFailed("the guest has no such memory")
    return data
