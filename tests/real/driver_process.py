"""A driver in a process of its own, for tests that end it at one step as a kill does, and look at what is left.

`python -m tests.real.driver_process ROOT STEP` takes calls from its standard input and answers them one after the
other; once it is told to count, it is gone at the step of that number. A step is just before or just after something
was written down, QEMU was told something, or a process was started or signalled.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from actors.qemu import start
from actors.qemu.driver import QemuActor
from actors.qemu.guest import Guest
from actors.qemu.helpers import processes
from actors.qemu.process import GuestProcess
from actors.runtime.store import Store
from schema.body import pack_args, unpack_result
from schema.errors import VirtError, from_wire, to_wire
from schema.table import need_procedure
from tests.contract.house import House, open_house

SCOPE: Final = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
SOURCE: Final = b"d" * 16
DEAD: Final = 99
LIMIT_S: Final = 60.0


class Steps:
    """Counts what is done, and ends the process at one of it."""

    def __init__(self, end_at: int) -> None:
        self.done = 0
        self.end_at = end_at
        self.counts = False
        self._last: tuple[str, ...] = ()

    def step(self, what: str) -> None:
        """One more thing is about to be done, or done."""
        if not self.counts or what in self._last:
            return  # one that looks again and again until something has come makes one step by it
        self._last = (*self._last[-1:], what) if "query" in what else ()
        self.done += 1
        if self.done == self.end_at:
            print(f"it ends at {what}", file=sys.stderr, flush=True)
            os._exit(DEAD)

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


async def _serve(root: Path, end_at: int) -> None:
    steps = Steps(end_at)
    for owner, name in ((Guest, "ask_all"), (Store, "write"), (Store, "remove")):
        steps.watch(owner, name)
    steps.watch_plain(start, "spawn_process")
    steps.watch_plain(processes, "spawn_process")
    steps.watch_plain(GuestProcess, "send")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with open_house(QemuActor(), SCOPE, root) as house:
        house.runtime.intents.watch = steps.step
        while size := int.from_bytes(await reader.read(4)):
            correlation, procedure, body = msgspec.msgpack.decode(await reader.readexactly(size))
            if procedure == "count":
                await asyncio.sleep(0.1)  # what is kept in the background is kept
                steps.counts = True
                answer: list[Any] = [b"", None]
            else:
                answer = await _answer(house, correlation, procedure, body)
            data = msgspec.msgpack.encode(answer)
            sys.stdout.buffer.write(len(data).to_bytes(4) + data)
            sys.stdout.buffer.flush()
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


class Mortal:
    """A driver below `root` that ends at a step; its successor, in this process, goes on with the call it was at."""

    def __init__(self, root: Path, end_at: int) -> None:
        self.root = root
        self.end_at = end_at
        self.is_dead = False
        self.house: House | None = None
        self.died_at = ""
        self._process: asyncio.subprocess.Process | None = None
        self._correlation = 5000
        self._open: Any = None

    async def __aenter__(self) -> Mortal:
        words = (sys.executable, "-m", "tests.real.driver_process", str(self.root), str(self.end_at))
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
        return self

    async def __aexit__(self, *error: object) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._open is not None:
            await self._open.__aexit__(None, None, None)

    async def call(self, procedure: str, **args: Any) -> Any:
        """What it, or its successor, answers."""
        body = b"" if procedure == "count" else pack_args(need_procedure(procedure), args)
        self._correlation += 1
        if not self.is_dead:
            try:
                async with asyncio.timeout(2 * LIMIT_S):
                    return await self._ask(procedure, body)
            except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
                await self.succeed()
        if procedure == "count":
            return None
        assert self.house is not None
        call = self.house.post(
            procedure, correlation=self._correlation, source=SOURCE, resend=True, deadline_s=LIMIT_S, body=body
        )
        if procedure == "domain_migrate_perform3_params":
            self.house.runtime.spawn(let_go_over(self.house, call.id), "a guest that is to go over")
        return await self.house.outcome(call)

    async def succeed(self) -> House:
        """Its successor starts; it has to be dead, or is killed."""
        process = self._process
        assert process is not None and process.stderr is not None
        if not self.is_dead:
            if process.returncode is None and self.end_at == 0:
                process.kill()
            said = await process.stderr.read()
            await process.wait()
            assert process.returncode == DEAD or self.end_at == 0, said.decode(errors="replace")
            self.is_dead, self.died_at = True, said.decode(errors="replace").strip().rpartition("\n")[2]
            opened = open_house(QemuActor(), SCOPE, self.root, epoch=2)
            try:
                self.house = await opened.__aenter__()
            except VirtError as exc:
                raise AssertionError(f"the successor does not start: {exc}") from exc
            self._open = opened
        assert self.house is not None
        return self.house

    async def _ask(self, procedure: str, body: bytes) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        data = msgspec.msgpack.encode([self._correlation, procedure, body])
        process.stdin.write(len(data).to_bytes(4) + data)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4))
        result, error = msgspec.msgpack.decode(await process.stdout.readexactly(size))
        if error is not None:
            raise from_wire(error)
        return None if procedure == "count" else unpack_result(need_procedure(procedure), result)


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
