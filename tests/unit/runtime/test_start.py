"""What a driver may do while it starts, when guests already act."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.runtime.runtime import Runtime
from schema.errors import CallUndone
from tests.contract.house import FakeBroker
from tests.contract.house import open_house as open_any
from tests.unit.runtime.house import SCOPE, ToyActor, ToyHost, open_house, summary

KEY = b"a".ljust(16, b"-")


class BusyStart(ToyActor):
    """Its guest changes, tells something and goes on with work of its own before start() has returned."""

    async def start(self, runtime: Runtime) -> ToyHost:
        host = await super().start(runtime)
        host.objects.put("domain", KEY, "a", summary(mem=5))
        host.objects.put("domain", b"b" * 16, "b", summary())
        host.objects.drop("domain", b"b" * 16)
        host.emit("domain_event_reboot", {"dom": host.need_domain(KEY).ref}, object=host.need_domain(KEY))

        async def work() -> None:
            async with host.intents.change("watch"):
                await host.gate.wait()

        runtime.spawn(work(), "work")
        while not runtime.call_log.open:
            await asyncio.sleep(0)
        return host


async def test_what_happens_during_the_start_is_told_after_it(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=0)
    known = len(broker.records)
    async with open_any(BusyStart(), SCOPE, tmp_path, broker=broker, epoch=2) as house:
        told = [(r["kind"], r["version"]) for r in broker.records[known:]]
        assert told == [("epoch", 0), ("changed", 2), ("domain_event_reboot", 2)]
        assert broker.records[-1]["summary"]["mem"] == 5
        assert len(house.runtime.call_log.open) == 1, "an intent of this process is not the last one's"
        house.host.gate.set()
        async with asyncio.timeout(5):
            while house.runtime.call_log.open:
                await asyncio.sleep(0.01)
        assert not house.runtime.failure.done()


async def test_background_work_that_fails_ends_the_process(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:

        async def fail() -> None:
            raise CallUndone("on purpose")

        house.runtime.spawn(fail(), "fail")
        assert isinstance(await asyncio.wait_for(house.runtime.failure, 5), CallUndone)
