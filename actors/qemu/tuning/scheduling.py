"""How the host's processors are shared out among guests, and among the threads of one guest."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.qemu.tuning.access import groups_of, need_privileges
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.groups import GuestGroups
from actors.qemu.tuning.hierarchy import host_hierarchy
from actors.qemu.tuning.parameters import STRING_OKAY, read_parameters, tuned
from actors.runtime.calls import Calls
from conf.domain.vcpu import CpuTune
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_SCHEDULER: Final = "posix"
_KINDS: Final = ("vcpu", "emulator", "global", "iothread")
_PERIODS: Final = (1000, 1_000_000)
_QUOTAS: Final = (1000, 17_592_186_044_415)
_KNOWN: Final = (
    {"cpu_shares": "ullong"}
    | {f"{kind}_period": "ullong" for kind in _KINDS}
    | {f"{kind}_quota": "llong" for kind in _KINDS}
)
_SUBJECT: Final = "CPU tuning"


def _field(kind: str, what: str) -> str:
    """The attribute of the definition; the limits of processors have no prefix there."""
    return what if kind == "vcpu" else f"{kind}_{what}"


@calls.handles()
def domain_get_scheduler_type(host: QemuHost, dom: DomainRef) -> dict[str, Any]:
    """The name of the scheduler and the number of its parameters. Raises NoSuchDomain, DomainStateError."""
    guest = host.guest(dom)
    need_privileges(_SUBJECT)
    if guest.is_active:
        host_hierarchy().need("cpu")
    return {"type": _SCHEDULER, "nparams": len(_KNOWN)}


@calls.handles(key="dom", lane="query")
async def domain_get_scheduler_parameters_flags(
    host: QemuHost, dom: DomainRef, nparams: int, flags: int
) -> list[TypedParam]:
    """The guest's weight and limits. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetSchedulerParametersFlags")
    guest = host.guest(dom)
    need_privileges(_SUBJECT)
    if one_impact(guest, flags & AFFECT) & Impact.LIVE:
        groups = await groups_of(host, guest)
        found = await host.runtime.in_thread(_in_force, groups)
    else:
        tune = guest.config.cputune or CpuTune()
        found = [TypedParam.of_ullong("cpu_shares", tune.shares or 0)]
        for kind in _KINDS:
            found.append(TypedParam.of_ullong(f"{kind}_period", getattr(tune, _field(kind, "period")) or 0))
            found.append(TypedParam.of_llong(f"{kind}_quota", getattr(tune, _field(kind, "quota")) or 0))
    return found[:nparams]


def _in_force(groups: GuestGroups) -> list[TypedParam]:
    found = [TypedParam.of_ullong("cpu_shares", groups.shares())]
    for kind in _KINDS:
        # threads of one kind are limited alike, so that the first one tells of all
        period, quota = groups.bandwidth(children_of(groups, kind)[0])
        found.append(TypedParam.of_ullong(f"{kind}_period", period))
        found.append(TypedParam.of_llong(f"{kind}_quota", quota))
    return found


def children_of(groups: GuestGroups, kind: str) -> list[str]:
    """The groups that a limit is set on."""
    if kind == "global":
        return [""]
    if kind == "emulator":
        return ["emulator"]
    numbers = groups.threads.vcpus if kind == "vcpu" else groups.threads.iothreads
    return [f"{kind}{number}" for number in numbers] or [f"{kind}0"]


@calls.handles(key="dom")
async def domain_set_scheduler_parameters_flags(
    host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int
) -> None:
    """Changes the guest's weight and limits.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainSetSchedulerParametersFlags")
    given = read_parameters(params, _KNOWN)
    guest = host.guest(dom)
    need_privileges(_SUBJECT)
    draft = Draft(guest, impact(guest, flags))
    for name, value in given.items():
        if name.endswith("_period"):
            _check_range(name, value, _PERIODS)
        elif name.endswith("_quota"):
            _check_range(name, value, _QUOTAS)
    for definition in draft.definitions:
        tune = definition.cputune = definition.cputune or CpuTune()
        _take(tune, given)
    if draft.live is None:
        await draft.commit(host)
        return
    groups = await groups_of(host, guest)
    shares = await host.runtime.in_thread(_set, groups, given)
    if shares is not None and draft.live.cputune is not None:
        draft.live.cputune.shares = shares
    told = [
        TypedParam.of_llong(f"cputune.{name}", value)
        if name.endswith("_quota")
        else TypedParam.of_ullong(f"cputune.{name}", value if name != "cpu_shares" or shares is None else shares)
        for name, value in given.items()
    ]
    await draft.commit(host, [tuned(guest, told)] if told else ())


def _check_range(name: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if 0 < value < low or value > high:
        raise InvalidArguments(f"value of '{name}' is out of range [{low}, {high}]")


def _take(tune: CpuTune, given: dict[str, int]) -> None:
    for name, value in given.items():
        if name == "cpu_shares":
            tune.shares = value
        elif value:
            kind, _, what = name.partition("_")
            setattr(tune, _field(kind, what), value)


def _set(groups: GuestGroups, given: dict[str, int]) -> int | None:
    groups.hierarchy.need("cpu")
    shares = groups.set_shares(given["cpu_shares"]) if "cpu_shares" in given else None
    for kind in _KINDS:
        period, quota = given.get(f"{kind}_period", 0), given.get(f"{kind}_quota", 0)
        if period or quota:
            limit(groups, kind, period, quota)
    return shares


def limit(groups: GuestGroups, kind: str, period: int, quota: int) -> None:
    """Limits all threads of a kind; what one of them refuses is taken back from the others. Raises HostSystemError."""
    done: list[tuple[str, int, int]] = []
    try:
        for child in children_of(groups, kind):
            if child and not groups.threads_of(child):
                continue
            old = groups.bandwidth(child)
            groups.set_bandwidth(child, period, quota)
            done.append((child, *old))
    except BaseException:
        for child, old_period, old_quota in done:
            groups.set_bandwidth(child, old_period, old_quota)
        raise
