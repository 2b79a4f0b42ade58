"""Clients from other hosts: TLS with certificates on both sides, and bare TCP for who wants it."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rpc.packet import Packet, PacketReader, PacketType, Program, Status, pack_packet
from tests.process.certificates import Authority
from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for

pytestmark = [pytest.mark.process, pytest.mark.real]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Remote:
    house: GatewayHouse
    authority: Authority
    tls_port: int
    tcp_port: int

    def virsh(self, pki: Path | None, *words: str, host: str = "localhost") -> subprocess.CompletedProcess[str]:
        uri = (
            f"test+tls://{host}:{self.tls_port}/default?pkipath={pki}"
            if pki is not None
            else f"test+tcp://{host}:{self.tcp_port}/default"
        )
        return self.house.virsh(*words, uri=uri)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    server = authority.server()
    tls_port, tcp_port = free_port(), free_port()
    config = f"""
[gateway]
listen_tls = "127.0.0.1:{tls_port}"
tls_certificate = "{server}/servercert.pem"
tls_key = "{server}/serverkey.pem"
tls_authority = "{authority.certificate}"
tls_allowed_names = ["C=GB,O=Virtroupe,CN=alice", "*,CN=bob-*"]
listen_tcp = "127.0.0.1:{tcp_port}"
auth_tcp = "none"
tcp_without_authentication = true
allowed_addresses = ["127.0.0.0/8"]
max_greetings = 3
"""
    with gateway_house(config) as house:
        made = Remote(house, authority, tls_port, tcp_port)
        wait_for("TCP is served", lambda: made.virsh(None, "list").returncode == 0)
        yield made


def test_a_client_with_an_allowed_name_works(remote: Remote) -> None:
    alice = remote.authority.client("alice")
    done = remote.virsh(alice, "list", "--all")
    assert done.returncode == 0, done.stderr
    assert "test" in done.stdout
    xml = remote.virsh(alice, "dumpxml", "test", host="127.0.0.1")
    assert "<name>test</name>" in xml.stdout, xml.stderr
    assert remote.virsh(alice, "capabilities").stdout.startswith("<capabilities>")


def test_a_pattern_of_names_is_understood(remote: Remote) -> None:
    assert remote.virsh(remote.authority.client("bob-7"), "list").returncode == 0


def test_another_name_is_refused_and_logged(remote: Remote) -> None:
    assert remote.virsh(remote.authority.client("mallory"), "list").returncode != 0
    assert "C=GB,O=Virtroupe,CN=mallory" in remote.house.log_of("gateway")


def test_a_certificate_of_another_authority_is_refused(remote: Remote, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "stranger").client("alice")
    (stranger / "cacert.pem").write_bytes(remote.authority.certificate.read_bytes())
    assert remote.virsh(stranger, "list").returncode != 0


def test_no_certificate_is_refused(remote: Remote) -> None:
    context = ssl.create_default_context(cafile=str(remote.authority.certificate))
    with (
        socket.create_connection(("localhost", remote.tls_port), timeout=10) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.recv(1) == b""
        raise ConnectionResetError


def test_the_byte_that_accepts_comes_first_and_big_messages_pass(remote: Remote) -> None:
    carol = remote.authority.client("bob-carol")
    context = ssl.create_default_context(cafile=str(remote.authority.certificate))
    context.load_cert_chain(carol / "clientcert.pem", carol / "clientkey.pem")
    with (
        socket.create_connection(("localhost", remote.tls_port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.recv(1) == b"\1"
        big = struct.pack(">I", 8_000_000) + bytes(8_000_000)  # a name far too long: refused, but read whole
        tls.sendall(pack_packet(Packet(Program.REMOTE, 1, 23, PacketType.CALL, 0, Status.OK, big)))
        tls.sendall(pack_packet(Packet(Program.REMOTE, 1, 66, PacketType.CALL, 1, Status.OK, b"")))
        reader = PacketReader()
        found: list[Packet] = []
        while len(found) < 2:
            reader.feed(tls.recv(65536))
            while (packet := reader.next_packet()) is not None:
                found.append(packet)
        assert [(packet.serial, packet.status) for packet in found] == [(0, Status.ERROR), (1, Status.OK)]


def test_events_come_over_tls(remote: Remote) -> None:
    alice = remote.authority.client("bob-events")
    uri = f"test+tls://localhost:{remote.tls_port}/default?pkipath={alice}"
    watcher = subprocess.Popen(
        ["virsh", "-c", uri, "event", "--event", "lifecycle", "--timeout", "20"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        before = remote.house.virsh("list").stdout
        assert "test" in before

        def told() -> bool:
            remote.house.virsh("suspend", "test")
            remote.house.virsh("resume", "test")
            return watcher.poll() is not None

        wait_for("the watcher is told", told)
    finally:
        watcher.kill()
        output, _ = watcher.communicate(timeout=20)
    assert "event 'lifecycle' for domain 'test'" in output


def test_tcp_is_served_without_a_name(remote: Remote) -> None:
    assert "test" in remote.virsh(None, "list").stdout


def test_the_administrator_sees_where_clients_come_from(remote: Remote) -> None:
    admin = ["virt-admin", "-c", f"libvirtd:///system?socket={remote.house.paths.libvirt_admin_socket}"]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*admin, *words], capture_output=True, text=True, check=True, timeout=30, stdin=subprocess.DEVNULL
        )
        return done.stdout

    dave = remote.authority.client("bob-dave")
    context = ssl.create_default_context(cafile=str(remote.authority.certificate))
    context.load_cert_chain(dave / "clientcert.pem", dave / "clientkey.pem")
    with (
        socket.create_connection(("localhost", remote.tls_port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.recv(1) == b"\1"
        rows = [line.split() for line in run("client-list", "libvirtd").splitlines()[2:] if line.strip()]
        numbers = [row[0] for row in rows if row[1] == "tls"]
        assert len(numbers) == 1
        told = run("client-info", "libvirtd", numbers[0])
        assert "C=GB,O=Virtroupe,CN=bob-dave" in told
        assert "127.0.0.1" in told
        run("server-update-tls", "libvirtd")
        assert remote.virsh(dave, "list").returncode == 0


def test_who_never_shakes_hands_holds_a_bounded_number_of_places(remote: Remote) -> None:
    held = [socket.create_connection(("127.0.0.1", remote.tls_port), timeout=10) for _ in range(4)]
    try:
        held[3].settimeout(5)
        assert held[3].recv(1) == b""
        assert remote.house.virsh("list").returncode == 0
    finally:
        for sock in held:
            sock.close()
