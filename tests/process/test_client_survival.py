"""The library and the command against the real test driver, while the driver and the broker are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import virtroupe
from broker.peer import Peer
from broker.wire import unpack_value
from client.events import BEGINNING
from tests.process.broker_process import BrokerHouse

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

URI = "test:///default"
VERDICTS = (virtroupe.CallUndone, virtroupe.CallPending)


class TestHouse(BrokerHouse):
    """A broker and the test driver below a root of their own; the test itself starts again what it kills."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.driver: subprocess.Popen[bytes] | None = None
        self.start_broker()
        self.start_driver()
        end = time.monotonic() + 20
        while not self.paths.clients_door_read_only.exists():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def start_driver(self) -> None:
        with (self.root / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-I", "-m", "actors.test"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill_driver(self) -> None:
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait(timeout=20)

    @property
    def command(self) -> list[str]:
        """The command with what stands before the subcommand."""
        return [sys.executable, "-m", "client.command.main", "--root", str(self.root), "-c", URI]

    def run(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command, as a user types it."""
        return subprocess.run(
            [*self.command, *args],
            capture_output=True,
            text=True,
            timeout=40,
            input=input,
            check=False,
        )

    def close(self) -> None:
        if self.driver is not None and self.driver.poll() is None:
            self.driver.send_signal(signal.SIGCONT)
            self.driver.kill()
            self.driver.wait(timeout=20)
        super().close()


@pytest.fixture
def house() -> Iterator[TestHouse]:
    with contextlib.closing(TestHouse()) as made:
        yield made


def guest_xml(name: str) -> str:
    return f"""<domain type='test'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>"""


async def journal_of(house: BrokerHouse) -> list[tuple[int, int, int, str]]:
    peer = await Peer.connect_client(house.paths)
    try:
        records = [(cursor, unpack_value(body)) async for cursor, body in peer.replay(BEGINNING)]
    finally:
        await peer.aclose()
    return [(cursor.generation, cursor.offset, told["seq"], told["kind"]) for cursor, told in records]


def noted(event: virtroupe.Event) -> tuple[int, int, int, str]:
    return (*event.cursor, event.seq, event.kind)


async def test_subscribers_and_callers_survive_kills_of_driver_and_broker(house: TestHouse) -> None:
    stop = asyncio.Event()
    verdicts: list[str] = []
    reads = 0
    history: list[tuple[int, int, int, str]] = []
    pieces: list[tuple[int, int, int, str]] = []

    async def change(conn: virtroupe.Connection) -> None:
        domain = await conn.domain("test")
        while not stop.is_set():
            for call in (domain.suspend, domain.resume):
                try:
                    await call()
                    verdicts.append("ok")
                except VERDICTS as error:
                    verdicts.append(error.kind)
                except virtroupe.VirtError as error:
                    # after a call that was undone, the other one may not fit
                    assert "CallUndone" in verdicts[-2:], error
            await asyncio.sleep(0.01)

    async def read(conn: virtroupe.Connection) -> None:
        nonlocal reads
        while not stop.is_set():
            assert "test" in {domain.name for domain in await conn.list_domains()}
            assert (await conn.list_guests())[0].name == "test"
            reads += 1
            await asyncio.sleep(0.01)

    async def follow(conn: virtroupe.Connection) -> None:
        async with conn.events(after=BEGINNING) as stream:
            async for event in stream:
                assert isinstance(event, virtroupe.Event)
                history.append(noted(event))

    async def follow_in_pieces() -> None:
        cursor = BEGINNING
        while True:
            async with virtroupe.connect(URI, root=house.root) as own, own.events(after=cursor) as stream:
                for _ in range(7):
                    event = await anext(stream)
                    assert isinstance(event, virtroupe.Event)
                    pieces.append(noted(event))
                    cursor = event.cursor

    async def more_verdicts(count: int) -> None:
        end = len(verdicts) + count
        async with asyncio.timeout(30):
            while len(verdicts) < end:
                await asyncio.sleep(0.02)
                for task in (*callers, *followers):
                    if task.done():
                        task.result()

    async with virtroupe.connect(URI, root=house.root) as conn:
        followers = [asyncio.create_task(follow(conn)), asyncio.create_task(follow_in_pieces())]
        callers = [asyncio.create_task(change(conn)), asyncio.create_task(read(conn))]
        for victim in ("driver", "broker", "driver", "broker", "driver"):
            await more_verdicts(10)
            if victim == "driver":
                await asyncio.to_thread(house.kill_driver)
                house.start_driver()
            else:
                await asyncio.to_thread(house.kill_broker)
                house.start_broker()
        await more_verdicts(20)
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*callers)
            truth = await journal_of(house)
            while not (len(history) >= len(truth) and len(pieces) >= len(truth)):
                await asyncio.sleep(0.05)
                for follower in followers:
                    if follower.done():
                        follower.result()
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
    assert verdicts.count("ok") > 20
    assert reads > 20
    assert history == truth
    assert pieces == truth
    epochs = [kind for *_, kind in truth if kind == "epoch"]
    assert len(epochs) == 4


async def test_the_library_starts_no_thread(house: TestHouse) -> None:
    async with virtroupe.connect(URI, root=house.root) as conn, conn.events() as stream:
        domain = await conn.domain("test")
        await domain.suspend()
        async with asyncio.timeout(10):
            await anext(stream)
        assert [thread.name for thread in threading.enumerate()] == ["MainThread"]


async def test_a_guests_life_is_told_with_its_reasons(house: TestHouse) -> None:
    async with virtroupe.connect(URI, root=house.root) as conn:
        cursor = await conn.cursor()
        guest = await conn.define(guest_xml("web1"))
        await guest.start()
        await guest.suspend()
        await guest.resume()
        await guest.shutdown()
        await guest.undefine()
        with pytest.raises(virtroupe.NoSuchDomain):
            await guest.state()
        words = []
        async with conn.events(after=cursor, kinds=["lifecycle"], objects=[guest]) as stream, asyncio.timeout(20):
            while len(words) < 6:
                event = await anext(stream)
                assert isinstance(event, virtroupe.Event)
                assert event.lifecycle is not None and event.object is not None
                assert event.object.uuid == guest.uuid
                words.append(" ".join(part.name.lower() for part in event.lifecycle if not isinstance(part, str)))  # type: ignore[union-attr]
    assert words == [
        "defined added",
        "started booted",
        "suspended paused",
        "resumed unpaused",
        "stopped shutdown",
        "undefined removed",
    ]


async def test_a_repeated_change_with_a_key_happens_once(house: TestHouse) -> None:
    async with virtroupe.connect(URI, root=house.root) as conn:
        guest = await conn.define(guest_xml("web1"))
        await guest.start(idempotency_key="start-web1")
        first = guest.id
        await guest.start(idempotency_key="start-web1")
        assert guest.id == first
        with pytest.raises(virtroupe.VirtError):
            await guest.start()


async def test_a_read_only_connection_changes_nothing(house: TestHouse) -> None:
    async with virtroupe.connect(URI, root=house.root, read_only=True) as conn:
        domain = await conn.domain("test")
        with pytest.raises(virtroupe.OperationDenied):
            await domain.suspend()
        assert (await domain.state()).state is virtroupe.DomainState.RUNNING


def test_the_synchronous_library_works_on_a_real_driver(house: TestHouse) -> None:
    with virtroupe.sync.connect(URI, root=house.root) as conn:
        (domain,) = conn.list_domains()
        with conn.events(objects=[domain], kinds=["lifecycle"]) as events:
            domain.suspend()
            event = events.next_within(10.0)
        assert isinstance(event, virtroupe.Event)
        assert event.lifecycle is not None
        house.kill_driver()
        house.start_driver()
        domain.resume()
        assert domain.state().state is virtroupe.DomainState.RUNNING


def test_the_command_lives_through_a_guests_life(house: TestHouse) -> None:
    assert house.run("define", "-", input=guest_xml("web1")).stdout == "'web1' is defined\n"
    assert house.run("start", "web1").stdout == "'web1' is running\n"
    house.kill_driver()
    house.start_driver()
    listed = json.loads(house.run("list", "--json").stdout)
    assert [(guest["name"], guest["state"]) for guest in listed] == [("test", "running"), ("web1", "running")]
    assert house.run("destroy", "web1").stdout == "'web1' is off\n"
    assert house.run("undefine", "web1").returncode == 0
    gone = house.run("undefine", "web1")
    assert (gone.returncode, gone.stdout) == (4, "")
    assert gone.stderr.startswith("error: ") and gone.stderr.count("\n") == 1
    told = house.run("events", "--after", "begin", "--no-follow", "--domain", "web1")
    assert [line.split("  ", 1)[1] for line in told.stdout.splitlines()] == [
        "web1  defined added",
        "web1  started booted",
        "web1  stopped destroyed",
        "web1  undefined removed",
    ]


def test_the_events_command_goes_on_over_a_killed_driver_and_broker(house: TestHouse) -> None:
    with subprocess.Popen(
        [*house.command, "events", "--json", "--after", "begin", "--count", "4"],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert house.run("suspend", "test").returncode == 0
            house.kill_driver()
            house.start_driver()
            assert house.run("resume", "test").returncode == 0
            house.kill_broker()
            house.start_broker()
            assert house.run("suspend", "test").returncode == 0
            assert house.run("resume", "test").returncode == 0
            out, _ = watching.communicate(timeout=30)
        finally:
            watching.kill()
    told = [json.loads(line) for line in out.splitlines()]
    assert [(item["event"], item["detail"]) for item in told] == [
        ("suspended", "paused"),
        ("resumed", "unpaused"),
        ("suspended", "paused"),
        ("resumed", "unpaused"),
    ]
    assert len({item["epoch"] for item in told}) == 2
