"""What guests' checkpoints are: their lists, documents, and who is whose child."""

from __future__ import annotations

from typing import Final

from actors.qemu.block.bitmaps_live import ask_nodes
from actors.qemu.block.chain import disk_of_target, images_of
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.flags import ParseFlags
from conf.moment.documents import BITMAP, write_moment
from conf.moment.moment import Checkpoint, Parent
from conf.moment.tree import MomentRecord
from schema.enums.domain_checkpoint import DomainCheckpointListFlags as Listed
from schema.enums.domain_checkpoint import DomainCheckpointXMLFlags as XmlFlags
from schema.errors import DomainStateError
from schema.objects import DomainCheckpointRef

calls: Calls[QemuHost] = Calls()

_FILTERS: Final = int(Listed.TOPOLOGICAL | Listed.LEAVES | Listed.NO_LEAVES)


@calls.handles(key="checkpoint", lane="query")
async def domain_checkpoint_get_xml_desc(host: QemuHost, checkpoint: DomainCheckpointRef, flags: int) -> str:
    """A checkpoint's document; with SIZE also how much has changed since then.

    Raises NoSuchDomain, NoSuchCheckpoint, DomainStateError for the size when the guest is off.
    """
    check_flags(flags, int(XmlFlags.SECURE | XmlFlags.NO_DOMAIN | XmlFlags.SIZE), "qemuDomainCheckpointGetXMLDesc")
    guest, record = host.guest(checkpoint.dom), host.need_checkpoint(checkpoint)
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
