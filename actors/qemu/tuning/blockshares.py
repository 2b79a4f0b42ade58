"""How the host's block devices are shared out among guests."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.qemu.tuning.access import groups_of, need_privileges
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.groups import GuestGroups
from actors.qemu.tuning.parameters import STRING_OKAY, asked_for, read_parameters, tuned
from actors.runtime.calls import Calls
from conf.domain.resources import BlkioDevice, BlkioTune
from conf.values import parse_uint
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

OF_DEVICES: Final = {
    "device_weight": "weight",
    "device_read_iops_sec": "read_iops_sec",
    "device_write_iops_sec": "write_iops_sec",
    "device_read_bytes_sec": "read_bytes_sec",
    "device_write_bytes_sec": "write_bytes_sec",
}
_KNOWN: Final = {"weight": "uint", **dict.fromkeys(OF_DEVICES, "string")}
_SUBJECT: Final = "Block I/O tuning"


@calls.handles(key="dom", lane="query")
async def domain_get_blkio_parameters(host: QemuHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """The guest's weight and limits. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetBlkioParameters")
    guest = host.guest(dom)
    need_privileges(_SUBJECT)
    if one_impact(guest, flags & AFFECT) & Impact.LIVE:
        groups = await groups_of(host, guest)
        weight = await host.runtime.in_thread(groups.weight)
        tune = guest.live.blkiotune or BlkioTune()
    else:
        tune = guest.config.blkiotune or BlkioTune()
        weight = tune.weight or 0
    found = [TypedParam.of_uint("weight", weight)]
    for name, attribute in OF_DEVICES.items():
        parts = [(device.path, getattr(device, attribute)) for device in tune.devices]
        found.append(TypedParam.of_string(name, ",".join(f"{path},{value}" for path, value in parts if value)))
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_blkio_parameters(host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes the guest's weight and limits.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainSetBlkioParameters")
    given = read_parameters(params, _KNOWN)
    guest = host.guest(dom)
    need_privileges(_SUBJECT)
    draft = Draft(guest, impact(guest, flags))
    changes = {name: _devices(name, text) for name, text in given.items() if name != "weight"}
    if draft.live is not None:
        groups = await groups_of(host, guest)
        await host.runtime.in_thread(_set, groups, given.get("weight"), changes)
    for definition in draft.definitions:
        tune = definition.blkiotune = definition.blkiotune or BlkioTune()
        if "weight" in given:
            tune.weight = given["weight"] or None
        for name, devices in changes.items():
            for path, value in devices:
                _take(tune, path, OF_DEVICES[name], value)
        tune.devices = [device for device in tune.devices if device != BlkioDevice(path=device.path)]
    told = [
        TypedParam.of_ullong(f"blkiotune.{name}", value)
        if name == "weight"
        else TypedParam.of_string(f"blkiotune.{name}", value)
        for name, value in given.items()
    ]
    await draft.commit(host, [tuned(guest, told)] if told and draft.live is not None else ())


def _devices(name: str, text: str) -> list[tuple[str, int]]:
    """What `path,value,path,value` says. Raises InvalidArguments."""
    parts = text.split(",") if text else []
    if len(parts) % 2:
        raise InvalidArguments(f"unable to parse blkio device '{name}' '{text}'")
    found = []
    for path, number in zip(parts[::2], parts[1::2], strict=True):
        try:
            found.append((path, parse_uint(number)))
        except ValueError:
            raise InvalidArguments(f"invalid value '{number}' for parameter '{name}' of device '{path}'") from None
    return found


def _take(tune: BlkioTune, path: str, attribute: str, value: int) -> None:
    device = next((one for one in tune.devices if one.path == path), None)
    if device is None:
        device = BlkioDevice(path=path)
        tune.devices.append(device)
    setattr(device, attribute, value or None)


def _set(groups: GuestGroups, weight: int | None, changes: dict[str, list[tuple[str, int]]]) -> None:
    groups.hierarchy.need("blkio")
    if weight:
        groups.set_weight(weight)
    for name, devices in changes.items():
        for path, value in devices:
            groups.set_device(BlkioDevice(path=path), OF_DEVICES[name], value)
