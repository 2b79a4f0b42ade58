"""How many processors guests have: at their next start, and plugged into a running one."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.qemu import records
from actors.qemu.agent.processors import use_so_many
from actors.qemu.flags import check_flags, impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.domain_resources import DomainVcpuFlags as VcpuFlags
from schema.errors import ConfigUnsupported, InvalidArguments, OperationUnsupported
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(VcpuFlags.LIVE | VcpuFlags.CONFIG | VcpuFlags.MAXIMUM | VcpuFlags.GUEST | VcpuFlags.HOTPLUGGABLE)


@calls.handles(key="dom")
async def domain_set_vcpus_flags(host: QemuHost, dom: DomainRef, nvcpus: int, flags: int) -> None:
    """Gives a guest so many processors; with MAXIMUM: the most it may have at its next start.

    Raises NoSuchDomain, InvalidArguments for more than the most, DomainStateError, OperationUnsupported.
    """
    check_flags(flags, _FLAGS, "qemuDomainSetVcpusFlags")
    guest = host.guest(dom)
    if nvcpus == 0:
        raise InvalidArguments("the number of vcpus must not be 0")
    which = impact(guest, flags)
    if flags & VcpuFlags.GUEST:
        await use_so_many(host, guest, nvcpus)
        return
    if flags & VcpuFlags.MAXIMUM:
        if which & Impact.LIVE:
            raise OperationUnsupported("maximum vcpu count of a live domain can't be modified")
        config = guest.config.copy()
        if config.cpu is not None and config.cpu.topology is not None:
            topology = config.cpu.topology
            if topology.sockets * topology.dies * topology.cores * topology.threads != nvcpus:
                raise InvalidArguments("CPU topology doesn't match the desired vcpu count")
        config.vcpu.count = nvcpus
        if config.vcpu.current is not None and config.vcpu.current >= nvcpus:
            config.vcpu.current = None
        await _define(host, guest, config)
        return
    if which & Impact.LIVE:
        await _plug(host, guest, nvcpus)
    if which & Impact.CONFIG:
        config = guest.config.copy()
        _check_count(config, nvcpus)
        config.vcpu.current = nvcpus if nvcpus != config.vcpu.count else None
        await _define(host, guest, config)


def _check_count(definition: Domain, count: int) -> None:
    if count > definition.vcpu.count:
        error = InvalidArguments()
        error.message = (
            f"invalid argument: requested vcpus is greater than max allowable vcpus for the domain: "
            f"{count} > {definition.vcpu.count}"
        )
        raise error


async def _define(host: QemuHost, guest: Guest, config: Domain) -> None:
    text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
    record = msgspec.structs.replace(guest.record, xml=text, facts=records.facts_of(config))
    await host.write(guest, record, config=config)
    host.publish(guest)


async def _plug(host: QemuHost, guest: Guest, count: int) -> None:
    live = guest.live.copy()
    _check_count(live, count)
    current = live.vcpu.current or live.vcpu.count
    if count < current:
        raise ConfigUnsupported("vcpus cannot be taken out of a running guest yet")
    slots = await guest.ask("query-hotpluggable-cpus")
    free = [slot for slot in slots if "qom-path" not in slot]
    # QEMU lists the highest number first
    free.reverse()
    number = current
    for slot in free:
        if number >= count:
            break
        arguments: dict[str, Any] = {"driver": slot["type"], "id": f"vcpu{number}", **slot["props"]}
        await guest.ask("device_add", arguments)
        number += int(slot.get("vcpus-count", 1))
    if number < count:
        raise ConfigUnsupported("the machine has no more places for vcpus")
    live.vcpu.current = count if count != live.vcpu.count else None
    cpus = await guest.ask("query-cpus-fast")
    run = msgspec.structs.replace(
        guest.need_run(),
        xml=write_domain(live, XmlFlags.SECURE, id=guest.id),
        facts=records.facts_of(live),
        threads=tuple(int(one["thread-id"]) for one in cpus),
    )
    await host.write(guest, msgspec.structs.replace(guest.record, run=run), live=live, completes=False)
    host.log.info("vcpus were plugged in", guest=guest.name, vcpus=count)
    host.publish(guest)
