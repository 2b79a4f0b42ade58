"""Who is let in: tokens, secrets, the allow list, the form of a hello."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from broker.admission import AllowList, ClientIds, Credentials, Hello, Tokens, read_hello
from schema.errors import AccessDenied, InvalidMessage, NotRegistered

WHO = Credentials(100, 1000, 1000)


def test_a_client_gets_an_id_that_nobody_can_guess() -> None:
    ids = ClientIds(b"k" * 32)
    granted = {ids.admit(Hello("client"), 1000, False)[0] for _ in range(100)}
    assert len(granted) == 100
    assert {len(routing_id) for routing_id in granted} == {17}


def test_a_client_resumes_its_id_with_its_secret() -> None:
    ids = ClientIds(b"k" * 32)
    routing_id, secret = ids.admit(Hello("client"), 1000, False)
    assert ClientIds(b"k" * 32).admit(Hello("client", resume=(routing_id, secret)), 1000, False)[0] == routing_id


def test_an_id_cannot_be_resumed_by_others() -> None:
    ids = ClientIds(b"k" * 32)
    routing_id, secret = ids.admit(Hello("client"), 1000, True)
    other, _ = ids.admit(Hello("client"), 1000, True)
    attempts: list[tuple[Hello, int, bool]] = [
        (Hello("client", resume=(routing_id, secret)), 1001, True),  # another user
        (Hello("client", resume=(routing_id, secret)), 1000, False),  # through the read-write door
        (Hello("client", resume=(other, secret)), 1000, True),  # another id
        (Hello("client", resume=(routing_id, b"")), 1000, True),
        (Hello("client", resume=(routing_id, 5)), 1000, True),
        (Hello("client", resume=(b"qemu#1." + b"0" * 32, secret)), 1000, True),
    ]
    for hello, uid, read_only in attempts:
        with pytest.raises(NotRegistered):
            ids.admit(hello, uid, read_only)
    with pytest.raises(NotRegistered):
        ClientIds(b"x" * 32).admit(Hello("client", resume=(routing_id, secret)), 1000, True)


def test_a_role_needs_its_own_token_and_user(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_bytes(b"q" * 32)
    (tmp_path / "test").write_bytes(b"t" * 32)
    tokens = Tokens(lambda role: tmp_path / role)
    tokens.check("qemu", b"q" * 32, WHO, frozenset({1000}))
    for role, token, uids in (
        ("qemu", b"t" * 32, {1000}),
        ("qemu", b"", {1000}),
        ("qemu", b"q" * 32, {1001}),
        ("none", b"", {1000}),
    ):
        with pytest.raises(AccessDenied):
            tokens.check(role, token, WHO, frozenset(uids))


def test_a_replaced_token_counts_at_once(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_bytes(b"1" * 32)
    tokens = Tokens(lambda role: tmp_path / role)
    tokens.check("qemu", b"1" * 32, WHO, frozenset({1000}))
    (tmp_path / "qemu").write_bytes(b"2" * 32)
    tokens.check("qemu", b"2" * 32, WHO, frozenset({1000}))
    with pytest.raises(AccessDenied):
        tokens.check("qemu", b"1" * 32, WHO, frozenset({1000}))


def test_the_read_write_door_is_for_root_the_agents_user_and_who_is_listed() -> None:
    allowed = AllowList(frozenset({0, 500}), frozenset({77}))
    allowed.check(Credentials(1, 0, 0))
    allowed.check(Credentials(1, 500, 500))
    allowed.check(Credentials(1, 1000, 77))
    allowed.check(Credentials(1, 1000, 1000, frozenset({4, 77})))
    with pytest.raises(AccessDenied):
        allowed.check(Credentials(1, 1000, 1000, frozenset({4})))


def test_the_allow_list_is_read_from_names() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert os.getuid() in AllowList.of(12345, (f"user:{me}",)).uids
    assert AllowList.of(12345, ()).uids == {0, 12345}
    with pytest.raises(ValueError, match="neither"):
        AllowList.of(0, ("everybody",))
    with pytest.raises(KeyError):
        AllowList.of(0, ("user:no-such-user-here",))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"v": 2, "role": "client"},
        {"v": 1},
        {"v": 1, "role": 5},
        {"v": 1, "role": "client", "program": b"x"},
        {"v": 1, "role": "qemu", "token": "text"},
        {"v": 1, "role": "client", "resume": [b"id"]},
        {"v": 1, "role": "client", "resume": ["id", b"secret"]},
        {"v": 1, "role": "client", "resume": 7},
    ],
)
def test_a_hello_of_another_form_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        read_hello(message)


def test_a_hello_is_read() -> None:
    assert read_hello({"v": 1, "role": "client", "program": "p" * 100, "resume": None}) == Hello("client", "p" * 64)
    hello = read_hello({"v": 1, "role": "qemu", "token": b"t", "pid": 5, "resume": [b"id", 3]})
    assert hello == Hello("qemu", "", b"t", (b"id", 3))
