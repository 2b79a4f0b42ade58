"""A guest's shares of the host: block devices, memory nodes, scheduling, performance events."""

from __future__ import annotations

from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test.flags import AFFECT, check_flags
from actors.test.host import TestHost
from actors.test.parameters import STRING_OKAY, Parameters, asked_for, counted
from conf.domain.numatune import MemoryMode, NumaMemory, NumaTune
from conf.domain.resources import PERF_EVENTS, BlkioDevice, BlkioTune, Perf, PerfEvent
from conf.values import parse_uint
from schema.error_root import NO_DOMAIN
from schema.errors import ConfigUnsupported, ErrorDomain, InvalidArguments
from schema.objects import DomainRef, TypedParam
from util.cpuset import parse_cpuset, write_cpuset

calls: Calls[TestHost] = Calls()

_SCHEDULER: Final = "fair"
_WEIGHT: Final = 50
_MODES: Final = (MemoryMode.STRICT, MemoryMode.PREFERRED, MemoryMode.INTERLEAVE, MemoryMode.RESTRICTIVE)
_OF_DEVICES: Final = {
    "device_weight": "weight",
    "device_read_iops_sec": "read_iops_sec",
    "device_write_iops_sec": "write_iops_sec",
    "device_read_bytes_sec": "read_bytes_sec",
    "device_write_bytes_sec": "write_bytes_sec",
}


@calls.handles()
def domain_get_scheduler_type(host: TestHost, dom: DomainRef) -> dict[str, Any]:
    """The name of the scheduler and the number of its parameters. Raises NoSuchDomain."""
    host.guest(dom)
    return {"type": _SCHEDULER, "nparams": 1}


@calls.handles()
def domain_get_scheduler_parameters_flags(host: TestHost, dom: DomainRef, nparams: int, flags: int) -> list[TypedParam]:
    """libvirt's test driver refuses this. Raises UnsupportedFlags."""
    # libvirt's public function adds the flag that its test driver does not know
    check_flags(flags | STRING_OKAY, 0, "testDomainGetSchedulerParametersFlags")
    return domain_get_scheduler_parameters(host, dom, nparams)


@calls.handles()
def domain_get_scheduler_parameters(host: TestHost, dom: DomainRef, nparams: int) -> list[TypedParam]:
    """The guest's weight, which is always the same. Raises NoSuchDomain."""
    host.guest(dom)
    return [TypedParam.of_uint("weight", _WEIGHT)][:nparams]


@calls.handles(key="dom")
async def domain_set_scheduler_parameters_flags(
    host: TestHost, dom: DomainRef, params: list[TypedParam], flags: int
) -> None:
    """Takes a weight and keeps the old one. Raises NoSuchDomain, ArgumentUnsupported, InvalidArguments."""
    check_flags(flags, 0, "testDomainSetSchedulerParametersFlags")
    Parameters(params, {"weight": "uint"})
    host.guest(dom)


@calls.handles()
def domain_get_blkio_parameters(host: TestHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """The shares of block devices. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetBlkioParameters")
    if nparams == 0:
        return counted(len(_OF_DEVICES) + 1)
    tune = host.guest(dom).one(flags).blkiotune or BlkioTune()
    found = [TypedParam.of_uint("weight", tune.weight or 0)]
    for name, attribute in _OF_DEVICES.items():
        parts = [(device.path, getattr(device, attribute)) for device in tune.devices]
        text = ",".join(f"{path},{value}" for path, value in parts if value)
        found.append(TypedParam.of_string(name, text))
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_blkio_parameters(host: TestHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes shares of block devices.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported and InvalidArguments for shares that cannot be.
    """
    check_flags(flags, AFFECT, "testDomainSetBlkioParameters")
    given = Parameters(params, {"weight": "uint", **dict.fromkeys(_OF_DEVICES, "string")}).values
    draft = host.guest(dom).draft()
    for definition in draft.definitions(flags):
        tune = definition.blkiotune or BlkioTune()
        for name, value in given.items():
            if name == "weight":
                tune.weight = value or None
            else:
                _set_of_devices(tune, name, value)
        tune.devices = [device for device in tune.devices if device != BlkioDevice(path=device.path)]
        definition.blkiotune = None if tune == BlkioTune() else tune
    await host.commit(draft)


@calls.handles()
def domain_get_numa_parameters(host: TestHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """Where memory comes from. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetNumaParameters")
    if nparams == 0:
        return counted(2)
    tune = host.guest(dom).one(flags).numatune
    memory = (tune.memory if tune is not None else None) or NumaMemory()
    found = [
        TypedParam.of_int("numa_mode", _MODES.index(memory.mode or MemoryMode.STRICT)),
        TypedParam.of_string("numa_nodeset", memory.nodeset or ""),
    ]
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_numa_parameters(host: TestHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes where memory comes from. Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments."""
    check_flags(flags, AFFECT, "testDomainSetNumaParameters")
    given = Parameters(params, {"numa_mode": "int", "numa_nodeset": "string"}).values
    mode = given.get("numa_mode")
    if mode is not None and not 0 <= mode < len(_MODES):
        raise InvalidArguments(f"unsupported numatune mode: '{mode}'")
    nodeset = given.get("numa_nodeset")
    if nodeset:
        try:
            nodeset = write_cpuset(parse_cpuset(nodeset))
        except ValueError:
            raise InvalidArguments(f"Failed to parse bitmap '{nodeset}'", domain=NO_DOMAIN) from None
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    tune = definition.numatune = definition.numatune or NumaTune()
    memory = tune.memory = tune.memory or NumaMemory(mode=MemoryMode.STRICT)
    memory.mode = memory.mode if mode is None else _MODES[mode]
    memory.nodeset = nodeset or memory.nodeset
    if memory.nodeset is None and memory.placement is None:
        raise ConfigUnsupported(
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'", domain=ErrorDomain.DOMAIN
        )
    await host.commit(draft)


@calls.handles()
def domain_get_perf_events(host: TestHost, dom: DomainRef, flags: int) -> list[TypedParam]:
    """Which events are counted. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetPerfEvents")
    perf = host.guest(dom).one(flags).perf or Perf()
    enabled = {event.name for event in perf.events if event.enabled}
    return [TypedParam.of_boolean(name, name in enabled) for name in PERF_EVENTS]


@calls.handles(key="dom")
async def domain_set_perf_events(host: TestHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Counts events or stops it. Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments."""
    check_flags(flags, AFFECT, "testDomainSetPerfEvents")
    given = Parameters(params, dict.fromkeys(PERF_EVENTS, "boolean")).values
    draft = host.guest(dom).draft()
    for definition in draft.definitions(flags):
        states = {event.name: event.enabled for event in (definition.perf or Perf()).events}
        states.update((name, bool(value)) for name, value in given.items())
        definition.perf = Perf(
            events=[PerfEvent(name=name, enabled=states[name]) for name in PERF_EVENTS if name in states]
        )
    await host.commit(draft)


def _set_of_devices(tune: BlkioTune, name: str, text: str) -> None:
    """Sets one share of the devices that `path,value,path,value` names."""
    parts = text.split(",") if text else []
    if len(parts) % 2:
        raise InvalidArguments(f"unable to parse blkio device '{name}' '{text}'", domain=ErrorDomain.DOMAIN)
    for path, number in zip(parts[::2], parts[1::2], strict=True):
        try:
            value = parse_uint(number)
        except ValueError:
            raise InvalidArguments(
                f"invalid value '{number}' for parameter '{name}' of device '{path}'", domain=ErrorDomain.DOMAIN
            ) from None
        device = next((one for one in tune.devices if one.path == path), None)
        if device is None:
            device = BlkioDevice(path=path)
            tune.devices.append(device)
        setattr(device, _OF_DEVICES[name], value or None)
