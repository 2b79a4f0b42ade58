"""What a brokered call costs, and what the journal does: `python -m tests.bench.broker_calls` prints JSON.

The actor answers at once and the clients do nothing else, so the numbers are those of the broker and of the peer
library at both ends. Clients are spread over a few processes, as they would be.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from broker.journal import Entry, Journal, Part, read_part
from broker.peer import IncomingCall, Peer
from broker.wire import pack_value
from schema.body import pack_args
from schema.table import need_procedure
from settings.config import JournalSettings
from settings.process import current, die_with_parent
from tests.bench.libvirt_calls import run_client
from tests.bench.libvirtd import peer_where_possible
from tests.bench.report import Measure, median, percentile
from tests.fakes.role import event_record
from tests.process.broker_process import REPOSITORY, BrokerHouse

WARM_UP: Final = 300
CLIENT_PROCESSES_MAX: Final = 8
_RESULT: Final = pack_value({"pid": 1, "epoch": 1, "uptime_s": 0.0})


def main(seconds: float = 3.0) -> dict[str, Any]:
    """Runs everything and prints it."""
    result: dict[str, Any] = {"calls": measure_calls(seconds), "journal": measure_journal()}
    print(json.dumps(result, indent=1))
    return result


def measure() -> list[Measure]:
    """The same figures for `python -m tests.bench`, beside what a libvirt client gets of a real libvirtd."""
    rows: list[Measure] = []
    ours, journal = measure_calls(3.0), measure_journal()
    with tempfile.TemporaryDirectory(prefix="vtb") as base, peer_where_possible(Path(base)) as peer:
        uri = peer.uri("test:///default") if peer else None
        theirs = median(run_client("latency", uri, 2000)["info (forwarded)"]) * 1e6 if uri else None
        one = ours["1"]
        rows.append(
            Measure(
                "call p50",
                one["p50_us"],
                "us",
                goal=2.4,
                of_ratio=True,
                peer=theirs,
                against="us libvirtd",
                note=f"p99 {one['p99_us']:.0f} us, broker {one['broker_cpu_us_per_call']} us CPU per call",
            )
        )
        for clients, goal in (("1", None), ("8", 0.6), ("32", 0.9)):
            rows.append(
                Measure(
                    f"calls x{clients}",
                    ours[clients]["calls_per_s"],
                    "calls/s",
                    goal=goal,
                    of_ratio=True,
                    higher_is_better=True,
                    peer=run_client("throughput", uri, "info", clients, 3) if uri else None,
                    against="calls/s libvirtd",
                    note=f"broker {ours[clients]['broker_cpu_us_per_call']} us CPU per call",
                )
            )
    for what in ("append", "replay"):
        note = f"{journal['record_bytes']} bytes each"
        rows.append(Measure(f"journal {what}", journal[f"{what}_per_s"], "records/s", higher_is_better=True, note=note))
    return rows


def measure_calls(seconds: float) -> dict[str, Any]:
    """Latency of one client, then throughput of 1, 8 and 32."""
    house = BrokerHouse()
    try:
        house.start_broker()
        environment = {**os.environ, "VIRTROUPE_ROOT": str(house.root)}
        actor = _spawn(environment, "actor")
        try:
            result = {str(clients): _load(environment, house, clients, seconds) for clients in (1, 8, 32)}
        finally:
            actor.kill()
            actor.wait()
            assert actor.stdout is not None
            actor.stdout.close()
        return result
    finally:
        house.close()


def measure_journal(records: int = 50_000) -> dict[str, Any]:
    """Records per second that are appended (in batches of 64) and read for a replay."""
    body = event_record("test", 1, 1, "changed", {"dom": ["web1", b"\0" * 16, 7], "event": 2, "detail": 0})
    with tempfile.TemporaryDirectory(prefix="vt") as folder:
        journal = Journal(Path(folder), JournalSettings(), boot_id="bench", wall=time.time)
        begin = time.perf_counter()
        for first in range(1, records, 64):
            journal.append([Entry("test", 1, seq, body) for seq in range(first, first + 64)])
        append_s = time.perf_counter() - begin
        head, place, read = journal.head, 0, 0
        begin = time.perf_counter()
        while True:
            part = read_part(journal.segments, place, head, None, 1024)
            assert isinstance(part, Part)
            read += len(part.records)
            place = part.next.offset
            if part.is_end:
                break
        replay_s = time.perf_counter() - begin
        journal.close()
    return {
        "record_bytes": len(body),
        "append_per_s": round(journal.appended / append_s),
        "replay_per_s": round(read / replay_s),
    }


def _load(environment: dict[str, str], house: BrokerHouse, clients: int, seconds: float) -> dict[str, Any]:
    processes = min(clients, CLIENT_PROCESSES_MAX)
    shares = [clients // processes + (index < clients % processes) for index in range(processes)]
    before = _cpu_s(house)
    running = [_spawn(environment, "clients", str(share), str(seconds)) for share in shares]
    latencies: list[float] = []
    calls, rate = 0, 0.0
    for process in running:
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
        process.wait()
        process.stdout.close()
        latencies += answer["sample_us"]
        calls += answer["calls"]
        rate += answer["calls"] / answer["seconds"]
    return {
        "calls_per_s": round(rate),
        "p50_us": round(median(latencies), 1),
        "p99_us": round(percentile(latencies, 0.99), 1),
        "broker_cpu_us_per_call": round((_cpu_s(house) - before) / (calls + WARM_UP * clients) * 1e6, 1),
    }


def _cpu_s(house: BrokerHouse) -> float:
    assert house.broker is not None
    fields = Path(f"/proc/{house.broker.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spawn(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.broker_calls", *arguments],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    if arguments[0] == "actor":
        assert process.stdout is not None
        process.stdout.readline()
    return process


class _Actor:
    """Answers every call at once."""

    def __init__(self) -> None:
        self.peer: Peer
        self.registered = asyncio.Event()

    def on_call(self, call: IncomingCall) -> None:
        self.peer.reply(call, _RESULT, seq=0)

    def on_cancel(self, source: bytes, correlation: int) -> None:
        pass

    def on_registered(self, last: tuple[int, int]) -> None:
        self.registered.set()

    def on_event_ack(self, seq: int, resend: bool) -> None:
        pass

    def on_broker_lost(self) -> None:
        pass

    def on_fenced(self, why: str) -> None:
        os._exit(1)


async def _serve() -> None:
    die_with_parent()
    paths, _ = current()
    actor = _Actor()
    actor.peer = await Peer.connect_role(paths, "test", actor)
    actor.peer.ready(["actor_ping"], "bench")
    await actor.registered.wait()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _client(seconds: float, sample: list[float]) -> tuple[int, float]:
    paths, _ = current()
    peer = await Peer.connect_client(paths, program="bench")
    procedure = need_procedure("actor_ping")
    body = pack_args(procedure, {})
    for _ in range(WARM_UP):
        await peer.call("test", "actor_ping", body, deadline_s=30.0)
    calls = 0
    clock = time.perf_counter
    begin = now = clock()
    while now - begin < seconds:
        before = now
        await peer.call("test", "actor_ping", body, deadline_s=30.0)
        now = clock()
        sample.append((now - before) * 1e6)
        calls += 1
    await peer.aclose()
    return calls, now - begin


async def _clients(count: int, seconds: float) -> None:
    sample: list[float] = []
    results = await asyncio.gather(*(_client(seconds, sample) for _ in range(count)))
    calls = sum(calls for calls, _ in results)
    print(json.dumps({"calls": calls, "seconds": max(s for _, s in results), "sample_us": sample[:20000]}))


def _run(coroutine: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


if __name__ == "__main__":
    if sys.argv[1:2] == ["actor"]:
        _run(_serve())
    elif sys.argv[1:2] == ["clients"]:
        _run(_clients(int(sys.argv[2]), float(sys.argv[3])))
    else:
        main()
