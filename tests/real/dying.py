"""A driver that ends at one step of a change as one that is killed does, for those who look at what is left.

`python -m tests.real.dying ROOT CHANGE STEP`: the guest of `guest.xml` is started, what the change needs is done, and
at the step of that number (something was written, or QEMU has answered) the process is gone. It prints how the
call ended when it gets that far, and the correlation of the call is always the same, so that it can be sent again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from actors.qemu.driver import QemuActor
from actors.qemu.guest import Guest
from actors.runtime.intents import Intents
from actors.runtime.store import Store
from schema.errors import VirtError
from schema.objects import DomainRef, DomainSnapshotRef
from tests.contract.house import House, open_house

SCOPE: Final = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
CORRELATION: Final = 424242
DEAD: Final = 99
SOURCE: Final = b"d" * 16

Call = tuple[str, dict[str, Any]]


class Steps:
    """Counts what is done, and ends the process at one of it."""

    def __init__(self, end_at: int) -> None:
        self.done = 0
        self.end_at = end_at
        self.counts = False

    def step(self) -> None:
        """One more thing is done."""
        if self.counts:
            self.done += 1
            if self.done == self.end_at:
                os._exit(DEAD)

    def watch(self, owner: type, name: str) -> None:
        """What this method does is a step: it may end just before or just after it."""
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def watched(this: Any, *args: Any, **kwargs: Any) -> Any:
            self.step()
            value = await inner(this, *args, **kwargs)
            self.step()
            return value

        setattr(owner, name, watched)


def call_of(change: str, ref: DomainRef, root: Path) -> Call:
    """The call that is cut short."""
    snapshot = "<domainsnapshot><name>s1</name></domainsnapshot>"
    match change:
        case "snapshot-external":
            return "domain_snapshot_create_xml", {"dom": ref, "xml_desc": snapshot, "flags": 16}
        case "snapshot-internal":
            return "domain_snapshot_create_xml", {"dom": ref, "xml_desc": snapshot, "flags": 0}
        case "snapshot-memory":
            xml = snapshot.replace("</name>", f"</name><memory snapshot='external' file='{root}/s1.mem'/>")
            return "domain_snapshot_create_xml", {"dom": ref, "xml_desc": xml, "flags": 0}
        case "snapshot-delete":
            return "domain_snapshot_delete", {"snap": DomainSnapshotRef("s1", ref), "flags": 0}
        case "pivot":
            return "domain_block_job_abort", {"dom": ref, "path": "vda", "flags": 2}
        case "copy":
            xml = f"<disk type='file'><driver type='qcow2'/><source file='{root}/copy.qcow2'/></disk>"
            return "domain_block_copy", {"dom": ref, "path": "vda", "destxml": xml, "params": [], "flags": 4}
        case "backup":
            target = f"<disk name='vda' type='file'><target file='{root}/backup.qcow2'/></disk>"
            return "domain_backup_begin", {
                "dom": ref,
                "backup_xml": f"<domainbackup><disks>{target}</disks></domainbackup>",
                "checkpoint_xml": "<domaincheckpoint><name>ck1</name></domaincheckpoint>",
                "flags": 0,
            }
        case _:
            xml = "<domaincheckpoint><name>ck1</name></domaincheckpoint>"
            return "domain_checkpoint_create_xml", {"dom": ref, "xml_desc": xml, "flags": 0}


async def prepare(change: str, ref: DomainRef, house: House) -> None:
    """What there must be before the call."""
    if change not in ("pivot", "snapshot-delete"):
        return
    await house.call(
        "domain_snapshot_create_xml",
        dom=ref,
        xml_desc="<domainsnapshot><name>s1</name></domainsnapshot>",
        flags=16,
    )
    if change == "pivot":
        await house.call("domain_block_commit", dom=ref, disk="vda", base=None, top=None, bandwidth=0, flags=4)
        for _ in range(600):
            if any(record["data"].get("status") == 3 for record in house.broker.records if "data" in record):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the commit does not become ready")


async def cut_short(root: Path, change: str, end_at: int) -> None:
    """Starts the guest, begins the change, and ends."""
    steps = Steps(end_at)
    for owner, name in ((Guest, "ask"), (Store, "write"), (Intents, "begin"), (Intents, "note"), (Intents, "close")):
        steps.watch(owner, name)
    xml = (root / "guest.xml").read_text(encoding="utf-8")
    async with open_house(QemuActor(), SCOPE, root) as house:
        defined = await house.call("domain_define_xml_flags", xml=xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=defined.dom, flags=1, deadline_s=60))
        await prepare(change, defined.dom, house)
        await asyncio.sleep(0.1)  # what is kept in the background is kept
        procedure, args = call_of(change, defined.dom, root)
        steps.counts = True
        try:
            call = house.post(procedure, correlation=CORRELATION, source=SOURCE, deadline_s=60, **args)
            await house.outcome(call)
            print("done", flush=True)
        except VirtError as exc:
            print(f"refused: {exc}", flush=True)
        os._exit(0)


if __name__ == "__main__":
    uvloop.run(cut_short(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
