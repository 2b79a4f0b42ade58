"""Points in a guest's block history, which lie in its own document."""

from __future__ import annotations

import time
from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules
from actors.test.flags import check_flags
from actors.test.host import TestHost
from conf.moment import tree as moments
from conf.moment.documents import fit_checkpoint, parse_checkpoint, write_moment
from conf.moment.moment import Parent
from conf.moment.tree import MomentRecord
from conf.origin import told_by
from conf.schemas import SCHEMAS
from schema.enums.domain_checkpoint import DomainCheckpointCreateFlags as Create
from schema.enums.domain_checkpoint import DomainCheckpointDeleteFlags as Delete
from schema.enums.domain_checkpoint import DomainCheckpointListFlags as Listed
from schema.enums.domain_checkpoint import DomainCheckpointXMLFlags as XmlFlags
from schema.errors import ConfigUnsupported, ErrorDomain, OperationUnsupported
from schema.objects import DomainCheckpointRef, DomainRef

calls: Calls[TestHost] = Calls()

_FILTERS: Final = int(Listed.TOPOLOGICAL | Listed.LEAVES | Listed.NO_LEAVES)


@calls.handles(key="dom")
async def domain_checkpoint_create_xml(
    host: TestHost, dom: DomainRef, xml_desc: str, flags: int
) -> DomainCheckpointRef:
    """Begins to record changes of a guest's disks.

    Raises NoSuchDomain, XmlError, ConfigUnsupported for disks that are not there, OperationFailed for a name that is
    taken, OperationUnsupported beside snapshots.
    """
    check_flags(flags, int(Create.REDEFINE | Create.QUIESCE), "testDomainCheckpointCreateXML")
    guest = host.guest(dom)
    redefine = bool(flags & Create.REDEFINE)
    if guest.record.snapshots:
        raise OperationUnsupported("cannot create checkpoint while snapshot exists")
    if not guest.is_active:
        raise OperationUnsupported("cannot create checkpoint for inactive domain")
    # libvirt sees documents of checkpoints validate whatever the flags say
    checkpoint = parse_checkpoint(xml_desc, rules.RULES, redefine=redefine, validate=SCHEMAS.is_dir())
    name = checkpoint.name = checkpoint.name or str(int(time.time()))
    if not redefine:
        current = guest.record.current_checkpoint
        checkpoint.parent = Parent(name=current) if current is not None else None
        checkpoint.creation_time = int(time.time())
        if not guest.current.devices.disks:
            raise ConfigUnsupported(
                "domain must have at least one disk to perform checkpoints", domain=ErrorDomain.DOMAIN_CHECKPOINT
            )
        with told_by(ErrorDomain.DOMAIN_CHECKPOINT):
            fit_checkpoint(checkpoint, guest.current)
        checkpoint.domain = guest.current.copy()
    parent = checkpoint.parent.name if checkpoint.parent is not None else None
    record = MomentRecord(xml=write_moment(checkpoint, secure=True), parent=parent)
    draft = guest.draft()
    draft.set(checkpoints=moments.added(guest.record.checkpoints, name, record, redefine=redefine))
    if not redefine:
        draft.set(current_checkpoint=name)
    ref = DomainCheckpointRef(name, guest.ref)
    await host.commit(draft, result=ref)
    return ref


@calls.handles(key="checkpoint")
async def domain_checkpoint_delete(host: TestHost, checkpoint: DomainCheckpointRef, flags: int) -> None:
    """Forgets a checkpoint; its children become its parent's, or are forgotten too. Raises NoSuchCheckpoint."""
    check_flags(flags, int(Delete.CHILDREN | Delete.METADATA_ONLY | Delete.CHILDREN_ONLY), "testDomainCheckpointDelete")
    guest, record = host.guest(checkpoint.dom), host.need_checkpoint(checkpoint)
    known = guest.record.checkpoints
    fallback = record.parent
    if flags & (Delete.CHILDREN | Delete.CHILDREN_ONLY):
        left = moments.without_branch(known, checkpoint.name, keep_root=bool(flags & Delete.CHILDREN_ONLY))
        fallback = checkpoint.name if flags & Delete.CHILDREN_ONLY else record.parent
    else:
        left = moments.without(known, checkpoint.name)
    current = guest.record.current_checkpoint
    draft = guest.draft()
    draft.set(checkpoints=left, current_checkpoint=current if current in left or current is None else fallback)
    await host.commit(draft)


@calls.handles()
def domain_checkpoint_get_xml_desc(host: TestHost, checkpoint: DomainCheckpointRef, flags: int) -> str:
    """A checkpoint's document. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(flags, int(XmlFlags.SECURE | XmlFlags.NO_DOMAIN | XmlFlags.SIZE), "testDomainCheckpointGetXMLDesc")
    record = host.need_checkpoint(checkpoint)
    described = parse_checkpoint(record.xml, rules.RULES, redefine=True)
    described.parent = Parent(name=record.parent) if record.parent else None
    if flags & XmlFlags.NO_DOMAIN:
        described.domain = None
    return write_moment(described, secure=bool(flags & XmlFlags.SECURE))
