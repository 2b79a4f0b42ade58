"""An unmodified virsh against the gateway and the test driver, command by command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.real.virsh_session import need_virsh, virsh_session

pytestmark = [pytest.mark.real, pytest.mark.process]

KEEP = "[test]\nkeep = true\n"
WEB = """<domain type='test'><name>web1</name><memory unit='KiB'>65536</memory><vcpu>1</vcpu>
<os><type arch='i686'>hvm</type></os></domain>"""


@pytest.fixture(scope="module")
def shared_house() -> Iterator[GatewayHouse]:
    need_virsh()
    with gateway_house(KEEP) as house:
        yield house


@pytest.fixture
def house(shared_house: GatewayHouse) -> Iterator[GatewayHouse]:
    yield shared_house
    shared_house.show_logs()


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "web1.xml"
    path.write_text(WEB, encoding="utf-8")
    return str(path)


def said(house: GatewayHouse, *arguments: str) -> str:
    run = house.virsh(*arguments)
    assert run.returncode == 0, f"virsh {' '.join(arguments)}: {run.stderr}"
    return run.stdout


def refused(house: GatewayHouse, *arguments: str, uri: str | None = None) -> str:
    run = house.virsh(*arguments, uri=uri)
    assert run.returncode != 0, run.stdout
    return run.stderr


def test_what_is_there(house: GatewayHouse) -> None:
    assert "1    test   running" in said(house, "list", "--all")
    assert said(house, "uri").startswith("test+unix:///default?socket=")
    assert "Using API: TEST 9.0.0" in said(house, "version")
    assert "CPU(s):" in said(house, "nodeinfo")
    assert "<capabilities>" in said(house, "capabilities")


def test_networks_are_listed(house: GatewayHouse) -> None:
    assert "Name" in said(house, "net-list")


def test_life_of_a_guest(house: GatewayHouse, document: str) -> None:
    assert "Domain 'web1' defined" in said(house, "define", document)
    assert "web1   shut off" in said(house, "list", "--all")
    assert said(house, "domstate", "web1", "--reason").strip() == "shut off (unknown)"
    assert "Domain 'web1' started" in said(house, "start", "web1")
    assert said(house, "domstate", "web1", "--reason").strip() == "running (booted)"
    info = said(house, "dominfo", "web1")
    assert "Persistent:     yes" in info
    assert "State:          running" in info
    assert "<name>web1</name>" in said(house, "dumpxml", "web1")
    said(house, "suspend", "web1")
    assert said(house, "domstate", "web1", "--reason").strip() == "paused (user)"
    said(house, "resume", "web1")
    assert said(house, "domstate", "web1").strip() == "running"
    said(house, "reboot", "web1")
    assert said(house, "domstate", "web1").strip() == "running"
    said(house, "shutdown", "web1")
    assert said(house, "domstate", "web1", "--reason").strip() == "shut off (shutdown)"
    said(house, "start", "web1")
    said(house, "destroy", "web1")
    assert said(house, "domstate", "web1", "--reason").strip() == "shut off (destroyed)"
    assert "Domain 'web1' has been undefined" in said(house, "undefine", "web1")
    assert "web1" not in said(house, "list", "--all")


def test_errors_read_as_libvirts(house: GatewayHouse) -> None:
    assert "failed to get domain 'nosuch'" in refused(house, "dominfo", "nosuch")
    assert "domain 'test' not paused" in refused(house, "resume", "test")
    assert "not supported by the connection driver: virDomainSetVcpu" in refused(
        house, "setvcpu", "test", "1", "--enable"
    )


def test_readers_change_nothing(house: GatewayHouse) -> None:
    uri = house.uri(read_only=True)
    assert house.virsh("list", uri=uri).returncode == 0
    text = refused(house, "destroy", "test", uri=uri)
    assert "operation forbidden: read only access prevents virDomainDestroy" in text
    assert "virDomainGetXMLDesc with secure flag" in refused(house, "dumpxml", "--security-info", "test", uri=uri)
    assert said(house, "domstate", "test").strip() == "running"


def test_events_are_told_while_they_happen(house: GatewayHouse) -> None:
    with virsh_session(house.uri(), "event", "--all", "--loop") as session:
        session.wait_for("")
        lines = {
            "suspend": "event 'lifecycle' for domain 'test': Suspended Paused",
            "resume": "event 'lifecycle' for domain 'test': Resumed Unpaused",
        }
        wait_until_registered(house)
        for command, line in lines.items():
            said(house, command, "test")
            session.wait_for(line)
        session.interrupt()
        session.wait()
        assert "events received: 2" in session.output


def wait_until_registered(house: GatewayHouse) -> None:
    """A register call is answered by the gateway at once, so a later list of another client comes after it."""
    import time

    time.sleep(0.5)
    said(house, "list")


def test_events_outlive_the_driver(house: GatewayHouse) -> None:
    with virsh_session(house.uri(), "event", "--all", "--loop") as session:
        wait_until_registered(house)
        said(house, "suspend", "test")
        session.wait_for("Suspended Paused")
        house.kill("test")
        house.start("test")
        said(house, "resume", "test")
        session.wait_for("Resumed Unpaused")
        session.interrupt()
        session.wait()


def test_screenshot_comes_as_a_stream(house: GatewayHouse, tmp_path: Path) -> None:
    said(house, "screenshot", "test", str(tmp_path / "shot"))
    assert (tmp_path / "shot").stat().st_size > 100


def test_state_comes_back_when_the_last_client_left() -> None:
    need_virsh()
    with gateway_house() as house:
        assert "paused" in said(house, "suspend test; domstate test")
        assert said(house, "domstate", "test").strip() == "running"


def test_without_a_gateway_the_commands_fail(document: str) -> None:
    need_virsh()
    with gateway_house(KEEP) as house:
        commands = (
            ["list", "--all"],
            ["define", document],
            ["dominfo", "test"],
            ["domstate", "test", "--reason"],
            ["dumpxml", "test"],
            ["suspend", "test"],
            ["version"],
            ["uri"],
            ["nodeinfo"],
            ["capabilities"],
            ["net-list"],
        )
        house.kill("gateway", signal.SIGTERM)
        for command in commands:
            assert "Failed to connect socket" in refused(house, *command)
        house.start("gateway")
        house.wait_until_served()
        for command in commands:
            said(house, *command)
