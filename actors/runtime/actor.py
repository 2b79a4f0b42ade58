"""A driver as a process: it starts, finds what outlived its predecessor, answers calls, and stops without harm."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from actors.runtime.calls import Calls, Handler, combine
from actors.runtime.control_group import leave
from actors.runtime.derived.table import derived_handlers
from actors.runtime.differences import Events, differences
from actors.runtime.dispatch import Dispatcher
from actors.runtime.limits import confine
from actors.runtime.mailbox import MailboxKey
from actors.runtime.objects import Entry
from actors.runtime.recovery import Recovery
from actors.runtime.runtime import Runtime
from broker.peer import IncomingCall, Peer
from broker.wire import Cursor
from schema.body import args_struct, result_struct
from schema.errors import ErrorDomain, VirtError
from settings.process import SLOT_VARIABLE, current, seal
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    from settings.config import Config
    from settings.paths import Paths

TICK_S: Final = 0.25
STOP_GRACE_S: Final = 3.0
GC_THRESHOLDS: Final = (20_000, 20, 100)
EXIT_FENCED: Final = 70
EXIT_FAILED: Final = 1
VERSION: Final = "1"

H = TypeVar("H")


class Actor(Generic[H]):
    """The base of each driver's table: what it is called, what it answers, how it starts and stops."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]] = ()
    serves: ClassVar[tuple[str, ...]] = ("domain",)
    """Types of objects whose lists, lookups and states the runtime answers from the registry."""
    calls: ClassVar[tuple[Calls[Any], ...]] = ()
    error_domain: ClassVar[ErrorDomain] = ErrorDomain.NONE
    """Put into errors that name no domain."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "calls" in cls.__dict__:
            combine(cls.calls)

    async def start(self, runtime: Runtime) -> H:
        """Reads what is on disk, then finds what outlived the last process: `runtime.objects.restore` for each object.

        Unfinished changes are in `runtime.intents.open`. What it raises ends the process.
        """
        raise NotImplementedError

    async def stop(self, host: H) -> None:
        """Lets go of what this process holds. Guests keep running."""

    async def refresh(self, host: H, key: MailboxKey) -> None:
        """Reads an object anew, before its next call, after a handler failed in an unexpected way."""

    def differences(self, host: H, old: Entry | None, new: Entry | None) -> Events:
        """The events for an object that changed while no process of this driver was there."""
        return differences(old, new)

    def handlers(self) -> dict[str, Handler]:
        """Everything that this actor answers: its own, and what the runtime derives."""
        return derived_handlers(combine(self.calls), self.serves)


class Stage:
    """A started actor without its broker: runtime, host and dispatcher. The parts that `run` and tests share."""

    def __init__(self, actor: Actor[Any], runtime: Runtime) -> None:
        self.actor = actor
        self.runtime = runtime
        self.host: Any = None
        self.dispatcher: Dispatcher | None = None

    async def set(
        self, port: Any, epoch: int, last: tuple[int, int], history: AsyncIterator[bytes] | None = None
    ) -> Dispatcher:
        """Starts the driver, publishes what changed meanwhile, and gives who answers calls.

        `last` is the last (epoch, seq) that the journal holds of this source, `history` what it holds, which is asked
        for when the ledger lost some of it with its host.
        Raises what the driver's start raises, and HostSystemError.
        """
        runtime, actor = self.runtime, self.actor
        gc.disable()  # reading thousands of definitions makes no garbage, and collections would cost a third of it
        try:
            runtime.load(last[1])
            if runtime.ledger.seq < last[1] and history is not None:
                await runtime.catch_up(history)
            runtime.know_the_gone()
            recovery = Recovery(runtime.call_log, runtime.ledger, runtime.store)
            self.host = host = await actor.start(runtime)
        finally:
            gc.enable()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)  # a call leaves no circles behind
        await runtime.intents.undo_open()
        runtime.publisher.begin(port, epoch, last)
        recovery.publish(runtime.objects, runtime.publisher, lambda old, new: actor.differences(host, old, new))
        runtime.objects.attach(runtime.publisher)
        recovery.settle(runtime.objects)
        for events, entry, origin in runtime.publisher.take_early():
            known = None if entry is None else runtime.objects.find(entry.type, entry.key, entry.scope)
            runtime.publisher.record(events, known, origin=origin)
        runtime.ledger.forget_start()

        async def refresh(key: MailboxKey) -> None:
            await actor.refresh(host, key)

        runtime.mailboxes.refresh = refresh
        self.dispatcher = dispatcher = Dispatcher(runtime, host, actor.handlers(), port, actor.error_domain)
        runtime.procedures = dispatcher.procedures
        runtime.is_running = dispatcher.is_running
        runtime.describe_calls = dispatcher.describe
        return dispatcher

    async def strike(self, grace_s: float = STOP_GRACE_S) -> None:
        """Lets running calls end, then the driver lets go."""
        if self.dispatcher is not None:
            await self.dispatcher.stop(grace_s)
        if self.host is not None:
            await self.actor.stop(self.host)
        await self.runtime.close()


class Role:
    """What the broker's peer tells the actor, handed on to those whom it concerns."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.dispatcher: Dispatcher | None = None

    def on_call(self, call: IncomingCall) -> None:
        if self.dispatcher is not None:
            self.dispatcher.on_call(call)

    def on_cancel(self, source: bytes, correlation: int) -> None:
        if self.dispatcher is not None:
            self.dispatcher.on_cancel(source, correlation)

    def on_registered(self, last: tuple[int, int]) -> None:
        self._runtime.publisher.resume(last[1])

    def on_event_ack(self, seq: int, resend: bool) -> None:
        self._runtime.publisher.acknowledged(seq, resend=resend)

    def on_broker_lost(self) -> None:
        self._runtime.publisher.lost()

    def on_fenced(self, why: str) -> None:
        # a newer incarnation serves: nothing may be written, published or answered any more
        self._runtime.log.error("fenced", why=why)
        os._exit(EXIT_FENCED)


def run(actor: Actor[Any]) -> None:
    """Everything that a driver's `__main__` does after the import guard. Ends the process."""
    paths, _ = current()
    new_loop = _loop_factory()
    if SLOT_VARIABLE in os.environ:
        _warm(actor)
    seal(actor.name, paths)
    paths, config = current()  # the settings may have changed while this process waited for its turn
    log = StructuredLog(actor.name, level=config.log.level, as_json=config.log.json)
    confine(actor.name, paths, config.actor(actor.name), log)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        code = runner.run(_serve(actor, paths, config, log))
    if config.actor(actor.name).cgroup:
        leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread that hangs on a dead mount must not keep the process


async def _serve(actor: Actor[Any], paths: Paths, config: Config, log: StructuredLog) -> int:
    runtime = Runtime(actor.name, paths, config, log)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    role = Role(runtime)
    stage = Stage(actor, runtime)
    peer: Peer | None = None
    try:
        peer = await _connect(paths, actor.name, role, stopping)
        if peer is None:
            return 0
        runtime.attach(peer)
        code = await _act(stage, role, peer, stopping)
    except VirtError as exc:
        log.error("cannot start", error=exc.message)
        code = EXIT_FAILED
    except Exception as exc:  # noqa: BLE001 - a start that fails is told whole, and tried again by the warden
        log.error("cannot start", error=repr(exc), traceback="".join(traceback.format_exception(exc)))
        code = EXIT_FAILED
    if peer is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.aclose(), STOP_GRACE_S)
    return code


async def _connect(paths: Paths, name: str, role: Role, stopping: asyncio.Event) -> Peer | None:
    connecting = asyncio.ensure_future(Peer.connect_role(paths, name, role))
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if connecting.done():
        return connecting.result()
    connecting.cancel()
    await asyncio.wait({connecting}, timeout=STOP_GRACE_S)
    return None


async def _act(stage: Stage, role: Role, peer: Peer, stopping: asyncio.Event) -> int:
    runtime = stage.runtime
    history = (record async for _, record in peer.replay(Cursor(0, 0), [runtime.name]))
    role.dispatcher = dispatcher = await stage.set(peer, peer.epoch, peer.last, history)
    peer.ready(dispatcher.procedures, VERSION)
    runtime.log.info("ready", epoch=peer.epoch, objects=sum(1 for _ in runtime.objects.everything()))
    ticker = runtime.spawn(_tick(runtime, dispatcher, peer), "tick")
    code = await _until_end(runtime, stopping)
    ticker.cancel()
    if code == 0:
        peer.bye()
    await stage.strike()
    return code


async def _until_end(runtime: Runtime, stopping: asyncio.Event) -> int:
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    failed: asyncio.Future[Any] = runtime.failure
    await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not runtime.failure.done():
        runtime.log.info("stopping")
        return 0
    exc = runtime.failure.result()
    runtime.log.error(
        "background work failed",
        error=f"{type(exc).__name__}: {exc}",
        traceback="".join(traceback.format_exception(exc)),
    )
    return EXIT_FAILED


async def _tick(runtime: Runtime, dispatcher: Dispatcher, peer: Peer) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        runtime.tick()
        peer.set_gauges(seq=runtime.publisher.seq, depth=dispatcher.depth)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _warm(actor: Actor[Any]) -> None:
    # Under the warden a process may wait for its turn in `seal`: it uses the time for what the first calls need.
    for handler in actor.handlers().values():
        args_struct(handler.procedure)
        result_struct(handler.procedure)
