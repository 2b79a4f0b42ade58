"""The remote driver's own rules, against a daemon that does what the test says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.remote.driver import RemoteActor
from schema.errors import HypervisorGone, InvalidArguments, InvalidConnection, OperationDenied, RpcError, VirtError
from schema.objects import DomainRef
from tests.contract.house import open_house
from tests.process.far_daemon import FarDaemon, far_daemon

pytestmark = [pytest.mark.process]

DOM = DomainRef("a", bytes(16), 1)
READER = {"uid": 7, "read_only": True}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def daemon(folder: Path) -> AsyncIterator[FarDaemon]:
    async with far_daemon(folder / "s") as daemon:
        has_guest(daemon, {"state": 1, "reason": 1})
        yield daemon


def has_guest(daemon: FarDaemon, state: dict[str, int]) -> None:
    info = {"state": 1, "maxMem": 1024, "memory": 1024, "nrVirtCpu": 1, "cpuTime": 0}
    daemon.answers["connect_list_all_domains"] = lambda args: {"domains": [DOM], "ret": 1}
    daemon.answers["domain_lookup_by_uuid"] = lambda args: {"dom": DOM}
    daemon.answers["domain_get_state"] = lambda args: state
    daemon.answers["domain_get_info"] = lambda args: info
    daemon.answers["domain_is_persistent"] = lambda args: {"persistent": 1}


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)


async def test_a_change_that_the_driver_did_not_survive_is_not_sent_twice(daemon: FarDaemon, tmp_path: Path) -> None:
    daemon.hangs.add("domain_create_with_flags")
    async with open_house(RemoteActor(), daemon.uri, tmp_path, orderly=False) as first:
        await first.call("connect_open", name=daemon.uri, flags=0)
        call = first.post("domain_create_with_flags", dom=DOM, flags=0, correlation=77)
        await until(lambda: "domain_create_with_flags" in daemon.asked)
        broker = first.broker
    async with open_house(RemoteActor(), daemon.uri, tmp_path, broker=broker, epoch=2) as second:
        again = second.post("domain_create_with_flags", dom=DOM, flags=0, correlation=77, resend=True)
        assert again.id == call.id
        with pytest.raises(VirtError, match="not known"):
            await second.outcome(again)
    assert daemon.asked.count("domain_create_with_flags") == 1


async def test_a_guest_that_cannot_be_asked_is_unknown_and_not_gone(
    daemon: FarDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.remote.far_side.UNKNOWN_AFTER_S", 0.1)
    monkeypatch.setattr("actors.remote.far_side.WAIT_S", 0.2)
    async with open_house(RemoteActor(), daemon.uri, tmp_path) as house:
        await house.call("connect_open", name=daemon.uri, flags=0)
        assert house.runtime.objects.need_domain(DOM.uuid).summary["state"] == 1
        hidden = daemon.socket.with_name("hidden")
        daemon.socket.rename(hidden)
        daemon.hang_up()
        await until(lambda: house.runtime.objects.need_domain(DOM.uuid).summary["state"] == 0)
        with pytest.raises(HypervisorGone, match="out of reach"):
            await house.call("domain_get_state", dom=DOM, flags=0)
        before = len(house.broker.lifecycle())
        hidden.rename(daemon.socket)
        await until(lambda: house.runtime.objects.need_domain(DOM.uuid).summary["state"] == 1)
        assert len(house.broker.lifecycle()) == before, "it ran all the time"
        has_guest(daemon, {"state": 3, "reason": 1})
        daemon.hang_up()
        await until(lambda: house.runtime.objects.need_domain(DOM.uuid).summary["state"] == 3)
        assert house.broker.lifecycle()[before:] == [(3, 0)]


async def test_a_read_is_asked_again_when_its_connection_breaks(daemon: FarDaemon, tmp_path: Path) -> None:
    async with open_house(RemoteActor(), daemon.uri, tmp_path) as house:
        await house.call("connect_open", name=daemon.uri, flags=0)
        daemon.hangs.add("domain_get_os_type")
        call = house.post("domain_get_os_type", dom=DOM)
        await until(lambda: daemon.asked.count("domain_get_os_type") == 2)  # once when the guests were compared
        daemon.answers["domain_get_os_type"] = lambda args: {"type": "hvm"}
        daemon.hang_up()
        assert (await house.outcome(call)).type == "hvm"


async def test_who_may_not_change_anything_opens_nothing_new(daemon: FarDaemon, tmp_path: Path) -> None:
    async with open_house(RemoteActor(), daemon.uri, tmp_path) as house:
        with pytest.raises(InvalidConnection):
            await house.call("domain_get_state", dom=DOM, flags=0)
        with pytest.raises(OperationDenied):
            await house.call("connect_open", name=daemon.uri, flags=1, caller=READER)
        assert daemon.asked == []
        await house.call("connect_open", name=daemon.uri, flags=0)
        await house.call("connect_open", name=daemon.uri, flags=1, caller=READER)
        assert (await house.call("domain_get_state", dom=DOM, flags=0, caller=READER)).state == 1


async def test_programs_and_files_of_this_host_are_named_by_its_own_user_alone(tmp_path: Path) -> None:
    scope = f"test+ext:///default?command={tmp_path}/run"
    (tmp_path / "run").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "run").chmod(0o755)
    async with open_house(RemoteActor(), scope, tmp_path) as house:
        with pytest.raises(OperationDenied, match="command"):
            await house.call("connect_open", name=scope, flags=0)
        assert not (tmp_path / "ran").exists()
        with pytest.raises(HypervisorGone):
            await house.call("connect_open", name=scope, flags=0, caller={"uid": 0, "read_only": False})
        assert (tmp_path / "ran").exists()


async def test_a_name_that_leads_nowhere_is_not_remembered(tmp_path: Path) -> None:
    nowhere = f"test+unix:///default?socket={tmp_path}/none"
    async with open_house(RemoteActor(), nowhere, tmp_path) as house:
        with pytest.raises(RpcError, match="none"):
            await house.call("connect_open", name=nowhere, flags=0)
        with pytest.raises(InvalidArguments):
            await house.call("connect_open", name="x", flags=0, scope="test+pigeon://h/default")
        assert house.runtime.store.list("scopes") == []


async def test_more_events_than_can_be_told_one_by_one_become_a_comparison(
    daemon: FarDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.remote.far_side.EVENTS_MAX", 20)
    async with open_house(RemoteActor(), daemon.uri, tmp_path) as house:
        await house.call("connect_open", name=daemon.uri, flags=0)
        answers = dict(daemon.answers)
        del daemon.answers["domain_lookup_by_uuid"]
        daemon.hangs.add("domain_lookup_by_uuid")  # the first event that is looked at stays there
        for _ in range(500):
            daemon.tell("domain_event_lifecycle", {"dom": DOM, "event": 4, "detail": 0})
        await until(lambda: "domain_lookup_by_uuid" in daemon.asked)
        side = house.host.side_of(daemon.uri)
        await until(lambda: side.has_lost_events)
        assert side.waiting <= 20
        daemon.answers.update(answers)
        has_guest(daemon, {"state": 3, "reason": 1})
        daemon.hang_up()  # what hung never ends; behind it everything is compared
        await until(lambda: house.runtime.objects.need_domain(DOM.uuid).summary["state"] == 3)
        assert house.broker.lifecycle()[-1] == (3, 0)


async def test_a_stream_that_nobody_reads_holds_up_no_call(daemon: FarDaemon, tmp_path: Path) -> None:
    async with open_house(RemoteActor(), daemon.uri, tmp_path) as house:
        await house.call("connect_open", name=daemon.uri, flags=0)
        side = house.host.side_of(daemon.uri)
        connections = len(daemon.writers)
        daemon.answers["domain_screenshot"] = lambda args: {"mime": "image/png"}
        call = house.post("domain_screenshot", dom=DOM, screen=0, flags=0)
        await house.outcome(call)
        assert len(daemon.writers) == connections + 1
        assert len(side.lines) == 1
        assert (await house.call("domain_get_state", dom=DOM, flags=0)).state == 1
    assert not side.lines
