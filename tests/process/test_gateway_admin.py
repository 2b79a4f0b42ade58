"""The admin program: real virt-admin against a running gateway, and what it may not do."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from rpc.packet import Program
from tests.fakes.rpc_client import CallFailed, RpcClient
from tests.process.gateway_house import GatewayHouse, gateway_house

pytestmark = [pytest.mark.process, pytest.mark.real]


@pytest.fixture(scope="module")
def house() -> Iterator[GatewayHouse]:
    with gateway_house("[gateway]\nmax_clients = 100\n") as made:
        yield made


def run_admin(house: GatewayHouse, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["virt-admin", "-c", f"libvirtd:///system?socket={house.paths.libvirt_admin_socket}", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )


def admin(house: GatewayHouse, *words: str) -> str:
    done = run_admin(house, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(text: str) -> dict[str, str]:
    """`name : value` lines."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def client_rows(house: GatewayHouse) -> list[list[str]]:
    return [line.split() for line in admin(house, "client-list", "libvirtd").splitlines()[2:] if line.strip()]


def test_servers_are_listed(house: GatewayHouse) -> None:
    rows = [line.split() for line in admin(house, "srv-list").splitlines()[2:] if line.strip()]
    assert rows == [["0", "admin"], ["1", "libvirtd"]]


def test_there_are_no_workers_and_none_can_be_set(house: GatewayHouse) -> None:
    told = table(admin(house, "srv-threadpool-info", "libvirtd"))
    assert told["maxWorkers"] == told["nWorkers"] == "0"
    refused = run_admin(house, "srv-threadpool-set", "libvirtd", "--max-workers", "30")
    assert refused.returncode != 0
    assert "no worker threads" in refused.stderr


def test_a_client_is_listed_described_and_disconnected(house: GatewayHouse) -> None:
    virsh = subprocess.Popen(
        ["virsh", "-c", house.uri(), "event", "--all", "--loop"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found: list[str] = []
        while not found:
            assert virsh.poll() is None
            for number, transport, *_ in client_rows(house):
                told = table(admin(house, "client-info", "libvirtd", number))
                if told.get("unix_process_id") == str(virsh.pid):
                    found = [number, transport, told["unix_user_id"], told["unix_user_name"], told["readonly"]]
        assert found[1:] == ["unix", str(os.getuid()), "root" if os.getuid() == 0 else found[3], "no"]
        admin(house, "client-disconnect", "libvirtd", found[0])
        gone = run_admin(house, "client-info", "libvirtd", found[0])
        assert f"Client not found: No client with matching ID '{found[0]}'" in gone.stderr
    finally:
        virsh.kill()
        virsh.wait(timeout=20)


def test_client_limits_are_told_and_kept(house: GatewayHouse) -> None:
    told = table(admin(house, "srv-clients-info", "libvirtd"))
    assert (told["nclients_max"], told["nclients_unauth_max"]) == ("100", "50")
    assert table(admin(house, "srv-clients-info", "admin"))["nclients"] == "1"
    with socket.socket(socket.AF_UNIX) as held:
        held.connect(str(house.paths.libvirt_socket))
        admin(house, "srv-clients-set", "libvirtd", "--max-clients", "1", "--max-unauth-clients", "1")
        assert table(admin(house, "srv-clients-info", "libvirtd"))["nclients"] == "1"
        assert house.virsh("list").returncode != 0
        assert run_admin(house, "srv-clients-set", "libvirtd", "--max-unauth-clients", "5").returncode != 0
        admin(house, "srv-clients-set", "libvirtd", "--max-clients", "100", "--max-unauth-clients", "50")
        assert house.virsh("list").returncode == 0


def test_the_log_level_is_told_and_set(house: GatewayHouse) -> None:
    assert "2:stderr" in admin(house, "daemon-log-outputs")
    admin(house, "daemon-log-outputs", "--outputs", "1:stderr")
    assert "1:stderr" in admin(house, "daemon-log-outputs")
    admin(house, "daemon-log-outputs", "--outputs", "")
    assert "2:stderr" in admin(house, "daemon-log-outputs")
    assert run_admin(house, "daemon-log-outputs", "--outputs", "1:syslog:x").returncode != 0
    admin(house, "daemon-log-filters")
    assert run_admin(house, "daemon-log-filters", "--filters", "1:qemu").returncode != 0


def test_what_does_not_exist_is_said(house: GatewayHouse) -> None:
    assert "No server named 'nosuch'" in run_admin(house, "client-list", "nosuch").stderr
    assert "does not listen for TLS" in run_admin(house, "server-update-tls", "libvirtd").stderr
    assert run_admin(house, "daemon-timeout", "--timeout", "10").returncode != 0
    assert "9.0.0" in admin(house, "version")


def test_the_socket_is_for_the_administrator_alone(house: GatewayHouse) -> None:
    assert house.paths.libvirt_admin_socket.stat().st_mode & 0o777 == 0o600


async def test_nothing_is_answered_before_the_connection_is_open(house: GatewayHouse) -> None:
    async with await RpcClient.connect(house.paths.libvirt_admin_socket) as client:
        with pytest.raises(CallFailed, match="not open"):
            await client.call("admin_connect_list_servers", need_results=1, flags=0)
        await client.call("admin_connect_open", flags=0)
        with pytest.raises(CallFailed, match="already open"):
            await client.call("admin_connect_open", flags=0)
        assert (await client.call("admin_connect_list_servers", need_results=0, flags=0)).ret == 2
        with pytest.raises(CallFailed, match="unsupported flags"):
            await client.call("admin_connect_list_servers", need_results=0, flags=1)
        with pytest.raises(CallFailed, match="unknown procedure"):
            client.result("admin_connect_open", await client.reply(client.send_raw(99, b"", program=Program.ADMIN)))
        with pytest.raises(CallFailed, match="Cannot find program"):
            await client.call("auth_list")
        await client.call("admin_connect_close")
        assert await client.is_closed()


async def test_other_sockets_do_not_serve_the_admin_program(house: GatewayHouse) -> None:
    async with await RpcClient.connect(house.paths.libvirt_socket) as client:
        with pytest.raises(CallFailed, match="Cannot find program"):
            await client.call("admin_connect_open", flags=0)
