"""GSSAPI over bare TCP with tickets of a real key server: real virsh and our own client prove and encrypt by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from remoting.connection import connect_daemon
from schema.errors import AuthFailed
from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.process.key_server import KeyServer, key_server
from tests.process.test_gateway_tls import free_port
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.process, pytest.mark.real, pytest.mark.timeout(300)]

POLICY = """
[[rule]]
who = ["sasl:fred*"]
what = ["connect:*", "domain:getattr", "domain:read"]
"""


@dataclass
class Place:
    house: GatewayHouse
    keys: KeyServer
    uri: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    need_virsh()
    policy = tmp_path_factory.mktemp("gssapi") / "policy.toml"
    policy.write_text(POLICY)
    with key_server() as keys, pytest.MonkeyPatch.context() as patch:
        for name, value in keys.environment.items():
            patch.setenv(name, value)
        port = free_port()
        config = f"""
[gateway]
listen_tcp = "localhost:{port}"
auth_tcp = "sasl"
sasl_mechanisms = ["GSSAPI"]
sasl_keytab = "{keys.folder}/keytab"
sasl_allowed_names = ["fred*"]
access_policy = "{policy}"
[test]
keep = true
"""
        with gateway_house(config) as house:
            made = Place(house, keys, f"test+tcp://localhost:{port}/default?authfile=/dev/null")
            wait_for("the driver serves", lambda: house.virsh("list", timeout=90).returncode == 0, 60)
            yield made
            house.show_logs()


async def test_who_has_a_ticket_is_let_in_and_nobody_else(place: Place) -> None:
    refused = place.house.virsh("list", uri=place.uri, timeout=90)
    assert refused.returncode != 0
    assert "authentication failed" in refused.stderr
    with pytest.raises(AuthFailed):
        await connect_daemon(place.uri)

    place.keys.log_in()
    told = place.house.virsh("domstate", "test", uri=place.uri, timeout=90)
    assert told.stdout.strip() == "running", told.stderr
    assert place.house.virsh("capabilities", uri=place.uri, timeout=90).stdout.startswith("<capabilities>")
    conn = await connect_daemon(place.uri)
    try:
        found = await conn.call("connect_list_all_domains", need_results=1, flags=0)
        assert [dom.name for dom in found.domains] == ["test"]
        assert (await conn.call("connect_get_capabilities")).capabilities.startswith("<capabilities>")
    finally:
        await conn.aclose()

    denied = place.house.virsh("suspend", "test", uri=place.uri, timeout=90)
    assert "access denied" in denied.stderr
    assert "who=fred" in (log := place.house.log_of("gateway")), log
