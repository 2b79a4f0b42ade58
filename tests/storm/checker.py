"""Reads a history and names everything in it that breaks a promise of docs/protocol.md.

It runs alone too: `python -m tests.storm.checker HISTORY.jsonl` prints the faults and exits with 1 if there are any.
The model is one state machine per object; a storm lets one client at a time change an object, so the order of
acknowledged changes is the order of invocation.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.storm.history import Happening, History, Operation, read_history

# A native call ends in a result, an error of the driver about the object's state, or one of these.
WRITTEN_VERDICTS = {
    "ok",
    "Busy",
    "Cancelled",
    "DeadlinePassed",
    "CallUndone",
    "CallPending",
    "DriverDegraded",
    "DriverStopped",
}
STATE_ANSWERS = {"DomainStateError", "NoSuchDomain", "DomainExists"}
# Verdicts that leave open whether the change happened.
OPEN_VERDICTS = {"CallPending", "DeadlinePassed", "Cancelled", None}
NO_EFFECT_VERDICTS = {"CallUndone", "Busy", "DriverDegraded", "DriverStopped"} | STATE_ANSWERS

DEFINED, UNDEFINED, STARTED, SUSPENDED, RESUMED, STOPPED = 0, 1, 2, 3, 4, 5

# procedure -> (lifecycle event it causes, state it needs, state it gives)
CHANGES = {
    "domain_define_xml_flags": (DEFINED, None, "shutoff"),
    "domain_create_with_flags": (STARTED, "shutoff", "running"),
    "domain_suspend": (SUSPENDED, "running", "paused"),
    "domain_resume": (RESUMED, "paused", "running"),
    "domain_destroy_flags": (STOPPED, "active", "shutoff"),
    "domain_undefine_flags": (UNDEFINED, "shutoff", None),
}


def check(history: History) -> list[str]:
    """Every fault, in words; an empty list when all promises held."""
    return [
        *_outcomes(history),
        *_journal_order(history),
        *_subscribers(history),
        *_effects(history),
        *_states(history),
    ]


def _outcomes(history: History) -> Iterator[str]:
    for op in history.operations:
        if op.verdict is None or op.ended is None:
            yield f"silence: {_named(op)} never got an outcome"
        elif op.verdict not in WRITTEN_VERDICTS | STATE_ANSWERS:
            yield f"unwritten verdict: {_named(op)} ended in {op.verdict}: {op.message}"


def _journal_order(history: History) -> Iterator[str]:
    last: dict[str, tuple[int, int]] = {}
    versions: dict[tuple[str, str], int] = {}
    for h in history.journal:
        if h.source in last:
            epoch, seq = last[h.source]
            if h.seq != seq + 1:
                yield f"journal gap: {h.source} goes from seq {seq} to {h.seq}"
            if h.epoch < epoch:
                yield f"journal order: {h.source} goes back from epoch {epoch} to {h.epoch}"
        last[h.source] = (h.epoch, h.seq)
        if h.object:
            key = (h.source, h.object)
            before = versions.get(key)
            # one change may have several events, which share its version
            if before is not None and h.version not in (before, before + 1):
                yield f"object order: {h.source} {h.object} goes from version {before} to {h.version}"
            versions[key] = h.version


def _subscribers(history: History) -> Iterator[str]:
    whole = [(h.generation, h.offset) for h in history.journal]
    content = {(h.generation, h.offset): _content(h) for h in history.journal}
    for name, seen in history.subscribers.items():
        distinct: list[Happening] = []
        known: set[tuple[int, int]] = set()
        for h in seen:
            if (h.generation, h.offset) not in known:
                known.add((h.generation, h.offset))
                distinct.append(h)
        positions = [(h.generation, h.offset) for h in distinct]
        if not positions:
            if whole:
                yield f"subscriber {name} saw nothing of {len(whole)} events"
            continue
        if missing := [p for p in whole if p not in known]:
            yield f"subscriber {name} lost {len(missing)} events, the first at {missing[0]}"
        if invented := [p for p in positions if p not in content]:
            yield f"subscriber {name} saw {len(invented)} events that the journal lacks, the first at {invented[0]}"
        if positions != sorted(positions):
            yield f"subscriber {name} saw events out of order"
        if changed := [h for h in distinct if content.get((h.generation, h.offset), _content(h)) != _content(h)]:
            yield f"subscriber {name} saw another content at {(changed[0].generation, changed[0].offset)}"


def _effects(history: History) -> Iterator[str]:
    caused: dict[str, list[Happening]] = defaultdict(list)
    for h in history.journal:
        if h.call is not None and h.kind == "domain_event_lifecycle":
            caused[h.call].append(h)
    for op in history.operations:
        if op.procedure not in CHANGES:
            continue
        event = CHANGES[op.procedure][0]
        count = Counter(h.data.get("event") for h in caused.get(op.call, []))[event]
        if op.verdict == "ok" and count == 0:
            yield f"lost event: {_named(op)} was acknowledged, the journal has no event of it"
        if count > 1:
            yield f"doubled effect: {_named(op)} caused its event {count} times"
        if op.verdict in NO_EFFECT_VERDICTS and count and op.verdict != "CallUndone":
            yield f"effect of a refused call: {_named(op)} ended in {op.verdict}, yet the journal has its event"


def _states(history: History) -> Iterator[str]:
    """Follows each object through its acknowledged changes; open verdicts fork into both possibilities."""
    by_object: dict[str, list[Operation]] = defaultdict(list)
    for op in history.operations:
        if op.object and op.procedure in CHANGES:
            by_object[op.object].append(op)
    for name in {*by_object, *history.initial, *history.final}:
        possible: set[str | None] = {history.initial.get(name)}
        for op in sorted(by_object.get(name, []), key=lambda o: o.invoked):
            after = _apply(op, possible)
            if not after:
                was = sorted(map(str, possible))
                yield f"impossible answer: {_named(op)} ended in {op.verdict} though {name} was {was}"
                after = {CHANGES[op.procedure][2]} if op.verdict == "ok" else possible
            possible = after
        end = history.final.get(name)
        if end not in possible:
            if end is None:
                yield f"false deletion: {name} is gone; acknowledged changes left it {sorted(map(str, possible))}"
            elif possible == {None}:
                yield f"invented object: {name} is {end}, acknowledged changes left nothing"
            else:
                yield f"lost change: {name} is {end}, acknowledged changes left it {sorted(map(str, possible))}"
    undefined = {
        h.object for h in history.journal if h.kind == "domain_event_lifecycle" and h.data.get("event") == UNDEFINED
    }
    asked = {op.object for op in history.operations if op.procedure == "domain_undefine_flags"}
    for name in undefined - asked:
        yield f"false deletion: an event says that {name} was undefined, nobody asked for it"


def _apply(op: Operation, possible: set[str | None]) -> set[str | None]:
    _, needs, gives = CHANGES[op.procedure]
    if op.verdict == "ok":
        if op.procedure == "domain_define_xml_flags":
            return {state if state is not None else "shutoff" for state in possible}
        return {gives for state in possible if _fits(state, needs)}
    if op.verdict in STATE_ANSWERS:
        return {state for state in possible if not _fits(state, needs)}
    if op.verdict in OPEN_VERDICTS:
        happened = {gives for state in possible if _fits(state, needs)}
        return possible | happened
    return possible


def _fits(state: str | None, needs: str | None) -> bool:
    if needs is None:
        return True
    if needs == "active":
        return state in {"running", "paused"}
    return state == needs


def _content(h: Happening) -> tuple[object, ...]:
    return (h.source, h.epoch, h.seq, h.kind, h.object, h.version, h.call)


def _named(op: Operation) -> str:
    return f"{op.procedure} of {op.object[:8] or 'the host'} by {op.client} (call {op.call})"


if __name__ == "__main__":
    faults = check(read_history(Path(sys.argv[1])))
    print("\n".join(faults) or "all promises held")
    sys.exit(1 if faults else 0)
