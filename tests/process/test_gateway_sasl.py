"""SASL, as real virsh proves who its user is: on the unix socket, over bare TCP with encryption, with a policy."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.auth.sasl_library import SaslLibrary
from remoting.connection import connect_daemon
from rpc.packet import Packet, PacketReader, PacketType, Program, Status, pack_packet
from rpc.xdr import args_codec, error_codec, result_codec
from schema.body import args_struct
from schema.errors import AuthFailed, AuthUnavailable, ErrorCode, InvalidArguments, VirtError
from schema.table import need_procedure
from tests.process.certificates import Authority
from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.process.sasl_users import write_users
from tests.process.test_gateway_tls import free_port
from tests.real.virsh_session import need_virsh, virsh_session
from util.sasl import SaslError

pytestmark = [pytest.mark.process, pytest.mark.real, pytest.mark.timeout(300)]

POLICY = """
[[rule]]
who = ["sasl:fred*"]
what = ["*"]

[[rule]]
who = ["sasl:greta*"]
what = ["connect:*", "domain:getattr", "domain:read"]
"""


def needs_sasl(database: Path, users: dict[str, str]) -> None:
    """Writes the users; skips where the host has no SASL library, or not the mechanisms that are tried here."""
    need_virsh()
    try:
        write_users(database, users)
        options = {"mech_list": "DIGEST-MD5 SCRAM-SHA-256", "auxprop_plugin": "sasldb", "sasldb_path": str(database)}
        library = SaslLibrary(options, lambda level, message: None)
        try:
            session = library.session(None, None)
            session.secure(0, 0, is_private=True)
            found = session.mechanisms()
            session.close()
        finally:
            library.close()
    except (SaslError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no SASL here: {exc}")
    if not {"DIGEST-MD5", "SCRAM-SHA-256"} <= set(found.split(",")):
        pytest.skip(f"the mechanisms here are {found}")


@dataclass
class Place:
    house: GatewayHouse
    folder: Path
    port: int
    tls_port: int
    authority: Authority

    def credentials(self, name: str, password: str) -> Path:
        path = self.folder / f"auth-{name}-{len(password)}.conf"
        hosts = "".join(
            f"[auth-libvirt-{host}]\ncredentials=mine\n" for host in ("localhost", "127.0.0.1", socket.gethostname())
        )
        path.write_text(f"[credentials-mine]\nauthname={name}\nusername={name}\npassword={password}\n{hosts}")
        return path

    def uri(self, transport: str, credentials: Path, mode: str = "") -> str:
        if transport == "tls":
            pki = self.folder / "alice"
            return f"test+tls://localhost:{self.tls_port}/default?authfile={credentials}&pkipath={pki}"
        if transport == "tcp":
            return f"test+tcp://127.0.0.1:{self.port}/default?authfile={credentials}"
        path = self.house.paths.libvirt_socket_read_only if mode == "ro" else self.house.paths.libvirt_socket
        return f"test+unix:///default?socket={path}&authfile={credentials}"

    def virsh(self, transport: str, user: str, password: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.house.virsh(*words, uri=self.uri(transport, self.credentials(user, password)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("sasl")
    database = folder / "users"
    needs_sasl(database, {"fred": "top secret", "greta": "hunter2", "mallory": "let me in"})
    (folder / "policy.toml").write_text(POLICY)
    authority = Authority(folder)
    server = authority.server()
    authority.client("alice")
    port, tls_port = free_port(), free_port()
    config = f"""
[gateway]
listen_tcp = "127.0.0.1:{port}"
auth_tcp = "sasl"
listen_tls = "127.0.0.1:{tls_port}"
auth_tls = "sasl"
tls_certificate = "{server}/servercert.pem"
tls_key = "{server}/serverkey.pem"
tls_authority = "{authority.certificate}"
auth_unix = "sasl"
sasl_mechanisms = ["DIGEST-MD5", "SCRAM-SHA-256"]
sasl_database = "{database}"
sasl_allowed_names = ["fred*", "greta*"]
access_policy = "{folder}/policy.toml"
max_greetings = 4
[test]
keep = true
"""
    with gateway_house(config) as house:
        made = Place(house, folder, port, tls_port, authority)
        wait_for("the driver serves", lambda: house.virsh("list", uri=house.uri(read_only=True)).returncode in (0, 1))
        yield made
        house.show_logs()


@pytest.mark.parametrize("transport", ["unix", "tcp", "tls"])
def test_who_has_the_password_is_let_in(place: Place, transport: str) -> None:
    done = place.virsh(transport, "fred", "top secret", "list", "--all")
    assert done.returncode == 0, done.stderr
    assert "test" in done.stdout
    long = place.virsh(transport, "fred", "top secret", "capabilities")
    assert long.stdout.startswith("<capabilities>"), long.stderr
    assert "a client proved who it is" in place.house.log_of("gateway")


@pytest.mark.parametrize("transport", ["unix", "tcp", "tls"])
def test_a_wrong_password_or_name_is_refused_in_libvirts_words(place: Place, transport: str) -> None:
    for user, password in (("fred", "topsecret"), ("nobody", "top secret")):
        done = place.virsh(transport, user, password, "list")
        assert done.returncode != 0
        assert "authentication failed: authentication failed" in done.stderr


async def test_our_own_client_proves_itself_and_encrypts(place: Place) -> None:
    """Over bare TCP by DIGEST-MD5, which libsasl2 knows; nothing that is said afterwards can be read on the way."""
    conn = await connect_daemon(place.uri("tcp", place.credentials("fred", "top secret")))
    try:
        found = await conn.call("connect_list_all_domains", need_results=1, flags=0)
        assert [dom.name for dom in found.domains] == ["test"]
        told = await asyncio.gather(*(conn.call("connect_get_capabilities") for _ in range(8)))
        assert all(one.capabilities.startswith("<capabilities>") for one in told)
        long = "x" * 200_000
        with pytest.raises(VirtError):
            await conn.call("domain_lookup_by_name", name="x" * 100_000)
        with pytest.raises(InvalidArguments):
            await conn.call("domain_define_xml", xml="x" * 5_000_000)
        with pytest.raises(VirtError):
            await conn.call("domain_define_xml", xml=long)
    finally:
        await conn.aclose()
    for user, password in (("fred", "topsecret"), ("nobody", "top secret")):
        with pytest.raises(AuthFailed):
            await connect_daemon(place.uri("tcp", place.credentials(user, password)))
    with pytest.raises(AuthUnavailable):
        await connect_daemon(f"test+tcp://127.0.0.1:{place.port}/default?authfile=/dev/null")


def test_a_known_user_who_is_not_allowed_is_refused(place: Place) -> None:
    done = place.virsh("unix", "mallory", "let me in", "list")
    assert done.returncode != 0
    assert "authentication failed" in done.stderr
    assert "is not one of those who may connect" in place.house.log_of("gateway")


def test_the_policy_knows_the_name(place: Place) -> None:
    # over TCP: whoever the tests run as stands above the policy on the host itself
    assert place.virsh("tcp", "greta", "hunter2", "domstate", "test").stdout.strip() == "running"
    done = place.virsh("tcp", "greta", "hunter2", "suspend", "test")
    assert done.returncode != 0
    assert "access denied" in done.stderr
    assert "who=greta" in place.house.log_of("gateway")
    assert place.virsh("tcp", "fred", "top secret", "suspend", "test").returncode == 0
    assert place.virsh("tcp", "fred", "top secret", "resume", "test").returncode == 0


def test_the_administrator_sees_the_name(place: Place, bare: Bare) -> None:
    bare.sock.sendall(bare.packed("auth_list"))
    bare.packet()
    uri = place.uri("tcp", place.credentials("fred", "top secret"))
    with virsh_session(uri, "event", "--all", "--loop") as session:
        found: list[str] = []

        def told() -> bool:
            lines = [line.split() for line in admin(place, "client-list", "libvirtd").splitlines()[2:]]
            found[:] = [admin(place, "client-info", "libvirtd", words[0]) for words in lines if words]
            return any("sasl_user_name" in text and "fred" in text for text in found)

        wait_for("the name is told", told)
        assert any("sasl_user_name" not in text for text in found), "of the one who has not proved it"
        wait_for("the one who has not proved it is counted", lambda: unproved(place) == 1)
        session.interrupt()
        session.wait()


def unproved(place: Place) -> int:
    told = [line.split(":") for line in admin(place, "server-clients-info", "libvirtd").splitlines() if line]
    return {name.strip(): int(value) for name, value in told}["nclients_unauth"]


def admin(place: Place, *words: str) -> str:
    uri = f"libvirtd:///system?socket={place.house.paths.libvirt_admin_socket}"
    done = subprocess.run(
        ["virt-admin", "-c", uri, *words], capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout


# --- what no real client does ---


class Bare:
    """A client that says what it likes over TCP."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.reader = PacketReader()
        self.serial = 0

    def packed(self, name: str, /, **args: object) -> bytes:
        row = need_procedure(name)
        payload = args_codec(row).encode(args_struct(row)(**args))
        made = pack_packet(Packet(Program.REMOTE, 1, row.number, PacketType.CALL, self.serial, Status.OK, payload))
        self.serial += 1
        return made

    def packet(self) -> Packet:
        while (packet := self.reader.next_packet()) is None:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionResetError
            self.reader.feed(data)
        return packet

    def error(self, name: str, /, **args: object) -> tuple[int, str]:
        self.sock.sendall(self.packed(name, **args))
        packet = self.packet()
        assert packet.status == Status.ERROR
        record = error_codec().decode(packet.payload)
        return record.code, record.message


@pytest.fixture
def bare(place: Place) -> Iterator[Bare]:
    made = Bare(place.port)
    yield made
    made.sock.close()


def test_nothing_else_is_answered_before(bare: Bare) -> None:
    for name, args in (
        ("connect_open", {"name": "test:///default", "flags": 0}),
        ("connect_get_hostname", {}),
        ("connect_supports_feature", {"feature": 10}),
    ):
        code, message = bare.error(name, **args)
        assert (code, "authentication required" in message) == (ErrorCode.RPC, True)


def test_only_mechanisms_that_encrypt_are_offered_over_tcp(bare: Bare) -> None:
    bare.sock.sendall(bare.packed("auth_list") + bare.packed("auth_sasl_init"))
    told = [bare.packet(), bare.packet()]
    assert result_codec(need_procedure("auth_list")).decode(told[0].payload).types == [1]
    assert result_codec(need_procedure("auth_sasl_init")).decode(told[1].payload).mechlist == "DIGEST-MD5"


def test_steps_out_of_order_are_refused_and_three_end_the_connection(bare: Bare) -> None:
    assert bare.error("auth_sasl_step", nil=1, data=b"")[0] == ErrorCode.AUTH_FAILED
    assert bare.error("auth_sasl_start", mech="PLAIN", nil=0, data=b"\0fred\0top secret")[0] == ErrorCode.AUTH_FAILED
    assert bare.error("auth_polkit")[0] == ErrorCode.AUTH_FAILED
    assert bare.error("auth_sasl_start", mech="NOSUCH", nil=1, data=b"")[0] == ErrorCode.AUTH_FAILED
    with pytest.raises(ConnectionError):
        bare.packet()


def test_there_is_room_for_so_many_unknown_clients(place: Place) -> None:
    wait_for("those before are gone", lambda: unproved(place) == 0)
    held = [Bare(place.port) for _ in range(12)]
    try:
        answered = 0
        for client in held:
            try:
                client.sock.sendall(client.packed("auth_list"))
                client.packet()
                answered += 1
            except ConnectionError:
                pass
        assert answered == 4
    finally:
        for client in held:
            client.sock.close()
    wait_for("there is room again", lambda: place.virsh("tcp", "fred", "top secret", "list").returncode == 0)


def test_rubbish_inside_the_encryption_ends_the_connection_only(place: Place) -> None:
    with socket.create_connection(("127.0.0.1", place.port), timeout=30) as sock:
        sock.sendall(struct.pack(">I", 0xFFFFFFF0) + bytes(64))
        assert sock.recv(16) == b""
    assert place.virsh("tcp", "fred", "top secret", "list").returncode == 0
