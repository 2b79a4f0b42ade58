"""The access policy at the broker: a native client of another user may change what the policy allows it everywhere."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.peer import Peer
from schema.errors import AccessDenied
from tests.fakes.role import FakeRole
from tests.process.broker_process import BrokerHouse, broker_house
from tests.process.test_broker_calls import ask

NOBODY = 65534

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="being another user needs root"),
]

POLICY = """
[[rule]]
who = ["user:{user}"]
what = ["domain:start", "domain:write", "domain:getattr"]

[[rule]]
who = ["user:{user}"]
what = ["domain:*"]
which = ["tag:mine"]
"""


@contextmanager
def another_user() -> Iterator[None]:
    """The kernel tells the broker who connects at that moment."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[BrokerHouse]:
    user = pwd.getpwuid(NOBODY).pw_name
    policy = tmp_path / "access.toml"
    policy.write_text(POLICY.format(user=user))
    with broker_house(f'[broker]\nallow = ["user:{user}"]\n[gateway]\naccess_policy = "{policy}"\n') as house:
        house.root.chmod(0o755)
        yield house


async def test_the_policy_is_about_native_clients_too(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    root = await Peer.connect_client(house.paths)
    with another_user():
        client = await Peer.connect_client(house.paths)
    assert (await ask(client, "domain_create"))["caller"]["uid"] == NOBODY
    with pytest.raises(AccessDenied):
        await ask(client, "domain_reboot", s=0.0)
    assert len(role.calls) == 1
    await ask(root, "domain_reboot", s=0.0)
    assert "access refused" in house.log.read_text()
    for peer in (client, root):
        await peer.aclose()
    await role.aclose()
