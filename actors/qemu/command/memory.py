"""Guest memory: `-m`, memory backends, NUMA nodes and memory modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from actors.qemu.command.device import add_device, address_properties
from actors.qemu.command.launch import HugePageMount, Launch, alias_of
from actors.qemu.command.line import CommandLine, Properties
from conf.cpu.cpu import Latency, NumaCell
from conf.domain.address import DimmAddress
from conf.domain.memory import HugePage, MemoryAccess, MemorySourceType
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.numatune import MemoryMode
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, InternalError
from util.cpuset import parse_cpuset, write_cpuset

_POLICIES: Final = {MemoryMode.STRICT: "bind", MemoryMode.PREFERRED: "preferred", MemoryMode.INTERLEAVE: "interleave"}
_SYSTEM_PAGE_KIB: Final = 4


def cells_of(launch: Launch) -> list[NumaCell]:
    """The guest's NUMA nodes."""
    cpu = launch.domain.cpu
    return cpu.numa.cells if cpu is not None and cpu.numa is not None else []


def cell_kib(cell: NumaCell) -> int:
    """The memory of a node."""
    return cell.memory * (bytes_per_unit(cell.unit or "KiB") or 1024) // 1024


def initial_kib(launch: Launch) -> int:
    """All memory at start but that of modules."""
    cells = cells_of(launch)
    # a guest that comes from elsewhere has what it had there
    if cells and launch.incoming is None:
        return sum(cell_kib(cell) for cell in cells)
    modules = sum(one.target.size_kib for one in launch.domain.devices.memories if _counts(one))
    total = launch.domain.memory.kib
    return total - modules if launch.domain.max_memory is not None else total


def _counts(module: MemoryDevice) -> bool:
    return module.model in (MemoryModel.DIMM, MemoryModel.NVDIMM, MemoryModel.VIRTIO_MEM)


def needs_machine_backend(launch: Launch) -> bool:
    """Memory without NUMA nodes is an object that the machine refers to."""
    machine = launch.machine_facts
    return not cells_of(launch) and machine is not None and machine.default_ram_id is not None


def add_memory(launch: Launch, line: CommandLine) -> None:
    """How much memory there is, how far it may grow, and where it comes from without NUMA nodes."""
    domain = launch.domain
    tune = domain.numatune
    if tune is not None and tune.memory is not None and tune.memory.nodeset:
        check_nodes(launch, parse_cpuset(tune.memory.nodeset))
    kib = initial_kib(launch)
    if domain.max_memory is not None:
        line.add("-m", f"size={kib}k,slots={domain.max_memory.slots},maxmem={domain.max_memory.kib}k")
    else:
        line.add("-m", str(kib // 1024))
    if needs_machine_backend(launch):
        machine = launch.machine_facts
        assert machine is not None and machine.default_ram_id is not None
        backend = Backend(launch, machine.default_ram_id, kib)
        backend.for_machine = True
        backend.write(line)
    locked = domain.memory_backing is not None and domain.memory_backing.locked
    line.add("-overcommit", f"mem-lock={'on' if locked else 'off'}")


def _preallocates(launch: Launch) -> bool:
    backing = launch.domain.memory_backing
    return backing is not None and backing.allocation is not None and backing.allocation.mode == "immediate"


class Backend:
    """A memory object: its kind follows from huge pages, sharing and the wanted source."""

    def __init__(self, launch: Launch, name: str, kib: int) -> None:
        self.launch = launch
        self.name = name
        self.kib = kib
        self.node: int | None = None
        self.page_kib: int | None = None
        self.nodes: frozenset[int] | None = None
        self.access: str | None = None
        self.discard: bool | None = None
        self.module: MemoryDevice | None = None
        self.for_machine = False

    def write(self, line: CommandLine) -> None:
        """Appends the object, with its thread context where it has one."""
        kind, properties = self.properties()
        context = self._thread_context(properties)
        if context is not None:
            line.add_json("-object", context)
            properties["prealloc-context"] = context["id"]
        line.add_json("-object", {"qom-type": kind, "id": self.name, **properties})

    def properties(self) -> tuple[str, Properties]:
        """The object's kind and options."""
        launch, backing = self.launch, self.launch.domain.memory_backing
        found: Properties = {}
        mount = self._huge_pages()
        path = self.module.source.path if self.module is not None and self.module.source is not None else None
        prealloc = _preallocates(launch)
        shared = self._shared()
        source = backing.source if backing is not None else None
        if self.module is not None and self.module.model is MemoryModel.SGX_EPC:
            kind, prealloc = "memory-backend-epc", True
        elif path is not None:
            kind = "memory-backend-file"
            found["mem-path"] = path
            prealloc = not (self.module is not None and self.module.source and self.module.source.pmem)
            if self.module is not None and self.module.model is MemoryModel.VIRTIO_PMEM:
                shared, prealloc = True, False
        elif mount is not None:
            kind = "memory-backend-file"
            found["mem-path"] = f"{mount.folder}/{launch.options.huge_page_folder}/{short_name(launch)}"
            prealloc = True
        elif source is MemorySourceType.MEMFD:
            kind = "memory-backend-memfd"
        elif source is MemorySourceType.FILE or shared is not None:
            kind = "memory-backend-file"
            found["mem-path"] = f"{launch.options.memory_folder}/{short_name(launch)}/{self.name}"
        else:
            kind = "memory-backend-ram"
        if kind == "memory-backend-memfd" and mount is not None:
            found["hugetlb"] = True
            found["hugetlbsize"] = mount.page_kib * 1024
        if self._wants_discard() and kind == "memory-backend-file":
            found["discard-data"] = True
        if shared is not None:
            found["share"] = shared
        if self.for_machine and kind != "memory-backend-ram":
            found["x-use-canonical-path-for-ramblock-id"] = False
        if prealloc:
            found["prealloc"] = True
        threads = backing.allocation.threads if backing is not None and backing.allocation is not None else None
        if threads and (prealloc or path is None):
            found["prealloc-threads"] = threads
        found["size"] = self.kib * 1024
        if self.module is not None and self.module.source is not None:
            if self.module.source.alignsize_kib:
                found["align"] = self.module.source.alignsize_kib * 1024
            if self.module.source.pmem:
                found["pmem"] = True
        found.update(self._placement())
        return kind, found

    def _shared(self) -> bool | None:
        if self.access is not None:
            return self.access == MemoryAccess.SHARED
        backing = self.launch.domain.memory_backing
        if backing is not None and backing.access is not None:
            return backing.access is MemoryAccess.SHARED
        return None

    def _wants_discard(self) -> bool:
        backing = self.launch.domain.memory_backing
        return self.discard if self.discard is not None else backing is not None and backing.discard

    def _huge_pages(self) -> HugePageMount | None:
        page_kib = self.page_kib
        backing = self.launch.domain.memory_backing
        if page_kib is None and backing is not None and backing.hugepages is not None:
            page_kib = _page_of_node(backing.hugepages.pages, self.node)
        if page_kib is None or page_kib == _SYSTEM_PAGE_KIB:
            return None
        return find_mount(self.launch.options.huge_pages, page_kib)

    def _placement(self) -> Properties:
        """The host nodes the memory comes from."""
        tune = self.launch.domain.numatune
        nodes, mode = self.nodes, MemoryMode.STRICT
        if tune is not None and tune.memory is not None and tune.memory.mode is not None:
            mode = tune.memory.mode
        if nodes is None and tune is not None:
            own = next((one for one in tune.memnodes if one.cellid == self.node), None)
            if own is not None and own.nodeset is not None:
                nodes, mode = parse_cpuset(own.nodeset), own.mode or MemoryMode.STRICT
            elif tune.memory is not None and tune.memory.nodeset is not None:
                nodes = parse_cpuset(tune.memory.nodeset)
        check_nodes(self.launch, nodes or ())
        if not nodes or mode is MemoryMode.RESTRICTIVE:
            return {}
        return {"host-nodes": sorted(nodes), "policy": _POLICIES[mode]}

    def _thread_context(self, properties: Properties) -> Properties | None:
        # threads that take memory beforehand run on the nodes that it comes from
        if not properties.get("prealloc") or "host-nodes" not in properties:
            return None
        if not self.launch.caps.has("thread-context"):
            return None
        return {"qom-type": "thread-context", "id": f"tc-{self.name}", "node-affinity": properties["host-nodes"]}


def check_nodes(launch: Launch, nodes: Iterable[int]) -> None:
    """Raises ConfigUnsupported when the host lacks a NUMA node that is asked for."""
    there = launch.options.host_nodes
    absent = [] if there is None else sorted(set(nodes) - there)
    if absent:
        raise ConfigUnsupported(f"NUMA node {absent[0]} is unavailable")


def _page_of_node(pages: Iterable[HugePage], node: int | None) -> int | None:
    """The page size (KiB) for a node; 0 stands for the host's default."""
    pages = list(pages)
    if not pages:
        return 0
    for page in pages:
        if page.nodeset is not None and (node if node is not None else 0) in parse_cpuset(page.nodeset):
            return page.size * (bytes_per_unit(page.unit or "KiB") or 1024) // 1024
    for page in pages:
        if page.nodeset is None:
            return page.size * (bytes_per_unit(page.unit or "KiB") or 1024) // 1024
    return None


def find_mount(mounts: tuple[HugePageMount, ...], page_kib: int) -> HugePageMount:
    """The mounted pages of a size; 0 asks for the default size. Raises InternalError when there are none."""
    if not mounts:
        raise InternalError("hugetlbfs filesystem is not mounted or disabled by administrator config")
    for mount in mounts:
        if mount.page_kib == page_kib or (page_kib == 0 and mount.is_default):
            return mount
    if page_kib == 0:
        raise ConfigUnsupported("hugepages are disabled by administrator config")
    raise InternalError(f"Unable to find any usable hugetlbfs mount for {page_kib} KiB")


def _uses_backends(launch: Launch) -> bool:
    machine = launch.machine_facts
    return machine is None or not machine.numa_mem or _has_special_memory(launch)


def _has_special_memory(launch: Launch) -> bool:
    backing, tune = launch.domain.memory_backing, launch.domain.numatune
    if backing is not None and (backing.hugepages or backing.source or backing.access):
        return True
    if any(cell.mem_access for cell in cells_of(launch)):
        return True
    return tune is not None and bool(tune.memnodes)


def add_numa(launch: Launch, line: CommandLine) -> None:
    """The guest's NUMA nodes, their distances and caches."""
    cells = cells_of(launch)
    if not cells:
        return
    backends = _uses_backends(launch)
    if not backends and _preallocates(launch):
        line.add("-mem-prealloc")
    has_table = has_memory_table(launch)
    for number, cell in enumerate(cells):
        if backends and cell_kib(cell):
            backend = Backend(launch, f"ram-node{number}", cell_kib(cell))
            backend.node = cell.id if cell.id is not None else number
            backend.access = cell.mem_access
            backend.discard = cell.discard
            backend.write(line)
        words = [f"node,nodeid={number}"]
        if cell.cpus:
            words += [f"cpus={part}" for part in write_cpuset(parse_cpuset(cell.cpus)).split(",")]
        if has_table:
            initiator = number if cell.cpus else _initiator(launch)
            words.append(f"initiator={initiator}")
        if cell_kib(cell):
            words.append(f"memdev=ram-node{number}" if backends else f"mem={cell_kib(cell) // 1024}")
        line.add("-numa", ",".join(words))
    for number, cell in enumerate(cells):
        for sibling in cell.distances.siblings if cell.distances is not None else ():
            line.add("-numa", f"dist,src={number},dst={sibling.id},val={sibling.value}")
    if has_table:
        _add_hmat(launch, line, cells)


def has_memory_table(launch: Launch) -> bool:
    """Does the guest learn of memory-side caches, or of the paths between its nodes?"""
    numa = launch.domain.cpu.numa if launch.domain.cpu is not None else None
    if numa is None:
        return False
    paths = numa.interconnects
    has_paths = paths is not None and bool(paths.paths)
    return has_paths or any(cell.caches for cell in numa.cells)


def _initiator(launch: Launch) -> int:
    return next((number for number, cell in enumerate(cells_of(launch)) if cell.cpus), 0)


_LEVELS: Final = ("memory", "first-level", "second-level", "third-level")


def _add_hmat(launch: Launch, line: CommandLine, cells: list[NumaCell]) -> None:
    numa = launch.domain.cpu.numa if launch.domain.cpu is not None else None
    assert numa is not None
    for path in numa.interconnects.paths if numa.interconnects is not None else ():
        head = f"hmat-lb,initiator={path.initiator},target={path.target},hierarchy={_LEVELS[path.cache or 0]}"
        if isinstance(path, Latency):
            line.add("-numa", f"{head},data-type={path.type}-latency,latency={path.value}")
        else:
            kib = path.value * (bytes_per_unit(path.unit or "KiB") or 1024) // 1024
            line.add("-numa", f"{head},data-type={path.type}-bandwidth,bandwidth={kib}K")
    policies = {"writeback": "write-back", "writethrough": "write-through"}
    kinds = {"direct": "direct", "full": "complex"}
    for number, cell in enumerate(cells):
        for cache in cell.caches:
            kib = cache.size.value * (bytes_per_unit(cache.size.unit or "KiB") or 1024) // 1024
            line_bytes = cache.line.value * (bytes_per_unit(cache.line.unit or "bytes") or 1)
            line.add(
                "-numa",
                f"hmat-cache,node-id={number},size={kib}K,level={cache.level},"
                f"associativity={kinds.get(cache.associativity or '', 'none')},"
                f"policy={policies.get(cache.policy or '', 'none')},line={line_bytes}",
            )


def add_modules(launch: Launch, line: CommandLine) -> None:
    """Memory modules and their backends."""
    for module in launch.domain.devices.memories:
        alias = alias_of(module)
        backend = Backend(launch, f"mem{alias}", module.target.size_kib)
        backend.module = module
        backend.node = module.target.node
        backend.access = module.access or _access_of_cell(launch, module.target.node)
        backend.discard = module.discard
        if module.source is not None:
            backend.page_kib = module.source.pagesize_kib
            if module.source.nodemask:
                backend.nodes = parse_cpuset(module.source.nodemask)
        backend.write(line)
        if module.model is not MemoryModel.SGX_EPC:
            add_device(launch, line, module, _module_device(launch, module))


def _access_of_cell(launch: Launch, node: int | None) -> str | None:
    cells = cells_of(launch)
    return cells[node].mem_access if node is not None and node < len(cells) else None


def _module_device(launch: Launch, module: MemoryDevice) -> Properties:
    drivers = {
        MemoryModel.DIMM: "pc-dimm",
        MemoryModel.NVDIMM: "nvdimm",
        MemoryModel.VIRTIO_PMEM: "virtio-pmem-pci",
        MemoryModel.VIRTIO_MEM: "virtio-mem-pci",
    }
    if module.model not in drivers:
        raise ConfigUnsupported(f"memory device model '{module.model}' is not supported")
    alias = alias_of(module)
    target = module.target
    found: Properties = {"driver": drivers[module.model]}
    if module.model in (MemoryModel.DIMM, MemoryModel.NVDIMM, MemoryModel.VIRTIO_MEM):
        found["node"] = target.node
    if target.label is not None:
        found["label-size"] = target.label.size_kib * 1024
    if target.block_kib:
        found["block-size"] = target.block_kib * 1024
    if target.requested_kib is not None:
        found["requested-size"] = target.requested_kib * 1024
    if module.uuid is not None:
        found["uuid"] = str(module.uuid)
    if target.readonly:
        found["unarmed"] = True
    found["memdev"] = f"mem{alias}"
    found["id"] = alias
    if isinstance(module.address, DimmAddress):
        found["slot"] = module.address.slot
        found["addr"] = module.address.base
    else:
        found.update(address_properties(launch, module))
    return found


def short_name(launch: Launch) -> str:
    """The guest's name in paths: its number and as much of its name as paths can bear."""
    return f"{launch.guest_id}-{launch.domain.name[:20]}"
