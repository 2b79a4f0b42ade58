"""The ways to a daemon: TLS and its certificates, TCP, and a program that carries the bytes as ssh does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from remoting.connection import connect_daemon
from schema.body import args_struct
from schema.errors import ArgumentUnsupported, AuthFailed, HypervisorGone, RpcError, VirtError
from schema.table import need_procedure
from tests.process.certificates import Authority
from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.process.test_gateway_tls import free_port

pytestmark = [pytest.mark.process]


@dataclass
class Daemon:
    house: GatewayHouse
    authority: Authority
    alice: Path
    tls_port: int
    tcp_port: int

    def tls(self, pki: Path, host: str = "localhost", more: str = "") -> str:
        return f"test+tls://{host}:{self.tls_port}/default?pkipath={pki}{more}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    server = authority.server("DNS:localhost")
    tls_port, tcp_port = free_port(), free_port()
    config = f"""
[gateway]
listen_tls = "127.0.0.1:{tls_port}"
tls_certificate = "{server}/servercert.pem"
tls_key = "{server}/serverkey.pem"
tls_authority = "{authority.certificate}"
tls_allowed_names = ["C=GB,O=Virtroupe,CN=alice"]
listen_tcp = "127.0.0.1:{tcp_port}"
auth_tcp = "none"
tcp_without_authentication = true
allowed_addresses = ["127.0.0.0/8"]
"""
    with gateway_house(config) as house:
        yield Daemon(house, authority, authority.client("alice"), tls_port, tcp_port)


async def names(uri: str) -> list[str]:
    conn = await connect_daemon(uri)
    try:
        return [dom.name for dom in (await conn.call("connect_list_all_domains", need_results=1, flags=0)).domains]
    finally:
        await conn.aclose()


async def test_tcp(daemon: Daemon) -> None:
    assert await names(f"test+tcp://localhost:{daemon.tcp_port}/default") == ["test"]


async def test_open_files_pass_on_unix_sockets_alone(daemon: Daemon) -> None:
    conn = await connect_daemon(f"test+tcp://localhost:{daemon.tcp_port}/default")
    try:
        associate, create = need_procedure("domain_fd_associate"), need_procedure("domain_create_xml_with_files")
        dom = (await conn.call("domain_lookup_by_name", name="test")).dom
        with pytest.raises(ArgumentUnsupported, match="fd passing is not supported by this connection"):
            await conn.ask_with_files(associate, args_struct(associate)(dom=dom, name="x", flags=0), [0])
        with pytest.raises(ArgumentUnsupported, match="fd passing is not supported by this connection"):
            await conn.ask_with_files(create, args_struct(create)(xml_desc="<domain/>", flags=0), [0])
        assert (await conn.call("domain_is_active", dom=dom)).active == 1
    finally:
        await conn.aclose()


async def test_tls_with_certificates_of_both_sides(daemon: Daemon) -> None:
    assert await names(daemon.tls(daemon.alice)) == ["test"]
    assert await names(daemon.tls(daemon.alice).replace("+tls", "", 1)) == ["test"]


async def test_a_certificate_for_another_name_is_refused_unless_nobody_cares(daemon: Daemon) -> None:
    with pytest.raises(AuthFailed):
        await names(daemon.tls(daemon.alice, host="127.0.0.1"))
    assert await names(daemon.tls(daemon.alice, host="127.0.0.1", more="&no_verify=1")) == ["test"]


async def test_a_daemon_of_another_authority_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "stranger").client("alice")
    with pytest.raises(AuthFailed):
        await names(daemon.tls(stranger))


async def test_a_client_that_the_daemon_does_not_want_is_told(daemon: Daemon) -> None:
    with pytest.raises(AuthFailed, match="certificate"):
        await names(daemon.tls(daemon.authority.client("mallory")))


async def test_certificates_that_cannot_be_read_are_named(daemon: Daemon, tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=r"cacert\.pem"):
        await names(daemon.tls(tmp_path))


def programs(folder: Path) -> tuple[Path, Path]:
    """An ssh that runs the last of its words here, and a netcat."""
    ssh, netcat = folder / "ssh", folder / "netcat"
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    netcat.write_text(
        "#!/usr/bin/env python3\n"
        "import os, socket, sys, threading\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        "sock.connect(sys.argv[2])\n"
        "def up():\n"
        "    while data := os.read(0, 65536):\n"
        "        sock.sendall(data)\n"
        "    sock.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := sock.recv(65536):\n"
        "    os.write(1, data)\n"
    )
    for program in (ssh, netcat):
        program.chmod(0o755)
    return ssh, netcat


async def test_ssh_runs_netcat_on_the_other_host(daemon: Daemon, tmp_path: Path) -> None:
    ssh, netcat = programs(tmp_path)
    socket = daemon.house.paths.libvirt_socket
    uri = f"test+ssh://me@there:2222/default?command={ssh}&netcat={netcat}&socket={socket}&keyfile=/k"
    assert await names(uri) == ["test"]
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("-p 2222 -l me -i /k -T -e none -o BatchMode=yes -- there sh -c")


async def test_what_ssh_says_when_it_fails_is_told(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    with pytest.raises(HypervisorGone, match="Permission denied"):
        await names(f"test+ssh://there/default?command={ssh}")


async def test_a_host_name_is_no_option_of_ssh(tmp_path: Path) -> None:
    ssh, _ = programs(tmp_path)
    with pytest.raises(VirtError):
        await names(f"test+ssh://-oProxyCommand=x/default?command={ssh}")
    asked = tmp_path / "asked"
    assert not asked.exists() or " -- -oproxycommand=x " in asked.read_text().lower()
