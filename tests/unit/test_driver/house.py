"""The test driver without processes: its runtime on a temporary folder, a broker that only listens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from actors.runtime.actor import Stage
from actors.runtime.runtime import Runtime
from actors.test.defaults import SCOPE
from actors.test.driver import TestActor
from actors.test.host import TestHost
from broker.peer import IncomingCall
from broker.wire import CallPrologue, Flag
from schema.body import pack_args, unpack_result
from schema.objects import DomainRef
from schema.table import need_procedure
from settings.config import Config, TestSettings
from settings.paths import resolve_paths
from tests.unit.runtime.house import DEVNULL, FakeBroker
from util.structured_log import StructuredLog

NATIVE = {"uid": 7, "read_only": False}
LIBVIRT = {"uid": 7, "read_only": False, "via": "libvirt"}


class House:
    """One incarnation of the test driver."""

    def __init__(self, root: Path, broker: FakeBroker, epoch: int, keep: bool) -> None:
        self.broker = broker
        config = Config(test=TestSettings(keep=keep, screenshot=""))
        self.runtime = Runtime("test", resolve_paths(root), config, StructuredLog("test", fd=DEVNULL))
        self.stage = Stage(TestActor(), self.runtime)
        self.caller: dict[str, Any] = LIBVIRT
        self.scope = SCOPE
        self._correlations = itertools.count(1000 * epoch)

    @property
    def host(self) -> TestHost:
        host: TestHost = self.stage.host
        return host

    def post(
        self, procedure: str, *, resend: bool = False, correlation: int | None = None, **args: Any
    ) -> IncomingCall:
        """Makes a call arrive."""
        call = IncomingCall(
            b"c" * 16,
            next(self._correlations) if correlation is None else correlation,
            int(Flag.RESEND) if resend else 0,
            asyncio.get_running_loop().time() + 10,
            CallPrologue(procedure, self.scope, None, None, "trace-1", self.caller),
            pack_args(need_procedure(procedure), args),
        )
        assert self.stage.dispatcher is not None
        self.stage.dispatcher.on_call(call)
        return call

    async def outcome(self, call: IncomingCall) -> Any:
        """The result of a call that was posted; raises its error."""
        async with asyncio.timeout(10):
            while call.id not in self.broker.outcomes:
                self.broker.arrived.clear()
                await self.broker.arrived.wait()
        kind, value, *_ = self.broker.outcomes[call.id][-1]
        if kind == "error":
            raise value
        return unpack_result(need_procedure(call.prologue.procedure), value)

    async def call(self, procedure: str, **args: Any) -> Any:
        """Posts a call and waits for its outcome."""
        return await self.outcome(self.post(procedure, **args))

    async def domain(self, name: str) -> DomainRef:
        """The guest of that name as it is now."""
        found: DomainRef = (await self.call("domain_lookup_by_name", name=name)).dom
        return found

    async def names(self) -> list[str]:
        """The names of all guests."""
        found = await self.call("connect_list_all_domains", need_results=1, flags=0)
        return sorted(dom.name for dom in found.domains)

    async def state(self, dom: DomainRef) -> tuple[int, int]:
        """A guest's state and reason."""
        found = await self.call("domain_get_state", dom=dom, flags=0)
        return found.state, found.reason

    def told(self) -> list[tuple[int, int]]:
        """(event, detail) of the lifecycle events since the last look."""
        events = self.broker.lifecycle()
        self.broker.records.clear()
        return events


@asynccontextmanager
async def open_house(
    root: Path, *, broker: FakeBroker | None = None, epoch: int = 1, keep: bool = False
) -> AsyncIterator[House]:
    """A started test driver."""
    broker = broker or FakeBroker()
    house = House(root, broker, epoch, keep)
    await house.stage.set(broker, epoch, broker.last())
    try:
        yield house
    finally:
        await house.stage.strike(grace_s=0.2)
