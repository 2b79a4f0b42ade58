"""The ways to a real libvirtd: ssh with its helper and with netcat, TLS with both certificates, SASL inside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import virtroupe
from actors.remote.driver import RemoteActor
from remoting.connection import connect_daemon
from schema.errors import AuthFailed, AuthUnavailable, HypervisorGone
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.contract.house import open_house
from tests.process.certificates import Authority
from tests.process.test_gateway_sasl import needs_sasl
from tests.process.test_gateway_tls import free_port
from tests.real.ssh_host import SshHost, ssh_host
from tests.real.test_remote_libvirtd import XML, stream_of, until
from tests.real.two_sides import first_whole

pytestmark = pytest.mark.real

USER, PASSWORD = "fred", "top secret"


@dataclass
class Far:
    daemon: Libvirtd
    authority: Authority
    alice: Path
    port: int
    ssh: SshHost
    database: Path

    def tls(self, more: str = "", host: str = "localhost", pki: Path | None = None) -> str:
        return f"test+tls://{host}:{self.port}/default?pkipath={pki or self.alice}{more}"


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        authority = Authority(base / "pki")
        server = authority.server("DNS:localhost,IP:127.0.0.1")
        port = free_port()
        config = f"""
listen_tls = 1
listen_tcp = 0
listen_addr = "127.0.0.1"
tls_port = "{port}"
auth_tls = "none"
ca_file = "{authority.certificate}"
cert_file = "{server}/servercert.pem"
key_file = "{server}/serverkey.pem"
tls_allowed_dn_list = ["*CN=alice*"]
"""
        (base / "ssh").mkdir()
        try:
            daemon = Libvirtd(base / "d", config=config, listens=True)
            daemon.__enter__()
        except CannotRun as exc:
            pytest.skip(str(exc))
        try:
            inside = ["nsenter", "--target", str(daemon.pid), "--mount", "--"]
            with ssh_host(base / "ssh", inside) as ssh:
                yield Far(daemon, authority, authority.client("alice"), port, ssh, base / "users")
        finally:
            daemon.__exit__(None, None, None)
    finally:
        shutil.rmtree(base, ignore_errors=True)


async def names(uri: str) -> list[str]:
    conn = await connect_daemon(uri, timeout_s=30)
    try:
        return [dom.name for dom in (await conn.call("connect_list_all_domains", need_results=1, flags=0)).domains]
    finally:
        await conn.aclose()


@pytest.mark.parametrize("proxy", ["auto", "native", "netcat"])
async def test_ssh_to_a_real_sshd(far: Far, proxy: str) -> None:
    if proxy != "netcat" and shutil.which("virt-ssh-helper") is None:
        pytest.skip("no virt-ssh-helper here")
    assert await names(far.ssh.uri("/default", proxy=proxy)) == ["test"]
    assert await names(far.ssh.uri("/default", proxy=proxy, socket="/run/libvirt/libvirt-sock")) == ["test"]


async def test_ssh_carries_the_whole_library(far: Far) -> None:
    async with virtroupe.connect(far.ssh.uri("/default")) as conn, conn.events(kinds=["lifecycle"]) as events:
        dom = await conn.define(XML)
        async with asyncio.timeout(30):
            event = await anext(events)
        assert isinstance(event, virtroupe.Event)
        assert event.object is not None
        assert event.object.name == "far"
        told = await conn.called("domain_screenshot", {"dom": (await conn.domain("test")).ref, "screen": 0})
        assert told.ticket is not None
        await dom.undefine()


async def test_ssh_carries_the_driver_and_its_streams(far: Far, tmp_path: Path) -> None:
    scope = far.ssh.uri("/default")
    async with open_house(RemoteActor(), scope, tmp_path) as house:
        mine = {"uid": os.geteuid(), "read_only": False}
        await house.outcome(house.post("connect_open", caller=mine, deadline_s=60, name=scope, flags=0))
        dom = (await house.call("domain_define_xml_flags", xml=XML, flags=0)).dom
        await until(lambda: len(house.broker.lifecycle()) >= 1, 30)

        async def take() -> bytes:
            got = bytearray()
            async with await stream_of(house, "domain_screenshot", dom=dom, screen=0, flags=0) as picture:
                while piece := await picture.read():
                    got += piece
            return bytes(got)

        got = await first_whole(take)
        assert got.startswith(b"\x89PNG")
        await house.call("domain_undefine", dom=dom)


async def test_a_key_that_nobody_knows_and_a_host_that_nobody_knows_are_refused(far: Far, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    with pytest.raises(HypervisorGone, match="Host key verification failed"):
        await names(far.ssh.uri("/default", known_hosts=tmp_path / "known"))
    with pytest.raises(HypervisorGone, match="Permission denied"):
        await names(far.ssh.uri("/default", keyfile=tmp_path / "none") + "&no_verify=0")
    assert await names(far.ssh.uri("/default", known_hosts=tmp_path / "known", no_verify=1)) == ["test"]


async def test_tls_with_certificates_of_both_sides(far: Far) -> None:
    assert await names(far.tls()) == ["test"]
    async with virtroupe.connect(far.tls()) as conn:
        assert [guest.name for guest in await conn.list_domains()] == ["test"]


async def test_tls_refuses_who_is_not_meant(far: Far, tmp_path: Path) -> None:
    with pytest.raises(AuthFailed):
        await names(far.tls(pki=Authority(tmp_path / "pki", "stranger").client("alice")))
    with pytest.raises((AuthFailed, HypervisorGone)):
        await names(far.tls(pki=far.authority.client("mallory")))


async def test_sasl_inside_tls_and_on_the_socket() -> None:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        (base / "d" / "sasl").mkdir(parents=True)
        database = base / "d" / "users"
        needs_sasl(database, {USER: PASSWORD})
        (base / "d" / "sasl" / "libvirt.conf").write_text(
            "mech_list: scram-sha-256 digest-md5\n"
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {database}\n"
        )
        authfile = base / "auth.conf"
        authfile.write_text(
            f"[auth-libvirt-default]\ncredentials=x\n[credentials-x]\nauthname={USER}\npassword={PASSWORD}\n"
        )
        wrong = base / "wrong.conf"
        wrong.write_text(authfile.read_text().replace(PASSWORD, "wrong"))
        authority = Authority(base / "pki")
        server, port, tcp_port = authority.server("DNS:localhost"), free_port(), free_port()
        pki = authority.client("alice")
        config = f"""
auth_unix_rw = "sasl"
auth_tls = "sasl"
auth_tcp = "sasl"
listen_tls = 1
listen_tcp = 1
listen_addr = "127.0.0.1"
tls_port = "{port}"
tcp_port = "{tcp_port}"
ca_file = "{authority.certificate}"
cert_file = "{server}/servercert.pem"
key_file = "{server}/serverkey.pem"
"""
        try:
            daemon = Libvirtd(base / "d", config=config, listens=True)
            daemon.__enter__()
        except CannotRun as exc:
            pytest.skip(str(exc))
        try:
            unix = daemon.uri("test:///default")
            tls = f"test+tls://localhost:{port}/default?pkipath={pki}"
            tcp = f"test+tcp://127.0.0.1:{tcp_port}/default"
            for uri in (f"{unix}&authfile=", f"{tls}&authfile=", f"{tcp}?authfile="):
                assert await names(f"{uri}{authfile}") == ["test"]
                with pytest.raises(AuthFailed):
                    await names(f"{uri}{wrong}")
                with pytest.raises(AuthUnavailable):
                    await names(f"{uri}/dev/null")
            async with virtroupe.connect(f"{unix}&authfile=/dev/null", auth=lambda host: (USER, PASSWORD)) as conn:
                assert [guest.name for guest in await conn.list_domains()] == ["test"]
        finally:
            daemon.__exit__(None, None, None)
    finally:
        shutil.rmtree(base, ignore_errors=True)
