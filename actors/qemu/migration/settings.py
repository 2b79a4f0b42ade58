"""How fast migrations may be, how long guests may stand still in them, and what QEMU is told of both."""

from __future__ import annotations

import contextlib
import resource
from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.switching import want_switch
from actors.qemu.migration.tls import add_credentials, tls_of
from actors.runtime.calls import Calls
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_job import DomainMigrateMaxSpeedFlags as SpeedFlags
from schema.errors import ArgumentUnsupported, InvalidArguments, NumericOverflow, OperationFailed
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

UNLIMITED_MIB: Final = (1 << 63) // (1 << 20) - 1
"""What libvirt calls no limit, in MiB/s."""
_MIB: Final = 1 << 20
_TOO_FAST_MIB: Final = 1 << 44
_COPIES: Final = int(Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC)


@calls.handles(key="dom", lane="query")  # also beside a migration that is under way
async def domain_migrate_set_max_speed(host: QemuHost, dom: DomainRef, bandwidth: int, flags: int) -> None:
    """Limits migrations of a guest, in MiB/s. Raises NoSuchDomain, DomainStateError, NumericOverflow."""
    check_flags(flags, int(SpeedFlags.POSTCOPY), "qemuDomainMigrateSetMaxSpeed")
    guest = host.guest(dom)
    if bandwidth > UNLIMITED_MIB:
        raise NumericOverflow(f"bandwidth must be less than {UNLIMITED_MIB + 1}")
    if flags & SpeedFlags.POSTCOPY:
        guest.need_run()
        await guest.ask("migrate-set-parameters", {"max-postcopy-bandwidth": bandwidth * _MIB})
        return
    if guest.is_active and guest.job is not None:
        await guest.ask("migrate-set-parameters", {"max-bandwidth": bandwidth * _MIB})
    guest.migration_mib = bandwidth


@calls.handles(key="dom", lane="query")
async def domain_migrate_get_max_speed(host: QemuHost, dom: DomainRef, flags: int) -> int:
    """The limit of migrations of a guest, in MiB/s. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, int(SpeedFlags.POSTCOPY), "qemuDomainMigrateGetMaxSpeed")
    guest = host.guest(dom)
    if not flags & SpeedFlags.POSTCOPY:
        return UNLIMITED_MIB if guest.migration_mib is None else guest.migration_mib
    guest.need_run()
    return int((await guest.ask("query-migrate-parameters")).get("max-postcopy-bandwidth", 0)) // _MIB


@calls.handles(key="dom", lane="query")
async def domain_migrate_set_max_downtime(host: QemuHost, dom: DomainRef, downtime: int, flags: int) -> None:
    """Says how many milliseconds a guest may stand still. Raises NoSuchDomain, DomainStateError, InternalError."""
    check_flags(flags, 0, "qemuDomainMigrateSetMaxDowntime")
    guest = host.guest(dom)
    guest.need_run()
    await guest.ask("migrate-set-parameters", {"downtime-limit": downtime})


@calls.handles(key="dom", lane="query")
async def domain_migrate_get_max_downtime(host: QemuHost, dom: DomainRef, flags: int) -> int:
    """How many milliseconds a guest may stand still. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "qemuDomainMigrateGetMaxDowntime")
    guest = host.guest(dom)
    guest.need_run()
    found = (await guest.ask("query-migrate-parameters")).get("downtime-limit")
    if found is None:
        raise OperationFailed("unable to get migration downtime")
    return int(found)


@calls.handles(key="dom", lane="query")
async def domain_migrate_set_compression_cache(
    host: QemuHost,
    dom: DomainRef,
    cacheSize: int,  # noqa: N803  (the wire's own name)
    flags: int,
) -> None:
    """Sizes the memory that compression remembers pages in. Raises NoSuchDomain, DomainStateError, InternalError."""
    check_flags(flags, 0, "qemuDomainMigrateSetCompressionCache")
    guest = host.guest(dom)
    guest.need_run()
    await guest.ask("migrate-set-parameters", {"xbzrle-cache-size": cacheSize})


@calls.handles(key="dom", lane="query")
async def domain_migrate_get_compression_cache(host: QemuHost, dom: DomainRef, flags: int) -> int:
    """The size of that memory. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "qemuDomainMigrateGetCompressionCache")
    guest = host.guest(dom)
    guest.need_run()
    return int((await guest.ask("query-migrate-parameters")).get("xbzrle-cache-size", 0))


@calls.handles()
async def domain_migrate_start_post_copy(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Lets a guest go on over there at once, while its memory follows. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "qemuDomainMigrateStartPostCopy")
    guest = host.guest(dom)
    guest.need_run()
    await want_switch(guest)


# --- what QEMU is told -----------------------------------------------------------------------------------------------


def check_settings(params: MigrationParameters, flags: int, *, incoming: bool = False) -> None:
    """Raises InvalidArguments for settings of something that is not asked for, NumericOverflow for what is too much.

    What is the source's business alone is not asked for at the destination, though its settings are told there too.
    """
    if params.postcopy_bandwidth is not None and params.postcopy_bandwidth >= _TOO_FAST_MIB:
        raise NumericOverflow(f"migration parameter 'bandwidth.postcopy' must be less than {_TOO_FAST_MIB}")
    throttles = not incoming and (params.throttle_initial is not None or params.throttle_increment is not None)
    if throttles and not flags & Flags.AUTO_CONVERGE:
        raise InvalidArguments("Turn auto convergence on to tune it")
    if params.channels is not None and not flags & Flags.PARALLEL:
        raise InvalidArguments("Turn parallel migration on to tune it")
    mt = (params.compress_level, params.compress_threads, params.decompress_threads)
    if any(one is not None for one in mt) and "mt" not in params.compression:
        raise InvalidArguments("Turn multithread compression on to tune it")
    has_xbzrle = "xbzrle" in params.compression or (flags & Flags.COMPRESSED and not params.compression)
    if params.xbzrle_cache is not None and not has_xbzrle:
        raise InvalidArguments("Turn xbzrle compression on to tune it")


def capabilities_of(params: MigrationParameters, flags: int, *, incoming: bool) -> dict[str, bool]:
    """QEMU's capabilities for a migration, all of them, so that nothing of an earlier one is left."""
    methods = params.compression or ["xbzrle"]
    compresses = bool(flags & Flags.COMPRESSED) or bool(params.compression)
    return {
        "xbzrle": compresses and "xbzrle" in methods,
        "compress": compresses and "mt" in methods,
        "auto-converge": bool(flags & Flags.AUTO_CONVERGE) and not incoming,
        "postcopy-ram": bool(flags & Flags.POSTCOPY),
        "multifd": bool(flags & Flags.PARALLEL),
        "return-path": bool(flags & (Flags.POSTCOPY | Flags.ZEROCOPY)),
        "zero-copy-send": bool(flags & Flags.ZEROCOPY) and not incoming,
        "rdma-pin-all": bool(flags & Flags.RDMA_PIN_ALL),
        "events": True,
        # disks that are sent along are finished while nobody runs
        "pause-before-switchover": bool(flags & _COPIES) and not incoming,
    }


def parameters_of(guest: Guest, params: MigrationParameters, flags: int, *, incoming: bool) -> dict[str, Any]:
    """QEMU's parameters for a migration."""
    found: dict[str, Any] = {}
    if not incoming:
        mib = params.bandwidth or (UNLIMITED_MIB if guest.migration_mib is None else guest.migration_mib)
        found["max-bandwidth"] = min(mib, UNLIMITED_MIB) * _MIB
    numbers = {
        "max-postcopy-bandwidth": None if params.postcopy_bandwidth is None else params.postcopy_bandwidth * _MIB,
        "compress-level": params.compress_level,
        "compress-threads": params.compress_threads,
        "decompress-threads": params.decompress_threads,
        "xbzrle-cache-size": params.xbzrle_cache,
        "cpu-throttle-initial": None if incoming else params.throttle_initial,
        "cpu-throttle-increment": None if incoming else params.throttle_increment,
        "multifd-channels": params.channels if flags & Flags.PARALLEL else None,
        "multifd-zlib-level": params.zlib_level,
        "multifd-zstd-level": params.zstd_level,
    }
    found |= {name: value for name, value in numbers.items() if value is not None}
    if flags & Flags.PARALLEL:
        methods = [one for one in params.compression if one in ("zlib", "zstd")]
        found["multifd-compression"] = methods[0] if methods else "none"
    return found


async def configure(host: QemuHost, guest: Guest, params: MigrationParameters, flags: int, *, incoming: bool) -> None:
    """Tells QEMU.

    Raises ArgumentUnsupported for a way that this QEMU does not have, DomainStateError when there are no certificates,
    InternalError for what it refuses, and as `Guest.ask` does.
    """
    known = {str(one["capability"]) for one in await guest.ask("query-migrate-capabilities")}
    wanted = capabilities_of(params, flags, incoming=incoming)
    for name, state in wanted.items():
        if state and name not in known:
            raise ArgumentUnsupported(f"Migration option '{name}' is not supported by QEMU binary")
    await add_credentials(host, guest, flags, incoming=incoming)
    if flags & Flags.ZEROCOPY and not incoming:
        _let_lock(guest)
    states = [{"capability": name, "state": state} for name, state in wanted.items() if name in known]
    parameters = parameters_of(guest, params, flags, incoming=incoming)
    if (tls := tls_of(params, flags)) is not None:
        parameters |= {"tls-creds": tls[0], "tls-hostname": "" if incoming else tls[1]}
    commands: list[tuple[str, dict[str, Any] | None]] = [("migrate-set-capabilities", {"capabilities": states})]
    if parameters:
        commands.append(("migrate-set-parameters", parameters))
    for name, arguments in commands:
        await guest.ask(name, arguments)


def _let_lock(guest: Guest) -> None:
    """Memory that is sent without a copy is locked meanwhile."""
    process, wanted = guest.process, guest.live.memory.kib * 1024
    if process is None:
        return
    with contextlib.suppress(OSError, ValueError):
        now, most = resource.prlimit(process.pid, resource.RLIMIT_MEMLOCK)
        if now != resource.RLIM_INFINITY and now < wanted:
            most = most if most == resource.RLIM_INFINITY else max(most, wanted)
            resource.prlimit(process.pid, resource.RLIMIT_MEMLOCK, (wanted, most))
