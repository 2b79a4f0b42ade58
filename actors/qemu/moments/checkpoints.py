"""What guests' checkpoints are: their lists, documents, and who is whose child."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.block.bitmaps_live import ask_nodes
from actors.qemu.block.chain import disk_of_target, images_of
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.flags import ParseFlags
from conf.moment import tree
from conf.moment.documents import BITMAP, write_moment
from conf.moment.moment import Checkpoint, Parent
from conf.moment.tree import MomentRecord
from schema.enums.domain_checkpoint import DomainCheckpointListFlags as Listed
from schema.enums.domain_checkpoint import DomainCheckpointXMLFlags as XmlFlags
from schema.errors import DomainStateError, NoSuchCheckpoint
from schema.objects import DomainCheckpointRef, DomainRef

calls: Calls[QemuHost] = Calls()

_FILTERS: Final = int(Listed.TOPOLOGICAL | Listed.LEAVES | Listed.NO_LEAVES)


@calls.handles(key="checkpoint", lane="query")
async def domain_checkpoint_get_xml_desc(host: QemuHost, checkpoint: DomainCheckpointRef, flags: int) -> str:
    """A checkpoint's document; with SIZE also how much has changed since then.

    Raises NoSuchDomain, NoSuchCheckpoint, DomainStateError for the size when the guest is off.
    """
    check_flags(flags, int(XmlFlags.SECURE | XmlFlags.NO_DOMAIN | XmlFlags.SIZE), "qemuDomainCheckpointGetXMLDesc")
    guest, record = need_checkpoint(host, checkpoint)
    described = read_checkpoint(record)
    described.parent = Parent(name=record.parent) if record.parent else None
    if flags & XmlFlags.SIZE:
        await _measure(guest, described)
    if flags & XmlFlags.NO_DOMAIN:
        described.domain = None
    return write_moment(described, secure=bool(flags & XmlFlags.SECURE))


async def _measure(guest: Guest, checkpoint: Checkpoint) -> None:
    if not guest.is_active:
        raise DomainStateError("domain is not running")
    nodes = await ask_nodes(guest)
    for asked in checkpoint.disks:
        disk = disk_of_target(guest.live, asked.name)
        if asked.checkpoint != BITMAP or disk is None or asked.bitmap is None:
            continue
        found = [nodes[one.format_node].find(asked.bitmap) for one in images_of(disk) if one.format_node in nodes]
        asked.size = sum(one.dirty for one in found if one is not None)


def read_checkpoint(record: MomentRecord) -> Checkpoint:
    """A checkpoint as it was written down."""
    node = parse_document(record.xml, name="domain_checkpoint", root="domaincheckpoint")
    return Checkpoint.parse(node, ParseFlags.INACTIVE)


@calls.handles()
def domain_list_all_checkpoints(host: QemuHost, dom: DomainRef, need_results: int, flags: int) -> dict[str, Any]:
    """The checkpoints of a guest, parents first. Raises NoSuchDomain."""
    check_flags(flags, _FILTERS | int(Listed.ROOTS), "qemuDomainListAllCheckpoints")
    guest = host.guest(dom)
    known = guest.moments.checkpoints
    names = tree.children(known, None) if flags & Listed.ROOTS else tree.descendants(known, None)
    return _listed(guest, tree.selected(known, names, flags & ~int(Listed.TOPOLOGICAL)), need_results)


@calls.handles()
def domain_checkpoint_list_all_children(
    host: QemuHost, checkpoint: DomainCheckpointRef, need_results: int, flags: int
) -> dict[str, Any]:
    """The checkpoints after one, parents first. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(flags, _FILTERS | int(Listed.DESCENDANTS), "qemuDomainCheckpointListAllChildren")
    guest, _ = need_checkpoint(host, checkpoint)
    known = guest.moments.checkpoints
    after = tree.descendants if flags & Listed.DESCENDANTS else tree.children
    names = after(known, checkpoint.name)
    return _listed(guest, tree.selected(known, names, flags & ~int(Listed.TOPOLOGICAL)), need_results)


@calls.handles()
def domain_checkpoint_lookup_by_name(host: QemuHost, dom: DomainRef, name: str, flags: int) -> DomainCheckpointRef:
    """The checkpoint of that name. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(flags, 0, "qemuDomainCheckpointLookupByName")
    ref = DomainCheckpointRef(name, host.guest(dom).ref)
    need_checkpoint(host, ref)
    return ref


@calls.handles()
def domain_checkpoint_get_parent(host: QemuHost, checkpoint: DomainCheckpointRef, flags: int) -> DomainCheckpointRef:
    """The checkpoint before one. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(flags, 0, "qemuDomainCheckpointGetParent")
    guest, record = need_checkpoint(host, checkpoint)
    if not record.parent:
        raise NoSuchCheckpoint(f"checkpoint '{checkpoint.name}' does not have a parent")
    return DomainCheckpointRef(record.parent, guest.ref)


def need_checkpoint(host: QemuHost, checkpoint: DomainCheckpointRef) -> tuple[Guest, MomentRecord]:
    """A guest and its checkpoint. Raises NoSuchDomain, NoSuchCheckpoint."""
    guest = host.guest(checkpoint.dom)
    record = guest.moments.checkpoints.get(checkpoint.name)
    if record is None:
        raise NoSuchCheckpoint(f"no domain checkpoint with matching name '{checkpoint.name}'")
    return guest, record


def _listed(guest: Guest, names: list[str], need_results: int) -> dict[str, Any]:
    refs = [DomainCheckpointRef(name, guest.ref) for name in names]
    return {"checkpoints": refs if need_results else [], "ret": len(refs)}
