"""What guests' snapshots are: their lists, documents, and who is whose child."""

from __future__ import annotations

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.saved.cookie import parse_cookie
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.flags import ParseFlags
from conf.moment.documents import write_moment
from conf.moment.moment import Parent, Snapshot
from conf.moment.tree import MomentRecord
from schema.enums.domain_snapshot import DomainSnapshotXMLFlags as XmlFlags
from schema.objects import DomainSnapshotRef

calls: Calls[QemuHost] = Calls()


@calls.handles()
def domain_snapshot_get_xml_desc(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> str:
    """A saved state's document. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, int(XmlFlags.SECURE), "qemuDomainSnapshotGetXMLDesc")
    record = host.need_snapshot(snap)
    snapshot = read_snapshot(record)
    snapshot.parent = Parent(name=record.parent) if record.parent else None
    if snapshot.cookie is not None:
        snapshot.cookie = parse_cookie(snapshot.cookie).to_xml()  # in libvirt's own writing
    return write_moment(snapshot, secure=bool(flags & XmlFlags.SECURE))


def read_snapshot(record: MomentRecord) -> Snapshot:
    """A snapshot as it was written down: nothing in it is filled in or checked again."""
    return Snapshot.parse(
        parse_document(record.xml, name="domain_snapshot", root="domainsnapshot"), ParseFlags.INACTIVE
    )
