"""The host's memory that guests share: huge pages and the merging of equal pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.tuning.parameters import STRING_OKAY, asked_for, read_parameters
from actors.runtime.calls import Calls
from actors.runtime.node import NodeFacts
from schema.errors import HostSystemError, InternalError, InvalidArguments, OperationFailed, OperationUnsupported
from schema.objects import TypedParam

calls: Calls[QemuHost] = Calls()

_NODES: Final = Path("/sys/devices/system/node")
_WHOLE: Final = Path("/sys/kernel/mm/hugepages")
_MERGING: Final = Path("/sys/kernel/mm/ksm")
_PAGE_KIB: Final = 4
_ADD: Final = 0
_SET: Final = 1
_SETTABLE: Final = {
    "shm_pages_to_scan": ("pages_to_scan", "uint"),
    "shm_sleep_millisecs": ("sleep_millisecs", "uint"),
    "shm_merge_across_nodes": ("merge_across_nodes", "uint"),
}
_TOLD: Final = (
    ("shm_pages_to_scan", "pages_to_scan", False),
    ("shm_sleep_millisecs", "sleep_millisecs", False),
    ("shm_pages_shared", "pages_shared", True),
    ("shm_pages_sharing", "pages_sharing", True),
    ("shm_pages_unshared", "pages_unshared", True),
    ("shm_pages_volatile", "pages_volatile", True),
    ("shm_full_scans", "full_scans", True),
    ("shm_merge_across_nodes", "merge_across_nodes", False),
)


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as exc:
        code = exc.errno if isinstance(exc, OSError) else 0
        raise HostSystemError(code or 0, f"unable to open: {path}") from exc


def _pages_folder(cell: int, kib: int) -> Path:
    """Where the kernel tells of huge pages of a size. Raises OperationFailed for a size or cell there is not."""
    folder = (_WHOLE if cell < 0 else _NODES / f"node{cell}" / "hugepages") / f"hugepages-{kib}kB"
    if not folder.is_dir():
        where = "" if cell < 0 else f" on node {cell}"
        raise OperationFailed(f"page size {kib} is not available{where}")
    return folder


@calls.handles()
async def node_get_free_pages(
    host: QemuHost,
    pages: list[int],
    startCell: int,  # noqa: N803  (the wire's own names)
    cellCount: int,  # noqa: N803
    flags: int,
) -> list[int]:
    """How many pages of each size are free, cell by cell. Raises OperationFailed for a size or cell there is not."""
    check_flags(flags, 0, "qemuNodeGetFreePages")
    return await host.runtime.in_thread(_free_pages, list(pages), startCell, cellCount)


def _free_pages(pages: list[int], start: int, count: int) -> list[int]:
    cells = [-1] if start < 0 else list(range(start, start + count))
    last = NodeFacts().cells()[-1]
    if start > last:
        raise InternalError(f"start cell {start} out of range (0-{last})")
    found = []
    for cell in cells:
        for kib in pages:
            if kib == _PAGE_KIB:
                found.append(_free_small_pages(cell))
            else:
                name = "free_hugepages"
                found.append(_number(_pages_folder(cell, kib) / name))
    return found


def _free_small_pages(cell: int) -> int:
    path = Path("/proc/meminfo") if cell < 0 else _NODES / f"node{cell}" / "meminfo"
    try:
        text = path.read_text(encoding="ascii")
    except OSError as exc:
        raise OperationFailed(f"node {cell} is not available") from exc
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if "MemFree" in words:
            return int(words[words.index("MemFree") + 1]) // _PAGE_KIB
    raise OperationFailed(f"node {cell} does not tell its free memory")


@calls.handles()
async def node_alloc_pages(
    host: QemuHost,
    pageSizes: list[int],  # noqa: N803  (the wire's own names)
    pageCounts: list[int],  # noqa: N803
    startCell: int,  # noqa: N803
    cellCount: int,  # noqa: N803
    flags: int,
) -> int:
    """Sets huge pages aside, or gives some back; tells how many pools were changed.

    Raises InvalidArguments, OperationFailed for a size or cell there is not, HostSystemError.
    """
    check_flags(flags, _SET, "qemuNodeAllocPages")
    if len(pageSizes) != len(pageCounts):
        raise InvalidArguments("there must be as many counts as sizes")
    return await host.runtime.in_thread(_alloc, list(pageSizes), list(pageCounts), startCell, cellCount, flags)


def _alloc(sizes: list[int], counts: list[int], start: int, cells: int, flags: int) -> int:
    changed = 0
    for cell in [-1] if start < 0 else range(start, start + cells):
        for kib, wanted in zip(sizes, counts, strict=True):
            if kib == _PAGE_KIB:
                raise OperationUnsupported("system pages pool can't be modified")
            path = _pages_folder(cell, kib) / "nr_hugepages"
            total = wanted if flags & _SET else _number(path) + wanted
            try:
                path.write_text(str(total), encoding="ascii")
            except OSError as exc:
                raise HostSystemError(exc.errno or 0, f"Unable to write to: {path}") from exc
            if _number(path) != total:
                raise OperationFailed(f"Unable to allocate {total} pages. Allocated only {_number(path)}")
            changed += 1
    return changed


@calls.handles()
async def node_get_memory_parameters(host: QemuHost, nparams: int, flags: int) -> dict[str, Any]:
    """How the host merges equal pages. Raises HostSystemError."""
    check_flags(flags, STRING_OKAY, "virHostMemGetParameters")
    found = []
    for name, file, is_long in _TOLD:
        path = _MERGING / file
        if not path.exists():
            continue
        value = await host.runtime.in_thread(_number, path)
        found.append(TypedParam.of_ullong(name, value) if is_long else TypedParam.of_uint(name, value))
    return asked_for(found, nparams)


@calls.handles()
async def node_set_memory_parameters(host: QemuHost, params: list[TypedParam], flags: int) -> None:
    """Changes how the host merges equal pages. Raises ArgumentUnsupported, InvalidArguments, HostSystemError."""
    check_flags(flags, 0, "virHostMemSetParameters")
    given = read_parameters(params, {name: kind for name, (_, kind) in _SETTABLE.items()})
    for name, value in given.items():
        path = _MERGING / _SETTABLE[name][0]
        if not path.exists():
            raise OperationUnsupported(f"Parameter '{name}' is not supported by this kernel")
        try:
            path.write_text(str(value), encoding="ascii")
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"failed to set {_SETTABLE[name][0]}") from exc


@calls.handles()
def node_get_sev_info(host: QemuHost, nparams: int, flags: int) -> dict[str, Any]:
    """There is no emulator here that offers encrypted memory. Raises OperationUnsupported."""
    raise OperationUnsupported("QEMU does not support SEV guest")
