"""Who may call what, over the whole table."""

from __future__ import annotations

import pytest

from broker.policy import CallerKind, Policy
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
