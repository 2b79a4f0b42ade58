"""How much of the network a guest's interface may use: the kernel's traffic control on the host's end of it.

Towards the guest packets are queued and sent no faster; from the guest what is too much is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.parameters import STRING_OKAY, asked_for, read_parameters
from actors.runtime.calls import Calls
from conf.domain.domain import Domain
from conf.domain.interface import Interface, InterfaceType
from conf.network.parts import Bandwidth, InboundRate, OutboundRate, Rate
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import ConfigUnsupported, InternalError, InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_ORDER: Final = (
    "inbound.average",
    "inbound.peak",
    "inbound.burst",
    "inbound.floor",
    "outbound.average",
    "outbound.peak",
    "outbound.burst",
)
_SHAPED: Final = (InterfaceType.NETWORK, InterfaceType.BRIDGE, InterfaceType.ETHERNET, InterfaceType.DIRECT)
_PATIENCE_S: Final = 10.0


def need_interface(definition: Domain, device: str) -> Interface:
    """The interface of that host name or address. Raises InvalidArguments."""
    for interface in definition.devices.interfaces:
        if interface.target is not None and interface.target.dev == device:
            return interface
        if interface.mac is not None and interface.mac.address == device.lower():
            return interface
    raise InvalidArguments(f"'{device}' is not a known interface")


@calls.handles()
def domain_get_interface_parameters(
    host: QemuHost, dom: DomainRef, device: str, nparams: int, flags: int
) -> dict[str, Any]:
    """The limits of an interface, in KiB and KiB/s. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetInterfaceParameters")
    guest = host.guest(dom)
    definition = guest.live if one_impact(guest, flags & AFFECT) & Impact.LIVE else guest.config
    if nparams == 0:
        return {"params": [], "nparams": len(_ORDER)}
    bandwidth = need_interface(definition, device).bandwidth or Bandwidth()
    found = []
    for name in _ORDER:
        way, _, rate = name.partition(".")
        found.append(TypedParam.of_uint(name, getattr(getattr(bandwidth, way), rate, None) or 0))
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_interface_parameters(
    host: QemuHost, dom: DomainRef, device: str, params: list[TypedParam], flags: int
) -> None:
    """Changes the limits of an interface; a way without an average has none.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments, ConfigUnsupported for a kind of
    interface that cannot be limited, InternalError when the kernel refuses.
    """
    check_flags(flags, AFFECT, "qemuDomainSetInterfaceParameters")
    given = read_parameters(params, dict.fromkeys(_ORDER, "uint"))
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    inbound = {name.partition(".")[2]: given[name] or None for name in _ORDER[:4] if name in given}
    outbound = {name.partition(".")[2]: given[name] or None for name in _ORDER[4:] if name in given}
    for rates, known in ((inbound, "inbound.average" in given), (outbound, "outbound.average" in given)):
        if rates and not known and not rates.get("floor"):
            raise InvalidArguments("bandwidth 'average' is mandatory when 'peak' or 'burst' is specified")
    for definition in draft.definitions:
        interface = need_interface(definition, device)
        if interface.type not in _SHAPED:
            raise ConfigUnsupported(
                f"setting bandwidth on interfaces of type '{interface.type.value}' is not implemented yet"
            )
        interface.bandwidth = _changed(interface.bandwidth or Bandwidth(), inbound, outbound)
    if draft.live is not None:
        interface = need_interface(draft.live, device)
        name = interface.target.dev if interface.target is not None else None
        if name is not None:
            await shape(name, interface.bandwidth or Bandwidth())
    await draft.commit(host)


def _changed(old: Bandwidth, inbound: dict[str, int | None], outbound: dict[str, int | None]) -> Bandwidth | None:
    new = old.copy()
    if inbound:
        new.inbound = InboundRate(**inbound) if inbound.get("average") or inbound.get("floor") else None
    if outbound:
        new.outbound = OutboundRate(**outbound) if outbound.get("average") else None
    return None if new.inbound is None and new.outbound is None else new


async def shape_interface(interface: Interface) -> None:
    """Limits the host end of an interface as its definition says. Raises InternalError when the kernel refuses."""
    name = interface.target.dev if interface.target is not None else None
    if interface.bandwidth is not None and name and interface.type in _SHAPED:
        await shape(name, interface.bandwidth)


async def shape(link: str, bandwidth: Bandwidth) -> None:
    """Puts limits on a link in place of those it has. Raises InternalError when the kernel refuses."""
    await _tc(("qdisc", "del", "dev", link, "root"), may_fail=True)
    await _tc(("qdisc", "del", "dev", link, "ingress"), may_fail=True)
    if bandwidth.inbound is not None and bandwidth.inbound.average:
        for words in towards_guest(link, bandwidth.inbound):
            # fairness among connections is a comfort that not every kernel has
            await _tc(words, may_fail="sfq" in words)
    if bandwidth.outbound is not None and bandwidth.outbound.average:
        for words in from_guest(link, bandwidth.outbound):
            await _tc(words)


def towards_guest(link: str, rate: Rate) -> list[tuple[str, ...]]:
    """What tells the kernel to send no faster."""
    more: tuple[str, ...] = ("rate", f"{rate.average}kbps")
    if rate.peak:
        more += ("ceil", f"{rate.peak}kbps")
    if rate.burst:
        more += ("burst", f"{rate.burst}kb")
    return [
        ("qdisc", "add", "dev", link, "root", "handle", "1:", "htb", "default", "1"),
        ("class", "add", "dev", link, "parent", "1:", "classid", "1:1", "htb", *more),
        ("qdisc", "add", "dev", link, "parent", "1:1", "handle", "2:", "sfq", "perturb", "10"),
    ]


def from_guest(link: str, rate: Rate) -> list[tuple[str, ...]]:
    """What tells the kernel to drop what is too much."""
    burst = rate.burst or rate.average
    police = ("police", "rate", f"{rate.average}kbps", "burst", f"{burst}kb", "mtu", "64kb", "drop", "flowid", ":1")
    match = ("protocol", "all", "u32", "match", "u32", "0", "0")
    return [
        ("qdisc", "add", "dev", link, "ingress"),
        ("filter", "add", "dev", link, "parent", "ffff:", *match, *police),
    ]


async def _tc(words: Sequence[str], *, may_fail: bool = False) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "tc",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as exc:
        raise InternalError(f"cannot run 'tc', which limits interfaces: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(_PATIENCE_S):
            _, said = await process.communicate()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode and not may_fail:
        raise InternalError(f"tc {' '.join(words)}: {said.decode(errors='replace').strip()}")
