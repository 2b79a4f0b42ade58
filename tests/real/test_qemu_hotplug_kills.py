"""The driver is killed before and after each thing it says to QEMU while devices come, go and change.

Whatever the moment, QEMU and the guest's document agree afterwards: nothing is left behind, and whoever asked has a
verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.hotplug.guest_board import GuestTalk
from schema.errors import VirtError
from tests.contract.house import FakeBroker, House, open_house
from tests.real.guest import needs_qemu, qemu_pid
from tests.real.test_qemu_guests import SCOPE, Subject, run

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

TOP = "<iothreads>1</iothreads>"
MOST = 40
"""No change takes so many steps."""


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Stop:
    """Where the driver is killed: around the so many-th thing that it says."""

    at: int
    after: bool
    said: int = 0

    def __post_init__(self) -> None:
        self.reached = asyncio.Event()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("ask", "hand_over", "hand_over_set"):
            patch.setattr(GuestTalk, name, self._wrapped(getattr(GuestTalk, name)))
        patch.setattr(GuestTalk, "take_back", lambda talk, commands: None)

    def _wrapped(self, real: Any) -> Any:
        async def say(talk: GuestTalk, *arguments: Any) -> Any:
            self.said += 1
            is_here = self.said == self.at
            if is_here and not self.after:
                await self._die()
            value = await real(talk, *arguments)
            if is_here:
                await self._die()
            return value

        return say

    async def _die(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Change:
    """A call, and what the guest has and is asked to lose before it, if anything."""

    procedure: str
    arguments: dict[str, Any]
    before: str = ""


def disk(root: Path, name: str = "b.qcow2") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{root}/{name}'/>"
        "<target dev='sdb' bus='scsi'/></disk>"
    )


def changes(root: Path) -> dict[str, Change]:
    channel = "<channel type='unix'><target type='virtio' name='org.vt.x'/></channel>"
    rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    nic = "<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='virtio'/></interface>"
    medium = f"<disk type='file' device='cdrom'><source file='{root}/new.iso'/><target dev='sda' bus='sata'/></disk>"
    attach, detach = "domain_attach_device_flags", "domain_detach_device_flags"
    return {
        "disk": Change(attach, {"xml": disk(root), "flags": 3}),
        "channel": Change(attach, {"xml": channel, "flags": 1}),
        "rng": Change(attach, {"xml": rng, "flags": 3}),
        "nic": Change(attach, {"xml": nic, "flags": 1}),
        "medium": Change("domain_update_device_flags", {"xml": medium, "flags": 3}),
        "no-disk": Change(detach, {"xml": disk(root), "flags": 3}, before=disk(root)),
        "thread": Change("domain_add_iothread", {"iothread_id": 5, "flags": 3}),
        "vcpu": Change("domain_set_vcpus_flags", {"nvcpus": 2, "flags": 3}),
    }


@contextlib.asynccontextmanager
async def incarnation(root: Path, broker: FakeBroker, epoch: int, *, dies: bool = False) -> AsyncIterator[House]:
    async with open_house(QemuActor(), SCOPE, root, broker=broker, epoch=epoch, orderly=not dies) as house:
        yield house


async def what_qemu_has(house: House, guest: Subject) -> dict[str, set[str]]:
    asked = house.host.guests[guest.uuid.bytes].ask
    devices = {str(one["name"]) for one in await asked("qom-list", {"path": "/machine/peripheral"})}
    objects = {str(one["name"]) for one in await asked("qom-list", {"path": "/objects"})}
    nodes = {str(one["node-name"]) for one in await asked("query-named-block-nodes", {"flat": True})}
    chardevs = {str(one["label"]) for one in await asked("query-chardev")}
    return {"devices": devices, "objects": objects, "nodes": nodes, "chardevs": chardevs}


async def check_agreement(house: House, guest: Subject) -> None:
    """They agree soon: what QEMU tells late is taken up as it comes."""
    end = time.monotonic() + 30.0
    while True:
        try:
            await check_now(house, guest)
        except AssertionError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def check_now(house: House, guest: Subject) -> None:
    """Each part that QEMU has belongs to something in the running guest's document, and the reverse."""
    has = await what_qemu_has(house, guest)
    live = house.host.guests[guest.uuid.bytes].live
    text = await guest.xml_desc(house)
    for alias in ("scsi0-0-0-1", "channel0", "rng0", "net0", "rng1"):
        assert (alias in has["devices"]) == (f"<alias name='{alias}'/>" in text), alias
    images = {f"libvirt-{one.source.index}" for one in live.devices.disks if one.source and one.source.index}
    known = {name.rpartition("-")[0] for name in has["nodes"] if name.startswith("libvirt-")}
    empty = {f"libvirt-{one.source.index}" for one in live.devices.disks if one.source and not one.source.file}
    assert known == images - empty
    assert ("charchannel0" in has["chardevs"]) == ("channel0" in has["devices"])
    assert ("objrng0" in has["objects"]) == ("rng0" in has["devices"])
    threads = {name for name in has["objects"] if name.startswith("iothread")}
    assert len(threads) == (live.iothreads or 0)
    slots = await house.host.guests[guest.uuid.bytes].ask("query-hotpluggable-cpus")
    assert sum("qom-path" in one for one in slots) == (live.vcpu.current or live.vcpu.count)
    assert not house.runtime.intents.open


@pytest.mark.parametrize("name", ["disk", "channel", "rng", "nic", "medium", "no-disk", "thread", "vcpu"])
async def test_a_driver_killed_in_the_middle_leaves_guest_and_document_of_one_mind(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_qemu()
    await run("qemu-img", "create", "-q", "-f", "qcow2", f"{root}/b.qcow2", "4M")
    for medium in ("old.iso", "new.iso"):
        (root / medium).write_bytes(b"\0" * 65536)
    guest = Subject(
        root,
        "<controller type='scsi' index='0' model='virtio-scsi'/><controller type='virtio-serial' index='0'/>"
        f"<disk type='file' device='cdrom'><source file='{root}/old.iso'/><target dev='sda' bus='sata'/></disk>",
        machine="pc",
        boots=False,
        top=TOP,
    )
    guest.xml = guest.xml.replace("<vcpu>1</vcpu>", "<vcpu current='1'>3</vcpu>")
    change = changes(root)[name]
    broker, epoch = FakeBroker(), 1
    verdicts: list[str] = []
    try:
        for at in range(1, MOST):
            for after in (False, True):
                ended = await _kill_and_look(root, broker, epoch, guest, change, Stop(at, after), monkeypatch, verdicts)
                epoch += 2
                if ended:
                    assert at > 1 and {"undone", "done"} >= set(verdicts), verdicts
                    return
    finally:
        pid = qemu_pid(guest.uuid)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    pytest.fail("the change never ends")


async def _kill_and_look(
    root: Path,
    broker: FakeBroker,
    epoch: int,
    guest: Subject,
    change: Change,
    stop: Stop,
    monkeypatch: pytest.MonkeyPatch,
    verdicts: list[str],
) -> bool:
    """One kill; whether the change ended before the place of the kill came."""
    arguments = {"dom": guest.ref, **change.arguments}
    with monkeypatch.context() as patch:
        # what a cancelled task would still say is not said: the patches last until the end
        async with incarnation(root, broker, epoch, dies=True) as house:
            await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
            await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
            if change.before:
                await house.call("domain_attach_device_flags", dom=guest.ref, xml=change.before, flags=3)
            stop.install(patch)
            call = house.post(change.procedure, deadline_s=60, **arguments)
            ending = asyncio.ensure_future(house.outcome(call))
            reached = asyncio.ensure_future(stop.reached.wait())
            await asyncio.wait([ending, reached], return_when=asyncio.FIRST_COMPLETED, timeout=30)
            ended = ending.done()
            if ended:
                ending.result()
            for task in (ending, reached):
                task.cancel()
            await asyncio.gather(ending, reached, return_exceptions=True)
    async with incarnation(root, broker, epoch + 1) as house:
        await check_agreement(house, guest)
        again = house.post(change.procedure, correlation=call.correlation, resend=True, deadline_s=60, **arguments)
        try:
            await house.outcome(again)
            verdicts.append("done")
        except VirtError as exc:
            verdicts.append("undone" if type(exc).__name__ == "CallUndone" else f"{type(exc).__name__}: {exc}")
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
    return ended
