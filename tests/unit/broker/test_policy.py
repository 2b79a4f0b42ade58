"""Who may call what, over the whole table."""

from __future__ import annotations

import pytest

from broker.policy import CallerKind, Policy
from schema.access_policy import NATIVE, NOBODY, Person, parse_policy
from schema.errors import AccessDenied, OperationDenied, UnknownProcedure
from schema.table import all_procedures, find_procedure, procedure_names


@pytest.fixture
def policy() -> Policy:
    return Policy(procedure_names(), find_procedure)


def test_no_change_of_the_whole_api_passes_read_only(policy: Policy) -> None:
    changes = [p for p in all_procedures() if not p.is_read]
    assert len(changes) > 150
    for procedure in changes:
        refusal = policy.find_refusal(policy.need_rule(procedure.name), CallerKind.CLIENT, True, "test")
        assert refusal is not None, procedure.name


def test_reads_pass_read_only(policy: Policy) -> None:
    rule = policy.need_rule("domain_get_info")
    assert policy.find_refusal(rule, CallerKind.CLIENT, True, "test") is None


def test_a_refusal_names_the_public_function(policy: Policy) -> None:
    refusal = policy.find_refusal(policy.need_rule("domain_destroy"), CallerKind.CLIENT, True, "test")
    assert isinstance(refusal, OperationDenied)
    assert refusal.message == "operation forbidden: read only access prevents virDomainDestroy"


@pytest.mark.parametrize(
    ("procedure", "destination", "kind"),
    [
        ("broker_actor_state", "broker", CallerKind.WARDEN),
        ("warden_actor_ensure", "warden", CallerKind.BROKER),
        ("warden_actor_gone", "warden", CallerKind.BROKER),
        ("warden_actor_ready", "warden", CallerKind.BROKER),
    ],
)
def test_some_calls_are_one_roles_alone(policy: Policy, procedure: str, destination: str, kind: CallerKind) -> None:
    rule = policy.need_rule(procedure)
    for caller in CallerKind:
        refusal = policy.find_refusal(rule, caller, False, destination)
        assert (refusal is None) == (caller is kind), caller


def test_an_actor_may_ask_the_warden_but_not_command_it(policy: Policy) -> None:
    assert policy.find_refusal(policy.need_rule("warden_actor_list"), CallerKind.ACTOR, False, "warden") is None
    refusal = policy.find_refusal(policy.need_rule("warden_actor_stop"), CallerKind.ACTOR, False, "warden")
    assert isinstance(refusal, AccessDenied)


def test_unknown_names_leave_no_trace(policy: Policy) -> None:
    for number in range(100):
        with pytest.raises(UnknownProcedure):
            policy.need_rule(f"no_such_{number}")
    assert policy._rules == {}


# -- the access policy, for native clients

RULES = """
[[rule]]
who = ["group:operators"]
what = ["domain:start", "domain:getattr", "domain:write", "connect:*"]

[[rule]]
who = ["group:operators"]
what = ["domain:*"]
which = ["tag:mine", "name:web-*"]

[[rule]]
who = ["via:native"]
what = ["network:*"]
"""


def test_native_clients_need_their_permissions_on_all_objects(policy: Policy) -> None:
    operator = parse_policy(RULES).judge(Person("alice", frozenset({"operators"}), "", NATIVE))

    def is_refused(name: str) -> bool:
        return isinstance(policy.find_judgement(policy.need_rule(name), operator), AccessDenied)

    assert not is_refused("domain_create")
    assert is_refused("domain_destroy"), "only of some guests, and which it is the broker does not read"
    assert not is_refused("network_destroy")
    assert is_refused("storage_pool_destroy")
    assert is_refused("warden_actor_stop")
    assert not is_refused("warden_actor_list") and not is_refused("connect_list_all_domains")
    assert is_refused("domain_get_xml_desc"), "with some flags it tells secrets"


def test_nobody_changes_anything_under_a_policy_that_cannot_be_read(policy: Policy) -> None:
    nobody = NOBODY.judge(Person("alice", frozenset(), "", NATIVE))
    for procedure in all_procedures():
        if not procedure.is_read:
            refusal = policy.find_judgement(policy.need_rule(procedure.name), nobody)
            assert isinstance(refusal, AccessDenied), procedure.name
