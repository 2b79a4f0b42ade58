"""What the broker tells about itself: status, metrics, logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.peer import Peer
from broker.wire import pack_value
from schema.body import unpack_result
from schema.table import need_procedure
from tests.fakes.role import FakeRole
from tests.process.broker_process import broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


async def status(peer: Peer) -> Any:
    reply = await peer.call("broker", "broker_status", pack_value({}), deadline_s=20.0)
    return unpack_result(need_procedure("broker_status"), reply.body).status


def scrape(path: Path | None, port: int = 0) -> dict[tuple[str, str], float]:
    """All samples by name and by the values of their labels."""
    family = socket.AF_UNIX if path is not None else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(os.fspath(path) if path is not None else ("127.0.0.1", port))
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        data = b""
        while part := sock.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"200" in head.splitlines()[0]
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def scraped(path: Path | None, port: int = 0) -> dict[tuple[str, str], float]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.to_thread(scrape, path, port)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.02)


async def test_status_and_metrics_tell_of_broker_journal_and_actors() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with broker_house(f'[metrics]\nlisten = "127.0.0.1:{port}"\n') as house:
        role = await FakeRole.connect(house.paths, "test")
        client = await Peer.connect_client(house.paths)
        for _ in range(5):
            await client.call("test", "domain_create", pack_value({}))
        role.publish()
        await role.until(lambda: not role.window)
        role.peer.set_gauges(seq=3, depth=2)
        async with asyncio.timeout(10):
            while (seen := await status(client))["actors"]["test"]["depth"] != 2:
                await asyncio.sleep(0.05)
        assert house.broker is not None
        assert seen["pid"] == house.broker.pid and seen["clients"] == 1
        assert seen["journal"]["appended"] == 1 and seen["journal"]["error"] is None
        actor = seen["actors"]["test"]
        assert (actor["state"], actor["epoch"], actor["seq"], actor["event_lag"]) == ("ready", 1, 1, 2)
        assert (actor["received"], actor["answered"], actor["pid"]) == (5, 5, os.getpid())
        assert actor["rss_kib"] > 1000 and actor["beat_age_s"] < 5
        assert seen["actors"]["qemu"]["state"] == "stopped"
        for samples in (await scraped(house.paths.metrics), await scraped(None, port)):
            assert samples["virtroupe_call_seconds_count", "test"] == 5
            assert samples["virtroupe_actor_received_total", "test"] == 5
            assert samples["virtroupe_actor_state", "test,ready"] == 1
            assert samples["virtroupe_actor_event_lag", "test"] == 2
            assert samples["virtroupe_journal_bytes", ""] > 0
            assert samples["virtroupe_broker_total", "events"] == 1
        await client.aclose()
        await role.aclose()


async def test_a_metrics_port_that_is_taken_does_not_stop_the_broker() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with broker_house(f'[metrics]\nlisten = "127.0.0.1:{sock.getsockname()[1]}"\n') as house:
            client = await Peer.connect_client(house.paths)
            async with asyncio.timeout(10):
                while "metrics are not served" not in house.log.read_text(encoding="utf-8"):
                    await asyncio.sleep(0.05)
            await status(client)
            await client.aclose()


async def test_logs_are_one_json_object_per_line_on_request() -> None:
    with broker_house("[log]\njson = true\n") as house:
        role = await FakeRole.connect(house.paths, "test")
        await role.aclose()
        async with asyncio.timeout(10):
            while "actor gone" not in house.log.read_text(encoding="utf-8"):
                await asyncio.sleep(0.01)
        house.kill_broker(signal.SIGTERM)
        entries = [json.loads(line) for line in house.log.read_text(encoding="utf-8").splitlines()]
        assert {"broker ready", "actor registered", "actor gone", "broker stopped"} <= {e["event"] for e in entries}
        assert all(e["role"] == "broker" and e["ts"] > 0 and e["level"] for e in entries)
