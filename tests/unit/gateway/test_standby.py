from __future__ import annotations

from typing import Any, cast

import pytest

from broker.peer import IncomingCall
from broker.wire import CallPrologue
from gateway.reads import READERS
from gateway.replica import Replica
from gateway.standby import PROCEDURES, Standby
from schema.body import args_struct, pack_args, unpack_result
from schema.errors import DriverDegraded, UnknownProcedure, VirtError
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.unit.gateway.records import SCOPE, domain_object, uuid_of
from util.structured_log import StructuredLog


class FakePeer:
    def __init__(self) -> None:
        self.answers: list[tuple[bytes, dict[str, Any] | None]] = []
        self.errors: list[VirtError] = []

    def reply(self, call: IncomingCall, body: bytes, *, seq: int, ticket: dict[str, Any] | None = None) -> None:
        self.answers.append((body, ticket))

    def fail(self, call: IncomingCall, error: VirtError, *, seq: int) -> None:
        self.errors.append(error)


class FakeGateway:
    """The gateway, as far as its standby looks at it."""

    def __init__(self) -> None:
        self.known = Replica("test")
        self.known.load(1, 5, [domain_object("a", id=1, state=1)], 100.0)
        self.known.serves = frozenset(READERS)
        self.known.set_state("degraded")
        self.feed = self

    def replica(self, source: str) -> Replica:
        return self.known if source == "test" else Replica(source)

    def clock(self) -> float:
        return 107.5


def called(name: str, scope: str = SCOPE, /, **args: Any) -> IncomingCall:
    row = need_procedure(name)
    body = pack_args(row, args_struct(row)(**args))
    return IncomingCall(b"c" * 16, 1, 0, None, CallPrologue(name, scope), body)


@pytest.fixture
def peer() -> FakePeer:
    return FakePeer()


@pytest.fixture
def standby(peer: FakePeer) -> Standby:
    made = Standby(StructuredLog("gateway"), on_fenced=lambda: None)
    made.start(cast(Any, peer), cast(Any, FakeGateway()))
    return made


def test_what_was_last_known_is_told_with_its_age(standby: Standby, peer: FakePeer) -> None:
    standby.on_call(called("connect_list_all_domains", need_results=1, flags=0))
    body, ticket = peer.answers[0]
    result = unpack_result(need_procedure("connect_list_all_domains"), body)
    assert result.domains == [DomainRef("a", uuid_of("a"), 1)]
    assert ticket == {"age_s": 7.5}


def test_no_state_is_told(standby: Standby, peer: FakePeer) -> None:
    standby.on_call(called("domain_get_state", dom=DomainRef("a", uuid_of("a"), 1), flags=0))
    assert unpack_result(need_procedure("domain_get_state"), peer.answers[0][0]).state == 0


def test_what_is_not_known_is_said_to_be_unknown_and_not_gone(standby: Standby, peer: FakePeer) -> None:
    standby.on_call(called("domain_lookup_by_name", name="b"))
    standby.on_call(called("connect_num_of_domains", "qemu:///system"))
    assert [type(error) for error in peer.errors] == [DriverDegraded, DriverDegraded]


def test_other_calls_are_refused(standby: Standby, peer: FakePeer) -> None:
    standby.on_call(called("domain_suspend", dom=DomainRef("a", uuid_of("a"), 1)))
    assert isinstance(peer.errors[0], UnknownProcedure)


def test_only_reads_are_offered() -> None:
    assert all(need_procedure(name).is_read for name in PROCEDURES)
