"""Limits on a disk's input and output, of the running guest and for its next start."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.qemu.block.keeping import keep_now
from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live import qom_of, throttle
from actors.runtime.calls import Calls
from conf.domain.disk import Disk, DiskDevice, IoTune
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import ArgumentUnsupported, ConfigUnsupported, InvalidArguments, NumericOverflow, VirtError
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_STRING_OKAY: Final = 4
_KINDS: Final = ("bytes_sec", "iops_sec")
_LIMITS: Final = tuple(f"{way}_{kind}" for kind in _KINDS for way in ("total", "read", "write"))
_MAXIMA: Final = tuple(f"{limit}_max" for limit in _LIMITS)
_LENGTHS: Final = tuple(f"{maximum}_length" for maximum in _MAXIMA)
_NUMBERS: Final = (*_LIMITS, *_MAXIMA, "size_iops_sec")
_GROUP: Final = "group_name"
_ORDER: Final = (*_NUMBERS, _GROUP, *_LENGTHS)
_MOST: Final = 1_000_000_000_000_000
_LONG_MAX: Final = (1 << 63) - 1
_TOLD: Final = "blkdeviotune."


@calls.handles(key="dom", lane="query")
async def domain_get_block_io_tune(
    host: QemuHost, dom: DomainRef, disk: str | None, nparams: int, flags: int
) -> dict[str, Any]:
    """The limits on a disk; of a running guest as QEMU has them.

    Raises NoSuchDomain, DomainStateError, InvalidArguments for a disk that is not there.
    """
    check_flags(flags, AFFECT | _STRING_OKAY, "qemuDomainGetBlockIoTune")
    guest = host.guest(dom)
    is_live = bool(one_impact(guest, flags & AFFECT) & Impact.LIVE)
    definition = guest.live if is_live else guest.config
    if nparams == 0:
        return {"params": [], "nparams": len(_ORDER)}
    found = _need_disk(definition, disk or "")
    tune = await _asked(guest, found) if is_live and found.source is not None else found.iotune or IoTune()
    params = []
    for name in _ORDER:
        value = getattr(tune, name)
        params.append(
            TypedParam.of_string(name, value or "") if name == _GROUP else TypedParam.of_ullong(name, value or 0)
        )
    return {"params": params[:nparams], "nparams": min(nparams, len(params))}


_THEIRS: Final = {
    "total_bytes_sec": "bps",
    "read_bytes_sec": "bps_rd",
    "write_bytes_sec": "bps_wr",
    "total_iops_sec": "iops",
    "read_iops_sec": "iops_rd",
    "write_iops_sec": "iops_wr",
}


async def _asked(guest: Guest, disk: Disk) -> IoTune:
    """The limits that QEMU keeps."""
    tune = IoTune()
    for one in await guest.ask("query-block"):
        path = str(one.get("qdev") or "")
        if path.removeprefix("/machine/peripheral/").partition("/")[0] != disk.alias:
            continue
        told = one.get("inserted") or {}
        for ours, theirs in _THEIRS.items():
            setattr(tune, ours, int(told.get(theirs, 0)))
            setattr(tune, f"{ours}_max", int(told.get(f"{theirs}_max", 0)))
            setattr(tune, f"{ours}_max_length", int(told.get(f"{theirs}_max_length", 0)))
        tune.size_iops_sec = int(told.get("iops_size", 0))
        tune.group_name = str(told["group"]) if told.get("group") else None
    return tune


@calls.handles(key="dom")
async def domain_set_block_io_tune(
    host: QemuHost, dom: DomainRef, disk: str, params: list[TypedParam], flags: int
) -> None:
    """Changes limits on a disk; those not named stay, but for those that a new one of the same kind takes back.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, NumericOverflow, InvalidArguments for limits that
    exclude each other or a disk that is not there, ConfigUnsupported for one that knows no limits.
    """
    check_flags(flags, AFFECT, "qemuDomainSetBlockIoTune")
    guest = host.guest(dom)
    given = _read(params)
    _check_apart(given)
    wanted = impact(guest, flags & AFFECT)
    told: list[TypedParam] = []
    config: Domain | None = None
    if wanted & Impact.CONFIG:
        config = guest.config.copy()
        other = _need_disk(config, disk)
        other.iotune = _merged(other.iotune, given)
    if wanted & Impact.LIVE:
        found = _need_disk(guest.live, disk)
        if found.device in (DiskDevice.CDROM, DiskDevice.FLOPPY) and found.source is None:
            raise ConfigUnsupported(f"block I/O throttling is not supported for the empty drive '{disk}'")
        tune = _merged(found.iotune, given)
        full = tune or IoTune()
        _check_maxima(full)
        if full.group_name is None:
            # a disk alone is a group of its own, as QEMU names it
            draft = full.copy()
            draft.group_name = qom_of(found)
            await guest.ask(*_command(found, draft))
        else:
            await guest.ask(*_command(found, full))
        found.iotune = tune
        told = _telling(found, given)
    await _keep(host, guest, config)
    if told:
        try:
            entry = host.need_domain(guest.key)
        except VirtError:
            return
        host.emit("domain_event_tunable", {"dom": guest.ref, "params": told}, object=entry)


async def _keep(host: QemuHost, guest: Guest, config: Domain | None) -> None:
    if guest.is_active:
        await keep_now(host, guest, config=config)
    elif config is not None:
        text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
        await host.write(guest, msgspec.structs.replace(guest.record, xml=text), config=config)
    host.publish(guest)


def _command(disk: Disk, tune: IoTune) -> tuple[str, dict[str, Any]]:
    name, arguments = throttle(disk, tune)
    return name, dict(arguments or {})


def _read(params: list[TypedParam]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for param in params:
        if param.field not in _ORDER:
            raise ArgumentUnsupported(f"parameter '{param.field}' not supported")
        if param.field == _GROUP:
            given[_GROUP] = str(param.value)
            continue
        value = int(param.value)
        if value > (_MOST if param.field not in _LENGTHS else _LONG_MAX):
            raise NumericOverflow(f"block I/O throttle limit value must be no more than {_MOST}")
        given[param.field] = value
    return given


def _check_apart(given: dict[str, Any]) -> None:
    for suffix in ("", "_max"):
        for kind in _KINDS:
            word = f"{kind}{suffix}"
            if given.get(f"total_{word}") and (given.get(f"read_{word}") or given.get(f"write_{word}")):
                raise InvalidArguments(f"total and read/write of {word} cannot be set at the same time")


def _merged(old: IoTune | None, given: dict[str, Any]) -> IoTune | None:
    """The limits after a change: what is not named stays, unless it contradicts what is."""
    tune = (old or IoTune()).copy()
    named = given.get(_GROUP)
    limits = [value for name, value in given.items() if name != _GROUP] + [getattr(tune, name) for name in _LIMITS]
    if named and named != tune.group_name and not any(limits):
        raise ConfigUnsupported("creating a new group/updating existing with all tune parameters zero is not supported")
    for suffix in ("", "_max"):
        for kind in _KINDS:
            word = f"{kind}{suffix}"
            if given.get(f"total_{word}"):
                setattr(tune, f"read_{word}", None)
                setattr(tune, f"write_{word}", None)
            elif given.get(f"read_{word}") or given.get(f"write_{word}"):
                setattr(tune, f"total_{word}", None)
    for name, value in given.items():
        setattr(tune, name, value or None)
    return None if tune == IoTune() else tune


def _check_maxima(tune: IoTune) -> None:
    for limit, maximum in zip(_LIMITS, _MAXIMA, strict=True):
        value, most = getattr(tune, limit) or 0, getattr(tune, maximum) or 0
        if most and not value:
            raise ConfigUnsupported(f"value '{maximum}' cannot be set if '{limit}' is not set")
        if most and most < value:
            raise ConfigUnsupported(f"value '{maximum}' cannot be smaller than '{limit}'")
        if getattr(tune, f"{maximum}_length") and not most:
            raise ConfigUnsupported(f"value '{maximum}_length' cannot be set if '{maximum}' is not set")


def _telling(disk: Disk, given: dict[str, Any]) -> list[TypedParam]:
    told = [TypedParam.of_string(f"{_TOLD}disk", disk.target.dev)]
    for name, value in given.items():
        if name == _GROUP:
            told.append(TypedParam.of_string(f"{_TOLD}{name}", value))
        else:
            told.append(TypedParam.of_ullong(f"{_TOLD}{name}", value))
    return told


def _need_disk(definition: Domain, name: str) -> Disk:
    for disk in definition.devices.disks:
        if name in (disk.target.dev, getattr(disk.source, "file", None), getattr(disk.source, "dev", None)):
            return disk
    raise InvalidArguments(f"disk '{name}' was not found in the domain config")
