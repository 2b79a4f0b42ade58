"""The QEMU driver over processes that speak QMP: what outlives it, what ends, what hangs, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.monitor.protocol import Notice
from actors.qemu.notices import on_notice
from actors.qemu.process import find_stat
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import DeadlinePassed, DomainStateError, InternalError, NoSuchDomain, VirtError
from schema.objects import DomainRef
from tests.contract.driver_qemu import DRIVER, fake_emulator
from tests.contract.house import FakeBroker, House, open_house
from tests.process.ending import processes_below

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

DEFINED, UNDEFINED, STARTED, SUSPENDED, RESUMED, STOPPED, SHUTDOWN, CRASHED = 0, 1, 2, 3, 4, 5, 6, 8


@pytest.fixture
def root() -> Iterator[Path]:
    """A short folder; whatever runs below it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        yield folder
    finally:
        for pid in guests_below(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def guests_below(folder: Path) -> list[int]:
    """The processes of guests whose files are below a folder."""
    return processes_below(folder, word=b"masterKey0")


@contextlib.asynccontextmanager
async def driver(
    root: Path, broker: FakeBroker | None = None, *, epoch: int = 1, dies: bool = False
) -> AsyncIterator[House]:
    async with open_house(QemuActor(), DRIVER.scope, root, broker=broker, epoch=epoch, orderly=not dies) as house:
        yield house


def guest_xml(name: str, identity: uuid.UUID, more: str = "", top: str = "") -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid><memory unit='MiB'>128</memory>"
        f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>{top}"
        f"<devices><emulator>{fake_emulator()}</emulator><serial type='pty'><target port='0'/></serial>"
        f"<memballoon model='virtio'/>{more}</devices></domain>"
    )


class Subject:
    """A guest of a test."""

    def __init__(self, name: str = "guest", top: str = "") -> None:
        self.name = name
        self.uuid = uuid.uuid4()
        self.ref = DomainRef(name, self.uuid.bytes, -1)
        self.xml = guest_xml(name, self.uuid, top=top)

    async def define(self, house: House) -> None:
        await house.call("domain_define_xml_flags", xml=self.xml, flags=0)

    async def start(self, house: House, flags: int = 0) -> int:
        started = await house.call("domain_create_with_flags", dom=self.ref, flags=flags)
        return int(started.dom.id)

    async def state(self, house: House) -> tuple[int, int]:
        told = await house.call("domain_get_state", dom=self.ref, flags=0)
        return told.state, told.reason

    def pid(self, house: House) -> int:
        return int(house.host.guests[self.uuid.bytes].need_run().pid)

    def told(self, house: House, since: int = 0) -> list[tuple[int, int]]:
        return [
            (r["data"]["event"], r["data"]["detail"])
            for r in house.broker.records[since:]
            if r["kind"] == "domain_event_lifecycle" and r["object"][1] == self.uuid.bytes
        ]


async def until(what: str, holds: Any, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    stat = find_stat(pid)
    return stat is None or not stat.is_alive


async def test_a_start_and_a_destroy_are_told_in_libvirts_order(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        number = await guest.start(house)
        assert number == 1
        assert await guest.state(house) == (DomainState.RUNNING, 1)
        pid = guest.pid(house)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        assert is_gone(pid)
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.DESTROYED)
        assert guest.told(house) == [(DEFINED, 0), (RESUMED, 0), (STARTED, 0), (SHUTDOWN, 2), (STOPPED, 1)]
        assert not list((root / "run" / "qemu").glob("domain-*"))


async def test_a_guest_that_is_started_paused_waits(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house, flags=1)
        assert await guest.state(house) == (DomainState.PAUSED, 1)
        assert guest.told(house) == [(DEFINED, 0), (STARTED, 0), (SUSPENDED, 0)]
        await house.call("domain_resume", dom=guest.ref)
        assert await guest.state(house) == (DomainState.RUNNING, 5)
        assert guest.told(house)[-1] == (RESUMED, 0)


async def test_an_emulator_that_ends_at_once_leaves_nothing_and_its_words_are_told(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject("guest-dies")
        await guest.define(house)
        with pytest.raises(InternalError, match="the machine is on fire"):
            await guest.start(house)
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.FAILED)
        assert guest.told(house) == [(DEFINED, 0)]
        assert not guests_below(root)
        assert not list((root / "run" / "qemu").glob("domain-*"))
        with pytest.raises(InternalError):
            await guest.start(house)


async def test_a_guest_that_powers_off_is_told_with_who_did_it(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        known = len(house.broker.records)
        await house.call("domain_shutdown_flags", dom=guest.ref, flags=0)
        await until("the end", lambda: (STOPPED, 0) in guest.told(house))
        assert guest.told(house, known) == [(SHUTDOWN, 1), (STOPPED, 0)]
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.SHUTDOWN)
        assert not guests_below(root)


async def test_a_reboot_starts_the_same_process_again(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        pid = guest.pid(house)
        known = len(house.broker.records)
        await house.call("domain_reboot", dom=guest.ref, flags=0)
        await until("the reboot", lambda: "domain_event_reboot" in house.broker.kinds())
        subject = house.host.guests[guest.uuid.bytes]
        await until("it runs again", lambda: not subject.need_run().reboots)
        assert guest.pid(house) == pid and not is_gone(pid)
        assert guest.told(house, known) == [], "a reboot is no shutdown"
        assert await guest.state(house) == (DomainState.RUNNING, 1)
        # a shutdown after a reboot is a shutdown
        await house.call("domain_shutdown_flags", dom=guest.ref, flags=0)
        await until("the end", lambda: (STOPPED, 0) in guest.told(house))


async def test_a_process_that_is_killed_has_crashed(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        os.kill(guest.pid(house), signal.SIGKILL)
        await until("the end", lambda: guest.told(house)[-1][0] == STOPPED)
        assert guest.told(house)[-1] == (STOPPED, 5)
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.CRASHED)
        assert await guest.start(house) == 2


async def test_a_guest_that_panics_is_told_and_ended(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject("guest-panics")
        await guest.define(house)
        await guest.start(house)
        await until("the end", lambda: guest.told(house)[-1][0] == STOPPED)
        assert guest.told(house)[-2:] == [(CRASHED, 0), (STOPPED, 2)]


async def test_a_transient_guest_is_gone_when_it_ends(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await house.call("domain_create_xml", xml_desc=guest.xml, flags=0)
        assert (await house.call("domain_is_persistent", dom=guest.ref)).persistent == 0
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        with pytest.raises(NoSuchDomain):
            await guest.state(house)
        assert house.broker.records[-1]["summary"] is None
        assert not list((root / "state" / "qemu" / "domains").glob("*.json"))


async def test_undefining_a_running_guest_makes_it_transient(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        assert (await house.call("domain_is_persistent", dom=guest.ref)).persistent == 0
        assert (await guest.state(house))[0] == DomainState.RUNNING
        with pytest.raises(DomainStateError):
            await house.call("domain_undefine_flags", dom=guest.ref, flags=0)


async def test_a_guest_outlives_its_driver_and_nothing_is_told_of_it(root: Path) -> None:
    broker, guest = FakeBroker(), Subject()
    async with driver(root, broker, dies=True) as house:
        await guest.define(house)
        await guest.start(house)
        pid = guest.pid(house)
        xml = (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml
    known = len(broker.records)
    async with driver(root, broker, epoch=2) as house:
        assert [r["kind"] for r in broker.records[known:]] == ["epoch"]
        assert guest.pid(house) == pid and not is_gone(pid)
        assert await guest.state(house) == (DomainState.RUNNING, 1)
        assert (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml == xml
        await house.call("domain_suspend", dom=guest.ref)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        assert guest.told(house, known) == [(SUSPENDED, 0), (SHUTDOWN, 2), (STOPPED, 1)]
        assert is_gone(pid)


async def test_what_happened_while_the_driver_was_away_is_told_once(root: Path) -> None:
    broker = FakeBroker()
    killed, off, lives = Subject("killed"), Subject("off"), Subject("lives")
    async with driver(root, broker, dies=True) as house:
        for guest in (killed, off, lives):
            await guest.define(house)
            await guest.start(house)
        pids = {guest.name: guest.pid(house) for guest in (killed, off, lives)}
    os.kill(pids["killed"], signal.SIGKILL)
    power_off(root, off.name)
    await until("the kill", lambda: is_gone(pids["killed"]))
    known = len(broker.records)
    async with driver(root, broker, epoch=2) as house:
        await until("the end of the one that is off", lambda: is_gone(pids["off"]))
        await until("it is told", lambda: any(e == STOPPED for e, _ in off.told(house, known)))
        assert killed.told(house, known) == [(STOPPED, 2)]
        assert off.told(house, known)[-1] == (STOPPED, 0), off.told(house, known)
        assert [e for e, _ in off.told(house, known)].count(STOPPED) == 1
        assert lives.told(house, known) == []
        assert await killed.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.CRASHED)
        assert await off.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.SHUTDOWN)
    after = len(broker.records)
    async with driver(root, broker, epoch=3) as house:
        assert [r["kind"] for r in broker.records[after:]] == ["epoch"]


def power_off(root: Path, name: str) -> None:
    """Presses a guest's power button past the driver."""
    import json
    import socket

    path = next(p for p in (root / "run" / "qemu").glob(f"domain-*-{name}"))
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(path / "monitor.sock"))
        link.sendall(b'{"execute":"qmp_capabilities"}\n' + json.dumps({"execute": "system_powerdown"}).encode() + b"\n")
        seen = b""
        while b'"SHUTDOWN"' not in seen:
            seen += link.recv(4096)


async def test_a_frozen_guest_holds_up_neither_the_start_nor_the_others(root: Path) -> None:
    broker, frozen, other = FakeBroker(), Subject("frozen"), Subject("other")
    async with driver(root, broker, dies=True) as house:
        for guest in (frozen, other):
            await guest.define(house)
            await guest.start(house)
        pid = frozen.pid(house)
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.perf_counter()
        async with driver(root, broker, epoch=2) as house:
            assert time.perf_counter() - begin < 5 * 0.5
            assert (await frozen.state(house))[0] == DomainState.RUNNING
            await house.call("domain_suspend", dom=other.ref)
            bulk = await house.call("connect_get_all_domain_stats", doms=[], stats=0, flags=0)
            assert {record.dom.name for record in bulk.retStats} == {"frozen", "other"}
            os.kill(pid, signal.SIGCONT)
            await until("it answers again", lambda: has_monitor(house, frozen))
            await house.call("domain_suspend", dom=frozen.ref)
            assert (await frozen.state(house))[0] == DomainState.PAUSED
    finally:
        os.kill(pid, signal.SIGCONT)


def has_monitor(house: House, guest: Subject) -> bool:
    monitor = house.host.guests[guest.uuid.bytes].monitor
    return monitor is not None and monitor.is_open and not monitor.unanswered


async def test_calls_stuck_on_a_guest_end_at_their_deadline_and_it_can_be_destroyed(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject("guest-deaf")
        await guest.define(house)
        await guest.start(house)
        holder = house.post("domain_suspend", dom=guest.ref, deadline_s=1.0)
        waiter = house.post("domain_resume", dom=guest.ref, deadline_s=0.8)
        stats = house.post("domain_memory_stats", dom=guest.ref, maxStats=10, flags=0, deadline_s=0.5)
        with pytest.raises(DeadlinePassed):
            await house.outcome(stats)
        with pytest.raises(DeadlinePassed, match="domain_suspend"):
            await house.outcome(waiter)
        with pytest.raises(DeadlinePassed):
            await house.outcome(holder)
        begin = time.perf_counter()
        bulk = await house.call("connect_get_all_domain_stats", doms=[], stats=0, flags=0)
        assert [p.field for p in bulk.retStats[0].params][:2] == ["state.state", "state.reason"]
        assert time.perf_counter() - begin < 0.4, "it has been silent for long, so nobody waits for it"
        stuck = house.post("domain_suspend", dom=guest.ref)
        await asyncio.sleep(0.05)
        pid = guest.pid(house)
        os.kill(pid, signal.SIGSTOP)
        begin = time.perf_counter()
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        assert time.perf_counter() - begin < 5 * 1.0
        assert is_gone(pid)
        with pytest.raises(VirtError):
            await house.outcome(stuck)


async def test_a_process_that_ignores_sigterm_is_killed(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject("guest-stubborn")
        await guest.define(house)
        await guest.start(house)
        pid = guest.pid(house)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        assert is_gone(pid)


async def test_a_start_that_the_driver_did_not_survive_is_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver dies after the process was made and before it was written down."""
    from actors.qemu.host import QemuHost

    broker, guest = FakeBroker(), Subject()
    reached = asyncio.Event()

    async def never(self: QemuHost, *args: Any, **known: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with driver(root, broker, dies=True) as house:
        await guest.define(house)
        with monkeypatch.context() as patch:
            patch.setattr(QemuHost, "write", never)
            patch.setattr("actors.qemu.start._kill", lambda process: asyncio.sleep(0))
            patch.setattr("actors.qemu.start.clear_run", lambda *args, **kwargs: None)
            house.post("domain_create_with_flags", dom=guest.ref, flags=0)
            await asyncio.wait_for(reached.wait(), 10)
            async with asyncio.timeout(5):
                while not guests_below(root):  # the kernel shows its arguments a moment later
                    await asyncio.sleep(0.01)
            assert len(guests_below(root)) == 1
    assert len(guests_below(root)) == 1, "the process outlived the driver"
    async with driver(root, broker, epoch=2) as house:
        assert not guests_below(root)
        assert (await guest.state(house))[0] == DomainState.SHUTOFF
        assert not house.runtime.intents.open
        await guest.start(house)


async def test_flagged_guests_start_with_the_host_and_not_with_driver_or_agent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, guest = FakeBroker(), Subject()
    async with driver(root, broker) as house:
        await guest.define(house)
        await house.call("domain_set_autostart", dom=guest.ref, autostart=1)
    monkeypatch.setattr(os, "getppid", lambda: 1)  # another supervisord: the agent was restarted as well
    async with driver(root, broker, epoch=2) as house:
        await asyncio.sleep(0.2)
        assert (await guest.state(house))[0] == DomainState.SHUTOFF, "somebody may have shut it down since the boot"
    (root / "run" / "qemu" / "autostarted").write_text("of an earlier boot")
    async with driver(root, broker, epoch=3) as house:
        await until("the start", lambda: (STARTED, 0) in guest.told(house))
        assert (await guest.state(house))[0] == DomainState.RUNNING


async def test_the_balloon_is_followed(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        await house.call("domain_set_memory_flags", dom=guest.ref, memory=64 * 1024, flags=1)
        await until("the event", lambda: "domain_event_balloon_change" in house.broker.kinds())
        assert (await house.call("domain_get_info", dom=guest.ref)).memory == 64 * 1024
        xml = (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml
        assert "<currentMemory unit='KiB'>65536</currentMemory>" in xml
        with pytest.raises(VirtError):
            await house.call("domain_set_memory_flags", dom=guest.ref, memory=1 << 30, flags=1)


async def test_twenty_guests_start_and_end_side_by_side(root: Path) -> None:
    async with driver(root) as house:
        guests = [Subject(f"g{n}") for n in range(20)]
        await asyncio.gather(*(guest.define(house) for guest in guests))
        numbers = await asyncio.gather(*(guest.start(house) for guest in guests))
        assert sorted(numbers) == list(range(1, 21))
        await asyncio.gather(*(house.call("domain_destroy_flags", dom=g.ref, flags=0) for g in guests))
        assert not guests_below(root)


async def test_what_a_monitor_tells_becomes_libvirts_events(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        await guest.start(house)
        subject = house.host.guests[guest.uuid.bytes]

        def tell(name: str, **data: Any) -> list[dict[str, Any]]:
            known = len(house.broker.records)
            on_notice(house.host, subject, Notice(name, data, 0.0))
            first, *rest = [r["data"] | {"kind": r["kind"]} for r in house.broker.records[known:]]
            assert (first["kind"], first["event"]) == ("qemu_domain_monitor_event", name)
            assert json.loads(first["details"] or "{}") == data
            return rest

        def events(*told: dict[str, Any]) -> list[tuple[Any, ...]]:
            return [(one["kind"], one.get("event"), one.get("detail")) for one in told]

        assert tell("RTC_CHANGE", offset=7)[0]["offset"] == 7
        (watchdog,) = tell("WATCHDOG", action="pause")
        assert (watchdog["kind"], watchdog["action"]) == ("domain_event_watchdog", 1)
        assert events(*tell("STOP")) == [("domain_event_lifecycle", SUSPENDED, 3)]
        assert await guest.state(house) == (DomainState.PAUSED, 6)
        assert tell("STOP") == [], "it is paused already"
        assert events(*tell("RESUME")) == [("domain_event_lifecycle", RESUMED, 0)]
        error, reason = tell("BLOCK_IO_ERROR", action="stop", nospace=True, device="")
        assert (error["action"], reason["reason"]) == (1, "enospc")
        assert events(*tell("STOP")) == [("domain_event_lifecycle", SUSPENDED, 2)]
        tell("RESUME")
        assert tell("DEVICE_DELETED", device="net0", path="/machine/peripheral/net0") == [], "it has no such device"
        assert tell("DEVICE_DELETED", path="/machine/unattached/x") == []
        (kept,) = tell("DEVICE_UNPLUG_GUEST_ERROR", device="dimm0", path="/machine/peripheral/dimm0")
        assert (kept["kind"], kept["devAlias"]) == ("domain_event_device_removal_failed", "dimm0")
        (graphics,) = tell(
            "VNC_INITIALIZED",
            server={"family": "ipv4", "host": "127.0.0.1", "service": "5900", "auth": "none"},
            client={"family": "ipv6", "host": "::1", "service": "4711", "sasl_username": "ada"},
        )
        assert (graphics["phase"], graphics["authScheme"]) == (1, "none")
        assert graphics["remote"] == [1, "::1", "4711"] and graphics["subject"] == [["saslUsername", "ada"]]
        told = tell("SUSPEND")
        assert events(*told) == [("domain_event_lifecycle", 7, 0), ("domain_event_pmsuspend", None, None)]
        assert (await guest.state(house))[0] == DomainState.PMSUSPENDED
        with pytest.raises(DomainStateError):
            await house.call("domain_suspend", dom=guest.ref)
        assert events(*tell("WAKEUP"))[0] == ("domain_event_lifecycle", STARTED, 4)
        assert tell("SOMETHING_NEW", x=1) == []
        assert [r["origin"] for r in house.broker.records[-2:]] == ["guest", "guest"]


async def test_a_save_that_the_driver_did_not_survive_is_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, guest, image = FakeBroker(), Subject(), root / "image"
    reached = asyncio.Event()

    async def never(*args: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with driver(root, broker, dies=True) as house:
        await guest.define(house)
        await guest.start(house)
        pid = guest.pid(house)
        with monkeypatch.context() as patch:
            patch.setattr("actors.qemu.saving._hand_over", never)
            patch.setattr("actors.qemu.saving.go_on", never)
            house.post("domain_save_flags", dom=guest.ref, to=str(image), dxml=None, flags=0, deadline_s=None)
            await asyncio.wait_for(reached.wait(), 10)
            assert (await guest.state(house))[0] == DomainState.PAUSED and image.exists()
    image.write_bytes(b"half of it")
    async with driver(root, broker, epoch=2) as house:
        assert guest.pid(house) == pid
        assert (await guest.state(house))[0] == DomainState.RUNNING
        assert not image.exists()
        assert not house.runtime.intents.open


async def test_what_the_guest_does_by_itself_stands_in_its_document(root: Path) -> None:
    broker, guest = FakeBroker(), Subject()
    async with driver(root, broker) as house:
        await guest.define(house)
        await guest.start(house)
        await house.call("domain_set_memory_flags", dom=guest.ref, memory=64 * 1024, flags=1)
        await until("the event", lambda: "domain_event_balloon_change" in house.broker.kinds())
        xml = (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml
    async with driver(root, broker, epoch=2) as house:
        assert (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml == xml
        assert "<currentMemory unit='KiB'>65536</currentMemory>" in xml


async def test_metadata_and_vcpus_are_kept(root: Path) -> None:
    async with driver(root) as house:
        guest = Subject()
        await guest.define(house)
        element = {"dom": guest.ref, "type": 2, "key": "vt", "uri": "http://virtroupe.example/1"}
        await house.call("domain_set_metadata", **element, metadata="<owner id='7'>ada</owner>", flags=2)
        told = await house.call("domain_get_metadata", dom=guest.ref, type=2, uri=element["uri"], flags=2)
        assert "ada" in told.metadata and "id=" in told.metadata and "virtroupe.example" not in told.metadata
        xml = (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml
        assert "<vt:owner xmlns:vt" in xml
        assert "domain_event_metadata_change" in house.broker.kinds()
        await house.call("domain_set_metadata", **element, metadata=None, flags=2)
        with pytest.raises(VirtError, match="not present"):
            await house.call("domain_get_metadata", dom=guest.ref, type=2, uri=element["uri"], flags=2)
        await house.call("domain_set_metadata", dom=guest.ref, type=1, key=None, uri=None, metadata="a title", flags=2)
        entry = house.runtime.objects.need_domain(guest.uuid.bytes)
        assert entry.summary["title"] == "a title"
        await house.call("domain_set_vcpus_flags", dom=guest.ref, nvcpus=4, flags=2 | 4)
        await house.call("domain_set_vcpus_flags", dom=guest.ref, nvcpus=2, flags=2)
        assert (await house.call("domain_get_vcpus_flags", dom=guest.ref, flags=2)).num == 2
        assert (await house.call("domain_get_vcpus_flags", dom=guest.ref, flags=2 | 4)).num == 4
        with pytest.raises(VirtError):
            await house.call("domain_set_vcpus_flags", dom=guest.ref, nvcpus=5, flags=2)


async def test_a_guest_whose_document_is_broken_is_not_gone(root: Path) -> None:
    broker, guest, other = FakeBroker(), Subject(), Subject("other")
    async with driver(root, broker) as house:
        await guest.define(house)
        await other.define(house)
    (root / "state" / "qemu" / "domains" / f"{guest.uuid}.json").write_bytes(b"{ broken")
    known = len(broker.records)
    async with driver(root, broker, epoch=2) as house:
        assert [r["kind"] for r in broker.records[known:]] == ["epoch"], "absence is never deletion"
        listed = await house.call("connect_list_all_domains", need_results=1, flags=0)
        assert {one.name for one in listed.domains} == {"guest", "other"}
        with pytest.raises(VirtError):
            await guest.start(house)
        await other.start(house)


async def test_a_destroy_that_the_driver_did_not_survive_is_finished(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, guest = FakeBroker(), Subject()
    reached = asyncio.Event()

    async def never(*args: Any, **kwargs: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with driver(root, broker, dies=True) as house:
        await guest.define(house)
        await guest.start(house)
        pid = guest.pid(house)
        with monkeypatch.context() as patch:
            patch.setattr("actors.qemu.lifecycle.end_process", never)
            call = house.post("domain_destroy_flags", dom=guest.ref, flags=0)
            await asyncio.wait_for(reached.wait(), 10)
    known = len(broker.records)
    async with driver(root, broker, epoch=2) as house:
        assert is_gone(pid)
        assert guest.told(house, known) == [(STOPPED, 1)]
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.DESTROYED)
        again = house.post("domain_destroy_flags", dom=guest.ref, flags=0, correlation=call.correlation, resend=True)
        await house.outcome(again)  # the verdict is that it was done
