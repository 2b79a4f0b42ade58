"""A driver in a process of its own, for tests that end it at one step as a kill does, and look at what is left.

A nursery has imported the driver and forks one for each test: importing takes longer than most of what they do. Such a
driver takes calls from a socket and answers them one after the other. Once it is told to count, it is gone at the step
of a number, or its guest's process is. A step is just before or just after something was written down, QEMU was told
something, or something of the host was made, given away or removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from actors.qemu import claims, resources, start
from actors.qemu.driver import QemuActor
from actors.qemu.guest import Guest
from actors.qemu.helpers import processes
from actors.qemu.linking import macvtap
from actors.qemu.monitor.link import Monitor
from actors.qemu.owning import register, xattrs
from actors.qemu.owning.register import Register
from actors.qemu.process import GuestProcess, find_pids_by_argument
from actors.qemu.tuning.hierarchy import Hierarchy
from actors.runtime.store import Store
from schema.body import pack_args, unpack_result
from schema.errors import VirtError, from_wire, to_wire
from schema.table import need_procedure
from settings.qemu import QemuSettings
from tests.contract.house import House, open_house

SCOPE: Final = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
SOURCE: Final = b"d" * 16
DEAD: Final = 99
LIMIT_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


class Order(msgspec.Struct):
    """Which driver a nursery is to fork."""

    root: str
    socket: str
    end_at: int
    victim: str = ""
    """The uuid of the guest whose process ends instead of the driver."""
    settings: dict[str, Any] = {}


class Steps:
    """Counts what is done, and ends a process at one of it."""

    def __init__(self, order: Order) -> None:
        self.done = 0
        self.counts = False
        self._order = order
        self._has_ended = False
        self._last: tuple[str, ...] = ()

    def step(self, what: str) -> None:
        """One more thing is about to be done, or done."""
        if not self.counts or what in self._last:
            return  # one that looks again and again until something has come makes one step by it
        self._last = (*self._last[-1:], what) if "query" in what else ()
        self.done += 1
        if not 0 < self._order.end_at <= self.done or self._has_ended:
            return
        victims = find_pids_by_argument(self._order.victim) if self._order.victim else []
        if self._order.victim and not victims:
            return  # it has not come to be yet: it dies at the first step at which there is something to kill
        self._has_ended = True
        Path(f"{self._order.socket}.end").write_text(what, encoding="utf-8")
        if not self._order.victim:
            os._exit(DEAD)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def watch(self, owner: type, name: str) -> None:
        """What this method does is a step."""
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def watched(this: Any, *args: Any, **kwargs: Any) -> Any:
            what = f"{name} {args[0] if args else ''}"
            self.step(f"before {what}")
            value = await inner(this, *args, **kwargs)
            self.step(f"after {what}")
            return value

        setattr(owner, name, watched)

    def watch_plain(self, owner: Any, name: str) -> None:
        """The same for one that does not wait."""
        inner: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.step(f"before {name}")
            value = inner(*args, **kwargs)
            self.step(f"after {name}")
            return value

        setattr(owner, name, watched)


def _watch(steps: Steps) -> None:
    for owner, name in ((Guest, "ask_all"), (Monitor, "hand_over"), (Store, "write"), (Store, "remove")):
        steps.watch(owner, name)
    for place, word in (
        (start, "spawn_process"),
        (processes, "spawn_process"),
        (GuestProcess, "send"),
        (Register, "_put"),
        (Register, "_drop"),
        (register, "_change"),
        (xattrs, "write_memory"),
        (xattrs, "forget_memory"),
        (claims, "take"),
        (macvtap, "make_macvtap"),
        (macvtap, "remove_macvtap"),
        (resources, "open_tap"),
        (resources, "connect_tap"),
        (Hierarchy, "make"),
        (Hierarchy, "join"),
        (Hierarchy, "remove"),
        (Path, "unlink"),
    ):
        steps.watch_plain(place, word)


async def _serve(order: Order) -> None:
    steps = Steps(order)
    _watch(steps)
    reader, writer = await asyncio.open_unix_connection(order.socket)
    async with open_house(QemuActor(), SCOPE, Path(order.root)) as house:
        if order.settings:
            house.runtime.config = dataclasses.replace(house.runtime.config, qemu=QemuSettings(**order.settings))
        house.runtime.intents.watch = steps.step
        while size := int.from_bytes(await reader.read(4)):
            correlation, procedure, body = msgspec.msgpack.decode(await reader.readexactly(size))
            if procedure == "count":
                await asyncio.sleep(0.1)  # what is kept in the background is kept
                steps.counts = True
                answer: list[Any] = [b"", None]
            elif procedure == "counted":
                answer, steps.counts = [steps.done, None], False
            else:
                answer = await _answer(house, correlation, procedure, body)
            data = msgspec.msgpack.encode(answer)
            writer.write(len(data).to_bytes(4) + data)
            await writer.drain()
        os._exit(0)


async def _answer(house: House, correlation: int, procedure: str, body: bytes) -> list[Any]:
    call = house.post(procedure, correlation=correlation, source=SOURCE, deadline_s=LIMIT_S, body=body)
    if procedure == "domain_migrate_perform3_params":
        house.runtime.spawn(let_go_over(house, call.id), "a guest that is to go over")
    try:
        await house.outcome(call)
    except VirtError as exc:
        return [b"", to_wire(exc)]
    return [bytes(house.broker.outcomes[call.id][-1][1]), None]


async def let_go_over(house: House, call: bytes) -> None:
    """Has a guest go over by post-copy as soon as a call has begun to send it, if it may."""
    while call not in house.broker.outcomes:
        for guest in list(house.host.guests.values()):
            if guest.job is not None and guest.job.switch is not None and guest.job.may_post_copy:
                house.post("domain_migrate_start_post_copy", dom=guest.ref, flags=0)
                return
        await asyncio.sleep(0.01)


def _nurse() -> None:
    """Forks a driver for each order on the standard input; all end with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    library = ctypes.CDLL(None)
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with Path(os.devnull).open("rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            try:
                uvloop.run(_serve(order))
            finally:
                os._exit(1)
        print(pid, flush=True)


class Nursery:
    """A process that forks drivers; they live in the network, and have the rights, of whoever opens it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Nursery:
        words = (sys.executable, "-m", "tests.real.driver_process")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe)
        await self._line()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def fork(self, order: Order) -> int:
        """The process id of a new driver."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        await self._process.stdin.drain()
        return int(await self._line())

    async def _line(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            line = await self._process.stdout.readline()
        assert line, "the nursery has ended"
        return line


class Mortal:
    """A driver below `root` that ends at a step, or whose guest `victim` does; 0: at none.

    The successor of one that has ended, in this process, goes on with the call that it was at.
    """

    def __init__(
        self,
        root: Path,
        end_at: int,
        *,
        nursery: Nursery | None = None,
        settings: QemuSettings | None = None,
        victim: str = "",
    ) -> None:
        self.root = root
        self.end_at = end_at
        self.is_dead = False
        self.house: House | None = None
        self.settings = settings
        self._victim = victim
        self._socket = f"{root}.sock"
        self._nursery = nursery
        self._pid = 0
        self._correlation = 5000
        self._links: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._undo = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Mortal:
        async with contextlib.AsyncExitStack() as undo:
            if self._nursery is None:
                self._nursery = await undo.enter_async_context(Nursery())
            undo.callback(Path(f"{self._socket}.end").unlink, missing_ok=True)
            server = await asyncio.start_unix_server(lambda *link: self._links.put_nowait(link), self._socket)
            undo.callback(Path(self._socket).unlink, missing_ok=True)
            undo.callback(server.close)
            given = {} if self.settings is None else _told(self.settings)
            order = Order(str(self.root), self._socket, self.end_at, self._victim, given)
            self._pid = await self._nursery.fork(order)
            undo.push_async_callback(self._end)
            async with asyncio.timeout(LIMIT_S):
                self._link = await self._links.get()
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._undo.aclose()

    @property
    def died_at(self) -> str:
        """At which step it, or its guest, ended; empty when that has not come about."""
        path = Path(f"{self._socket}.end")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    async def call(self, procedure: str, **args: Any) -> Any:
        """What it, or its successor, answers."""
        special = procedure in ("count", "counted")
        body = b"" if special else pack_args(need_procedure(procedure), args)
        self._correlation += 1
        if not self.is_dead:
            try:
                async with asyncio.timeout(2 * LIMIT_S):
                    return await self._ask(procedure, body)
            except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
                await self.succeed()
        if special:
            return 0
        assert self.house is not None
        call = self.house.post(
            procedure, correlation=self._correlation, source=SOURCE, resend=True, deadline_s=LIMIT_S, body=body
        )
        if procedure == "domain_migrate_perform3_params":
            self.house.runtime.spawn(let_go_over(self.house, call.id), "a guest that is to go over")
        return await self.house.outcome(call)

    async def succeed(self) -> House:
        """Its successor starts; it has to be dead, or is killed when it was to end at no step."""
        if not self.is_dead:
            if self.end_at == 0 or self._victim:
                await self._end()
            else:
                await self._gone()
                assert self.died_at, "it ended by itself"
            self.is_dead = True
            opened = open_house(QemuActor(), SCOPE, self.root, epoch=2)
            try:
                self.house = await self._undo.enter_async_context(opened)
            except VirtError as exc:
                raise AssertionError(f"the successor does not start: {exc}") from exc
            if self.settings is not None:
                self.house.runtime.config = dataclasses.replace(self.house.runtime.config, qemu=self.settings)
        assert self.house is not None
        return self.house

    async def _end(self) -> None:
        if self._link is not None:
            self._link[1].close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        await self._gone()

    async def _gone(self) -> None:
        for _ in range(3000):
            if not Path(f"/proc/{self._pid}").exists():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"the driver {self._pid} does not end")

    async def _ask(self, procedure: str, body: bytes) -> Any:
        assert self._link is not None
        reader, writer = self._link
        data = msgspec.msgpack.encode([self._correlation, procedure, body])
        writer.write(len(data).to_bytes(4) + data)
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(4))
        result, error = msgspec.msgpack.decode(await reader.readexactly(size))
        if error is not None:
            raise from_wire(error)
        return result if procedure in ("count", "counted") else unpack_result(need_procedure(procedure), result)


def _told(settings: QemuSettings) -> dict[str, Any]:
    """What of the settings is not as it is by itself."""
    usual = QemuSettings()
    return {
        one.name: getattr(settings, one.name)
        for one in dataclasses.fields(settings)
        if getattr(settings, one.name) != getattr(usual, one.name)
    }


if __name__ == "__main__":
    _nurse()
