"""The fake host's processors, memory and security model.

The figures are those that libvirt's test driver answers, so that programs tested against it need no change.
"""

from __future__ import annotations

import os
from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test.capabilities import DEFAULT_CELLS, Cell, write_capabilities
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.world import World
from schema.errors import ErrorDomain, InternalError, InvalidArguments
from schema.objects import NodeCpuStat

calls: Calls[TestHost] = Calls()

SECURITY_MODEL: Final = "testSecurity"
MAX_VCPUS: Final = 32
CPU_MAP_BITS: Final = 8
_CPUS_ONLINE: Final = (0, 2, 4)
_CPU_STATS: Final = (("user", 9797400000), ("kernel", 34678723400000), ("idle", 87264900000), ("iowait", 763600000))
_SYSINFO: Final = (
    ("vendor", "LENOVO"),
    ("version", "G4ETA1WW (2.61 )"),
    ("date", "05/07/2014"),
    ("release", "2.61"),
)


def cells_of(world: World) -> tuple[Cell, ...]:
    """The NUMA cells that a scope's host tells of."""
    return DEFAULT_CELLS if world.is_default else ()


@calls.handles()
def node_get_info(host: TestHost) -> dict[str, Any]:
    """The fake host's processors and memory."""
    node = host.world.record.node
    return {
        "model": node.model.encode()[:31].ljust(32, b"\0"),
        "memory": node.memory,
        "cpus": node.cpus,
        "mhz": node.mhz,
        "nodes": node.nodes,
        "sockets": node.sockets,
        "cores": node.cores,
        "threads": node.threads,
    }


@calls.handles()
def connect_get_capabilities(host: TestHost) -> str:
    """What the fake host offers."""
    return write_capabilities(cells_of(host.world))


@calls.handles()
def connect_get_sysinfo(host: TestHost, flags: int) -> str:
    """The fake host's firmware tables."""
    check_flags(flags, 0, "testConnectGetSysinfo")
    entries = "".join(f"    <entry name='{name}'>{value}</entry>\n" for name, value in _SYSINFO)
    return f"<sysinfo type='smbios'>\n  <bios>\n{entries}  </bios>\n</sysinfo>\n"


@calls.handles()
def connect_get_hostname(host: TestHost) -> str:
    """The real host's name."""
    return os.uname().nodename


@calls.handles()
def connect_get_max_vcpus(host: TestHost, type: str | None) -> int:
    """The processors that one guest may have."""
    return MAX_VCPUS


@calls.handles()
def node_get_free_memory(host: TestHost) -> int:
    """Free memory: half of what the cells have; libvirt's test driver counts KiB as bytes, and so do we."""
    return sum(_freely(cells_of(host.world))) // 2


@calls.handles()
def node_get_cells_free_memory(host: TestHost, startCell: int, maxcells: int) -> list[int]:  # noqa: N803
    """Free memory of some cells. Raises InvalidArguments for a cell that is not there."""
    cells = _freely(cells_of(host.world))
    if startCell >= len(cells) > 0 or startCell < 0:
        raise InvalidArguments("Range exceeds available cells")
    return cells[startCell : startCell + maxcells]


@calls.handles()
def node_get_free_pages(
    host: TestHost,
    pages: list[int],
    startCell: int,  # noqa: N803
    cellCount: int,  # noqa: N803
    flags: int,
) -> list[int]:
    """libvirt's test driver fails here without a word."""
    check_flags(flags, 0, "testNodeGetFreePages")
    raise _wordless()


@calls.handles()
def node_get_cpu_map(host: TestHost, need_map: int, need_online: int, flags: int) -> dict[str, Any]:
    """Which of the fake host's processors are online."""
    check_flags(flags, 0, "testNodeGetCPUMap")
    online = sum(1 << cpu for cpu in _CPUS_ONLINE)
    return {
        "cpumap": bytes([online]) if need_map else b"",
        "online": len(_CPUS_ONLINE) if need_online else 0,
        "ret": CPU_MAP_BITS,
    }


@calls.handles()
def node_get_cpu_stats(host: TestHost, cpuNum: int, nparams: int, flags: int) -> dict[str, Any]:  # noqa: N803
    """Times of the fake host's processors, the same for each; without room for them only their number."""
    check_flags(flags, 0, "testNodeGetCPUStats")
    stats = [NodeCpuStat(field, value) for field, value in _CPU_STATS]
    return {"params": stats[:nparams], "nparams": len(stats) if nparams == 0 else 0}


@calls.handles()
def node_get_security_model(host: TestHost) -> dict[str, Any]:
    """The fake host's security model."""
    return {"model": SECURITY_MODEL.encode() + b"\0", "doi": b"\0"}


def _freely(cells: tuple[Cell, ...]) -> list[int]:
    return [cell.memory_kib for cell in cells]


def _wordless() -> InternalError:
    error = InternalError(domain=ErrorDomain.RPC, int1=0, int2=0)
    error.message = "Library function returned error but did not set virError"
    error.str1 = None
    return error
