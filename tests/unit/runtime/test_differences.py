from __future__ import annotations

from typing import Any

import pytest

from actors.runtime.differences import differences
from actors.runtime.objects import Entry
from schema.body import event_data
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_state import DomainPausedReason, DomainShutoffReason, DomainState
from schema.enums.storage_pool import StoragePoolState
from tests.unit.runtime.house import summary

RUNNING = {"id": 1, "state": int(DomainState.RUNNING), "reason": 1}
PAUSED = {"id": 1, "state": int(DomainState.PAUSED), "reason": int(DomainPausedReason.IOERROR)}
OFF: dict[str, Any] = {}


def guest(digest: bytes = b"", **values: Any) -> Entry:
    return Entry("domain", "toy:///", b"u" * 16, "a", dict(summary(**values)), 1, digest)


def told(old: Entry | None, new: Entry | None) -> list[tuple[int, int]]:
    events = differences(old, new)
    for kind, data in events:
        assert event_data(kind, data) is not None
    return [(data["event"], data["detail"]) for kind, data in events if kind == "domain_event_lifecycle"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, OFF, [(Event.DEFINED, 0)]),
        (OFF, None, [(Event.UNDEFINED, 0)]),
        (OFF, RUNNING, [(Event.STARTED, 0)]),
        (None, RUNNING, [(Event.DEFINED, 0), (Event.STARTED, 0)]),
        (RUNNING, {"reason": int(DomainShutoffReason.CRASHED)}, [(Event.STOPPED, 2)]),
        (RUNNING, {"reason": int(DomainShutoffReason.SAVED)}, [(Event.STOPPED, 4)]),
        (RUNNING, {"reason": int(DomainShutoffReason.UNKNOWN)}, [(Event.STOPPED, 5)]),
        (RUNNING, PAUSED, [(Event.SUSPENDED, 2)]),
        (PAUSED, RUNNING, [(Event.RESUMED, 0)]),
        (RUNNING, {**RUNNING, "id": 2}, [(Event.STOPPED, 5), (Event.STARTED, 0)]),
        ({**RUNNING, "persistent": False}, None, [(Event.STOPPED, 5)]),
        (RUNNING, None, [(Event.STOPPED, 5), (Event.UNDEFINED, 0)]),
        (RUNNING, {**RUNNING, "mem": 7}, []),
    ],
)
def test_what_must_have_happened_to_a_guest(
    old: dict[str, Any] | None, new: dict[str, Any] | None, expected: list[tuple[int, int]]
) -> None:
    one = None if old is None else guest(**old)
    other = None if new is None else guest(**new)
    assert told(one, other) == expected
    assert differences(one, other)


def test_another_definition_is_an_update_and_an_unknown_one_is_not() -> None:
    assert told(guest(b"1"), guest(b"2")) == [(Event.DEFINED, 1)]
    assert told(guest(b""), guest(b"2", mem=7)) == []
    assert guest(b"").equals(guest(b"2"))


def test_networks_and_pools_have_lifecycles_too() -> None:
    def network(**values: Any) -> Entry:
        whole = {"active": False, "persistent": True, "autostart": False, "bridge": None, "scope": "", **values}
        return Entry("network", "", b"n" * 16, "default", whole)

    def pool(state: int) -> Entry:
        whole = {"state": state, "persistent": True, "autostart": False, "type": "dir", "scope": ""}
        return Entry("storage_pool", "", b"p" * 16, "default", whole)

    for old, new, numbers in (
        (network(), network(active=True), [2]),
        (network(active=True), None, [3, 1]),
        (None, network(active=True), [0, 2]),
        (pool(StoragePoolState.INACTIVE), pool(StoragePoolState.RUNNING), [2]),
    ):
        events = differences(old, new)
        assert [data["event"] for _, data in events] == numbers
        assert all(event_data(kind, data) for kind, data in events)


def test_what_has_no_event_of_its_own_has_changed() -> None:
    device = Entry("node_device", "", "pci_0", "pci_0", {"active": True})
    assert differences(None, device) == [("changed", {})]
