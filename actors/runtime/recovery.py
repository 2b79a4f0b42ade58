"""What the last process left behind: which of its unanswered changes had their effect, and what was never published.

The order of a change is state, event, record of the outcome. A process that was killed between two of these has left
evidence: a file with the content that was announced, a closed intent, an event that names the call, or an object that
differs from what was published in just the way that the call would make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from actors.runtime.call_log import Begin, CallLog, Origin
from actors.runtime.context import CurrentCall
from actors.runtime.ledger import Ledger
from actors.runtime.objects import CHANGED, Entry, Objects
from actors.runtime.publisher import Cause, Publisher
from actors.runtime.store import Store
from schema.body import pack_result
from schema.enums.domain_event import DomainEventType
from schema.errors import CallUndone, VirtError, from_wire, to_wire
from schema.model import Procedure
from schema.table import find_procedure

Differences = Callable[[Entry | None, Entry | None], list[tuple[str, dict[str, Any]]]]
ObjectKey = tuple[str, bytes | str]

_STARTED, _STOPPED = int(DomainEventType.STARTED), int(DomainEventType.STOPPED)
_EXPECTED: Final[dict[str, int]] = {
    "domain_create": _STARTED,
    "domain_create_with_flags": _STARTED,
    "domain_create_with_files": _STARTED,
    "domain_create_xml": _STARTED,
    "domain_create_xml_with_files": _STARTED,
    "domain_restore": _STARTED,
    "domain_restore_flags": _STARTED,
    "domain_restore_params": _STARTED,
    "domain_destroy": _STOPPED,
    "domain_destroy_flags": _STOPPED,
    "domain_shutdown": _STOPPED,
    "domain_shutdown_flags": _STOPPED,
    "domain_save": _STOPPED,
    "domain_save_flags": _STOPPED,
    "domain_save_params": _STOPPED,
    "domain_managed_save": _STOPPED,
    "domain_suspend": int(DomainEventType.SUSPENDED),
    "domain_resume": int(DomainEventType.RESUMED),
    "domain_define_xml": int(DomainEventType.DEFINED),
    "domain_define_xml_flags": int(DomainEventType.DEFINED),
    "domain_undefine": int(DomainEventType.UNDEFINED),
    "domain_undefine_flags": int(DomainEventType.UNDEFINED),
}
"""The lifecycle event by which a difference shows that a change had its effect."""


class Recovery:
    """One start's look at what was left; made before the driver touches anything."""

    def __init__(self, calls: CallLog, ledger: Ledger, store: Store) -> None:
        self._calls = calls
        self._ledger = ledger
        # Writers of one file take turns, so one that was followed by another had been done.
        last = {step.path: call for call, step in calls.steps.items()}
        self._done: dict[bytes, bytes | None] = {
            call: step.result
            for call, step in calls.steps.items()
            if last[step.path] != call or store.has_content(step.path, step.crc)
        }
        self._origins: dict[bytes, Origin] = {call: step.origin for call, step in calls.steps.items()}
        self._origins.update((call, begin.origin) for call, begin in calls.begun.items())

    def publish(self, objects: Objects, publisher: Publisher, differences: Differences) -> int:
        """Publishes exactly what differs between the real objects and the ledger; gives how many objects did.

        An object that is as it was published keeps its version. Where nothing was ever published, because this is the
        first start or the ledger was lost, the objects become known without lifecycle events.
        """
        known = dict(self._ledger.entries)
        causes = self._causes()
        count = 0
        for entry in list(objects.everything()):
            old = known.pop(entry.identity, None)
            if old is not None and old.equals(entry):
                entry.version = old.version
                objects.place(old)
                continue
            count += 1
            entry.version = (old.version if old is not None else self._ledger.tombs.get(entry.identity, 0)) + 1
            events = CHANGED if self._ledger.is_new else differences(old, entry)
            self._publish(publisher, events, entry, causes, gone=False)
        for old in known.values():
            count += 1
            gone = Entry(old.type, old.scope, old.key, old.name, old.summary, old.version + 1, old.digest)
            self._publish(publisher, differences(old, None), gone, causes, gone=True)
            objects.bury(gone.identity, gone.version)
        return count

    def settle(self, objects: Objects) -> None:
        """Records an outcome for each change of the last process of which it can be told; the others never began.

        Raises HostSystemError when that cannot be written.
        """
        for call, (intent, closed) in list(self._calls.closed.items()):
            origin = intent.begun.origin
            if origin is None:
                continue
            if closed.done:
                self._end(origin, closed.result, None)
            else:
                cause = None if closed.error is None else from_wire(closed.error)
                text = f"the driver ended during {origin.procedure}, and what had been done was undone"
                self._end(origin, None, CallUndone(text if cause is None else f"{text}: {cause.message}"))
            self._done.pop(call, None)
        for call, result in self._done.items():
            if call in self._origins:
                self._end(self._origins[call], result, None)
        # what is carried on after the start has no outcome yet
        goes_on = {one.begun.origin.call for one in self._calls.open.values() if one.begun.origin is not None}
        for begin in list(self._calls.begun.values()):
            if begin.origin.call in self._ledger.calls and begin.origin.call not in goes_on:
                self._end_by_event(begin, objects)
        self._calls.begun.clear()
        self._calls.steps.clear()

    def _end_by_event(self, begin: Begin, objects: Objects) -> None:
        procedure = find_procedure(begin.origin.procedure)
        if procedure is None:
            return
        kind, key = begin.key
        entry = objects.find(kind, key)
        if not procedure.ret:
            self._end(begin.origin, pack_result(procedure, None), None)
        elif entry is not None and _returns_ref(procedure, kind):
            self._end(begin.origin, pack_result(procedure, entry.ref), None)

    def _end(self, origin: Origin, result: bytes | None, error: VirtError | None) -> None:
        procedure = find_procedure(origin.procedure)
        if procedure is None:
            return
        if result is None and error is None:
            error = CallUndone(f"the driver ended during {origin.procedure}; it was done, but its result is lost")
        call = CurrentCall(
            origin.call,
            procedure,
            caller=origin.who or {},
            trace=origin.trace,
            idempotency_key=origin.idempotency_key,
            digest=origin.digest,
        )
        self._calls.end(call, result, None if error is None else to_wire(error))

    def _causes(self) -> dict[ObjectKey, list[Origin]]:
        causes: dict[ObjectKey, list[Origin]] = {}
        for intent, closed in self._calls.closed.values():
            if closed.done and intent.begun.origin is not None and intent.begun.key is not None:
                causes.setdefault(intent.begun.key, []).append(intent.begun.origin)
        for begin in self._calls.begun.values():
            causes.setdefault(begin.key, []).append(begin.origin)
        return causes

    def _publish(
        self,
        publisher: Publisher,
        events: Any,
        entry: Entry,
        causes: dict[ObjectKey, list[Origin]],
        *,
        gone: bool,
    ) -> None:
        cause = next(self._fitting(causes.get((entry.type, entry.key), []), events), None)
        if cause is None:
            publisher.record(events, entry, gone=gone, origin="unknown")
            return
        self._ledger.calls[cause.call] = None
        publisher.cause = Cause(cause.call, cause.trace, cause.who)
        try:
            publisher.record(events, entry, gone=gone)
        finally:
            publisher.cause = None

    def _fitting(self, origins: list[Origin], events: Any) -> Iterator[Origin]:
        told = {data.get("event") for kind, data in events if kind == "domain_event_lifecycle"}
        for origin in origins:
            if origin.call in self._ledger.calls:
                continue  # its event was published: what differs now is somebody else's doing
            expected = _EXPECTED.get(origin.procedure)
            if origin.call in self._done or origin.call in self._calls.closed or expected in told:
                yield origin


def _returns_ref(procedure: Procedure, kind: str) -> bool:
    return len(procedure.ret) == 1 and procedure.ret[0].type == kind
