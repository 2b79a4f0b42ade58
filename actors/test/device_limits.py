"""Limits on a guest's disks and interfaces."""

from __future__ import annotations

from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test.flags import AFFECT, check_flags
from actors.test.host import TestHost
from actors.test.parameters import STRING_OKAY, Parameters, asked_for, counted
from conf.domain.disk import Disk, IoTune
from conf.domain.domain import Domain
from conf.domain.interface import Interface
from conf.network.parts import Bandwidth, InboundRate, OutboundRate
from schema.errors import ErrorDomain, InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[TestHost] = Calls()

_KINDS: Final = ("bytes_sec", "iops_sec")
_LIMITS: Final = tuple(f"{way}_{kind}" for kind in _KINDS for way in ("total", "read", "write"))
_MAXIMA: Final = tuple(f"{limit}_max" for limit in _LIMITS)
_LENGTHS: Final = tuple(f"{maximum}_length" for maximum in _MAXIMA)
_GROUP: Final = "group_name"
_TUNES: Final = {**dict.fromkeys((*_LIMITS, *_MAXIMA, "size_iops_sec"), "ullong"), _GROUP: "string"} | dict.fromkeys(
    _LENGTHS, "ullong"
)
_RATES: Final = ("average", "peak", "burst", "floor")
_BANDWIDTHS: Final = dict.fromkeys(
    [f"inbound.{rate}" for rate in _RATES] + [f"outbound.{rate}" for rate in _RATES[:3]], "uint"
)


@calls.handles()
def domain_get_block_io_tune(
    host: TestHost, dom: DomainRef, disk: str | None, nparams: int, flags: int
) -> dict[str, Any]:
    """The limits on a disk. Raises NoSuchDomain, DomainStateError, InvalidArguments for a disk that is not there."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetBlockIoTune")
    if nparams == 0 or disk is None:
        return counted(len(_TUNES))
    definition = host.guest(dom).one(flags)
    tune = _need_disk(definition, disk, f"disk '{disk}' was not found in the domain config").iotune or IoTune()
    found = []
    for name, kind in _TUNES.items():
        value = getattr(tune, name)
        found.append(
            TypedParam.of_string(name, value or "") if kind == "string" else TypedParam.of_ullong(name, value or 0)
        )
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_block_io_tune(
    host: TestHost, dom: DomainRef, disk: str, params: list[TypedParam], flags: int
) -> None:
    """Changes limits on a disk.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, and InvalidArguments for limits that exclude each other
    or a disk that is not there.
    """
    check_flags(flags, AFFECT, "testDomainSetBlockIoTune")
    given = Parameters(params, _TUNES).values
    draft = host.guest(dom).draft()
    found = _need_disk(draft.one(flags), disk, f"missing persistent configuration for disk '{disk}'")
    tune = (found.iotune or IoTune()).copy()
    for name, value in given.items():
        setattr(tune, name, value or None)
    _check_tune(tune)
    found.iotune = None if tune == IoTune() else tune
    await host.commit(draft)


@calls.handles()
def domain_get_interface_parameters(
    host: TestHost, dom: DomainRef, device: str, nparams: int, flags: int
) -> dict[str, Any]:
    """The bandwidth of an interface. Raises NoSuchDomain, DomainStateError, InvalidArguments for one not there."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetInterfaceParameters")
    if nparams == 0:
        return counted(len(_BANDWIDTHS))
    definition = host.guest(dom).one(flags)
    bandwidth = need_interface(definition, device).bandwidth or Bandwidth()
    found = []
    for name in _BANDWIDTHS:
        way, _, rate = name.partition(".")
        found.append(TypedParam.of_uint(name, getattr(getattr(bandwidth, way), rate, None) or 0))
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_interface_parameters(
    host: TestHost, dom: DomainRef, device: str, params: list[TypedParam], flags: int
) -> None:
    """Changes the bandwidth of an interface; a way without an average has no limit at all.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments for an interface that is not there.
    """
    check_flags(flags, AFFECT, "testDomainSetInterfaceParameters")
    given = Parameters(params, _BANDWIDTHS).values
    draft = host.guest(dom).draft()
    interface = need_interface(draft.one(flags), device)
    bandwidth = interface.bandwidth or Bandwidth()
    inbound = {rate: given[f"inbound.{rate}"] or None for rate in _RATES if f"inbound.{rate}" in given}
    outbound = {rate: given[f"outbound.{rate}"] or None for rate in _RATES if f"outbound.{rate}" in given}
    if "average" in inbound or "floor" in inbound:
        bandwidth.inbound = InboundRate(**inbound) if inbound.get("average") or inbound.get("floor") else None
    if "average" in outbound:
        bandwidth.outbound = OutboundRate(**outbound) if outbound["average"] else None
    interface.bandwidth = None if bandwidth == Bandwidth() else bandwidth
    await host.commit(draft)


def need_interface(definition: Domain, device: str) -> Interface:
    """The interface of that host name or address. Raises InvalidArguments."""
    for interface in definition.devices.interfaces:
        if interface.target is not None and interface.target.dev == device:
            return interface
        if interface.mac is not None and interface.mac.address == device.lower():
            return interface
    raise InvalidArguments(f"'{device}' is not a known interface", domain=ErrorDomain.DOMAIN)


def _need_disk(definition: Domain, name: str, missing: str) -> Disk:
    for disk in definition.devices.disks:
        if name in (disk.target.dev, getattr(disk.source, "file", None)):
            return disk
    raise InvalidArguments(missing)


def _check_tune(tune: IoTune) -> None:
    for suffix in ("", "_max"):
        for kind in _KINDS:
            word = f"{kind}{suffix}"
            apart = getattr(tune, f"read_{word}") or getattr(tune, f"write_{word}")
            if getattr(tune, f"total_{word}") and apart:
                raise InvalidArguments(f"total and read/write of {word} cannot be set at the same time")
    for limit, maximum in zip(_LIMITS, _MAXIMA, strict=True):
        if (getattr(tune, limit) or 0) > (getattr(tune, maximum) or 0):
            raise InvalidArguments(f"{limit} cannot be set higher than {maximum} ")  # libvirt's blank at the end
