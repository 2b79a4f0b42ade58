"""Clients that stay, while processes are killed: virsh at a terminal, and one that does as virt-manager does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.test_libvirt_clients import SCRIPTS, SYSTEM_PYTHON
from tests.real.virsh_session import VirshSession, need_virsh, virsh_session

pytestmark = [pytest.mark.real, pytest.mark.process, pytest.mark.timeout(300)]

PROMPT = "virsh # "
READER = "virsh > "
WAIT_S = 60.0


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    need_virsh()
    with gateway_house("[test]\nkeep = true\n") as made:
        wait_for("the driver serves", lambda: made.virsh("list").returncode == 0)
        yield made
        made.show_logs()


def typed(session: VirshSession, command: str, prompt: str = PROMPT) -> str:
    """What a command prints before the next prompt."""
    session.output = ""
    session.type(command + "\n")
    session.wait_for(prompt, WAIT_S)
    return session.output


def test_virsh_is_typed_at(house: GatewayHouse) -> None:
    with virsh_session(house.uri()) as session:
        session.wait_for(PROMPT, WAIT_S)
        assert "running" in typed(session, "list --all")
        assert "Domain 'test' suspended" in typed(session, "suspend test")
        assert "paused" in typed(session, "domstate test")
        assert "Domain 'test' resumed" in typed(session, "resume test")
        assert "error: failed to get domain 'nosuch'" in typed(session, "dominfo nosuch")
        assert "<name>test</name>" in typed(session, "dumpxml test")
        assert "default" in typed(session, "net-list; pool-list")
        for number in range(20):
            assert f"title {number}" in typed(
                session, f"desc test --title --config 'title {number}'; desc test --title"
            )
        assert "failed to connect" not in typed(session, f"connect {house.uri()} --readonly", READER)
        assert "forbidden" in typed(session, "suspend test", READER)
        session.type("quit\n")
        assert session.wait(WAIT_S) == 0


def test_virsh_goes_on_when_the_gateway_was_killed(house: GatewayHouse) -> None:
    with virsh_session(house.uri()) as session:
        session.wait_for(PROMPT, WAIT_S)
        assert "running" in typed(session, "list")
        for _ in range(3):
            house.kill("gateway")
            house.start("gateway")
            # the command that meets the end of its connection fails, and virsh connects again for the next one
            end = time.monotonic() + WAIT_S
            while "running" not in typed(session, "list"):
                assert time.monotonic() < end
            assert "running" in typed(session, "domstate test")


class Manager:
    """The process that does as virt-manager does; what it says is kept as it comes."""

    def __init__(self, uri: str) -> None:
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SCRIPTS / "manager.py"), uri],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())

    def wait_for(self, beginning: str, count: int = 1) -> list[str]:
        """Waits until it has said so many lines with this beginning, and gives them."""
        found: list[str] = []

        def has() -> bool:
            assert self.process.poll() is None, self.said
            found[:] = [line for line in self.said if line.startswith(beginning)]
            return len(found) >= count

        try:
            wait_for(f"'{beginning}'", has, WAIT_S)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {self.said}") from exc
        return found

    def facts(self, word: str, count: int = 1) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.wait_for(word + " ", count)[-1].partition(" ")[2])
        return told

    def look(self, count: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("look\n")
        self.process.stdin.flush()
        return self.facts("looked", count)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)
        self._reader.join(timeout=20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def managed(uri: str) -> Iterator[Manager]:
    manager = Manager(uri)
    try:
        yield manager
    finally:
        manager.close()


def test_a_manager_sees_everything_and_every_change(house: GatewayHouse) -> None:
    with managed(house.uri()) as manager:
        facts = manager.facts("ready")
        assert facts["domains"] == facts["stats"] == ["test"]
        assert facts["networks"] == ["default"]
        assert facts["pools"] == ["default-pool"]
        assert "computer" in facts["devices"]
        assert facts["interfaces"] == ["eth1"]
        assert facts["events"] >= 27
        assert facts["alive"] == 1
        for command in ("suspend", "resume"):
            assert house.virsh(command, "test").returncode == 0
        assert house.virsh("net-destroy", "default").returncode == 0
        assert house.virsh("pool-destroy", "default-pool").returncode == 0
        assert house.virsh("pool-start", "default-pool").returncode == 0
        assert house.virsh("pool-refresh", "default-pool").returncode == 0
        assert [line.split()[3] for line in manager.wait_for("event lifecycle test", 2)] == ["3", "4"]
        manager.wait_for("event network default")
        manager.wait_for("event pool default-pool", 3)
        assert manager.look(1)["networks"] == ["default"]


def test_a_manager_does_not_notice_that_its_driver_was_killed(house: GatewayHouse) -> None:
    with managed(house.uri()) as manager:
        manager.facts("ready")
        for number in range(1, 4):
            house.kill("test")
            house.start("test")
            assert house.virsh("suspend", "test").returncode == 0
            assert house.virsh("resume", "test").returncode == 0
            manager.wait_for("event lifecycle test", 2 * number)
            assert manager.look(number)["domains"] == ["test"]
        told = [line.split()[3] for line in manager.wait_for("event lifecycle test", 6)]
        assert told == ["3", "4"] * 3
        assert not [line for line in manager.said if line.startswith("closed")]


def test_a_manager_is_back_at_once_when_the_gateway_was_killed(house: GatewayHouse) -> None:
    with managed(house.uri()) as manager:
        first = manager.facts("ready")
        for number in range(1, 4):
            house.kill("gateway")
            house.start("gateway")
            manager.wait_for("closed", number)
            again = manager.facts("again", number)
            assert {k: again[k] for k in ("domains", "networks", "pools", "events")} == {
                k: first[k] for k in ("domains", "networks", "pools", "events")
            }
            assert house.virsh("suspend", "test").returncode == 0
            assert house.virsh("resume", "test").returncode == 0
            manager.wait_for("event lifecycle test", 2 * number)
        assert not [line for line in manager.said if line.startswith("refused")]
