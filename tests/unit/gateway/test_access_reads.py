"""Every read of the read model, for somebody who may see the objects whose name begins with `a`."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from gateway.access.reads import GuardedReads
from gateway.domains import xdr_text
from gateway.reads import READERS
from gateway.replica import Replica, View
from gateway.routes import Routes, Specials
from rpc.xdr import args_codec, result_codec
from schema.access_policy import Judge, Person, parse_policy
from schema.body import args_struct
from schema.enums.domain_state import DomainState
from schema.objects import DomainRef, NetworkRef, StoragePoolRef
from schema.table import need_procedure
from tests.unit.gateway.records import SCOPE, summary, uuid_of
from tests.unit.gateway.test_hosts import NETWORK, POOL

NAMES = ("a1", "a2", "b1", "b2")
POLICY = """
[[rule]]
who = ["*"]
what = ["connect:*"]
[[rule]]
who = ["*"]
what = ["*"]
which = ["name:a*", "name:/a*"]
"""


def filled() -> View:
    view = View(Replica("test"), SCOPE)
    for number, name in enumerate(NAMES):
        active = name.endswith("1")
        state = DomainState.RUNNING if active else DomainState.SHUTOFF
        view.put("domain", uuid_of(name), name, 1, summary(id=number if active else -1, state=int(state)))
        view.put("network", uuid_of(name), name, 1, {**NETWORK, "active": active})
        view.put("storage_pool", uuid_of(name), name, 1, POOL)
        view.put("interface", name.encode(), name, 1, {"active": True, "mac": f"0{number}", "scope": SCOPE})
        view.put("node_device", name.encode(), name, 1, {"parent": None, "caps": ["system"], "scope": SCOPE})
        secret = {"usage_type": 1, "usage_id": f"/{name}", "ephemeral": False, "private": True, "scope": SCOPE}
        view.put("secret", uuid_of(name), name, 1, secret)
        view.put("nwfilter", uuid_of(name), name, 1, {"scope": SCOPE})
        known = view.domains.by_uuid[uuid_of(name)]
        view.domains.keep_xml(known, bytes(4), xdr_text(f"<domain>{name}</domain>"))
        view.domains.keep_xml(known, b"\0\0\0\1", xdr_text(f"<domain>the secrets of {name}</domain>"))
    return view


def judge_of(policy: str) -> Judge:
    return parse_policy(policy).judge(Person("alice", frozenset(), "", "unix"))


VIEW = filled()
ROUTES = Routes(Specials())
JUDGE = judge_of(POLICY)


def payload_of(name: str, about: str) -> bytes:
    row = need_procedure(name)
    number = NAMES.index(about)
    values: dict[str, Any] = {
        "name": about, "uuid": uuid_of(about), "id": number, "flags": 0, "need_results": 1,
        "dom": DomainRef(about, uuid_of(about), -1), "net": NetworkRef(about, uuid_of(about)),
        "pool": StoragePoolRef(about, uuid_of(about)),
    }  # fmt: skip
    return args_codec(row).encode(args_struct(row)(**{item.name: values[item.name] for item in row.args}))


def read(name: str, payload: bytes, judge: Judge = JUDGE, *, is_unknown: bool = False) -> bytes | None:
    route = ROUTES.route_of(need_procedure(name))
    return GuardedReads(judge, 1).answer(VIEW, route, payload, is_unknown=is_unknown)


@pytest.mark.parametrize(("name", "about"), list(product(sorted(READERS), NAMES)))
def test_only_what_may_be_seen_is_told(name: str, about: str) -> None:
    row = need_procedure(name)
    payload = payload_of(name, about)
    plain = READERS[name](VIEW, payload)
    answer = read(name, payload)
    if row.aclfilter:
        assert plain is not None and answer is not None
        told, everything = result_codec(row).decode(answer), result_codec(row).decode(plain)
        listed = [getattr(told, item.name) for item in row.ret if item.is_list]
        if listed:
            named = [getattr(ref, "usageID", "").lstrip("/") or getattr(ref, "name", "") for ref in listed[0]]
            assert named == ["a1", "a2"]
            assert told.ret == 2
        else:
            assert (told.num, everything.num) == (1, 2)
    elif row.args and about.startswith("b"):
        assert answer is None
    else:
        assert answer == plain
        if not (name == "domain_lookup_by_id" and about == "a2"):
            assert answer is not None


@pytest.mark.parametrize("name", sorted(READERS))
def test_nothing_is_told_to_who_may_not_even_connect(name: str) -> None:
    judge = judge_of("[[rule]]\nwho=['*']\nwhat=['domain:start']\n")
    for about in NAMES:
        assert read(name, payload_of(name, about), judge) is None


@pytest.mark.parametrize("name", sorted(READERS))
@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 4, b"\xff" * 40, bytes(40)])
def test_garbage_goes_the_long_way(name: str, payload: bytes) -> None:
    route = ROUTES.route_of(need_procedure(name))
    try:
        answer = GuardedReads(JUDGE, 1).answer(VIEW, route, payload)
    except ValueError:
        return  # the connection takes it for no answer
    assert answer is None or (payload == b"" and not route.procedure.args)


def test_a_number_is_told_without_the_list() -> None:
    row = need_procedure("connect_list_all_domains")
    payload = args_codec(row).encode(args_struct(row)(need_results=0, flags=0))
    told = result_codec(row).decode(read(row.name, payload) or b"")
    assert (told.domains, told.ret) == ([], 2)


def test_what_needs_more_permissions_goes_the_long_way() -> None:
    row = need_procedure("domain_get_xml_desc")
    dom = DomainRef("a1", uuid_of("a1"), -1)
    plain, private = (args_codec(row).encode(args_struct(row)(dom=dom, flags=flags)) for flags in (0, 1))
    assert read(row.name, plain) == xdr_text("<domain>a1</domain>")
    assert read(row.name, private) is None


def test_the_uuid_counts_and_not_the_name_that_is_told() -> None:
    row = need_procedure("domain_get_os_type")
    lying = DomainRef("a1", uuid_of("b1"), -1)
    assert read(row.name, args_codec(row).encode(args_struct(row)(dom=lying))) is None


def test_no_state_is_told_while_the_driver_is_given_up() -> None:
    row = need_procedure("domain_get_state")
    told = result_codec(row).decode(read(row.name, payload_of(row.name, "a1"), is_unknown=True) or b"")
    assert told.state == DomainState.NOSTATE
    assert read(row.name, payload_of(row.name, "b1"), is_unknown=True) is None


def test_verdicts_are_found_once() -> None:
    asked: list[str] = []

    class Counting(Judge):
        def may(self, kind: str, permission: str, thing: Any = None) -> bool:
            asked.append(kind)
            return True

    reads = GuardedReads(Counting((), otherwise=True), 1)
    route = ROUTES.route_of(need_procedure("domain_get_os_type"))
    payload = payload_of("domain_get_os_type", "a1")
    for _ in range(3):
        assert reads.answer(VIEW, route, payload) is not None
    assert len(asked) == 1
