"""Processors by number, from what QEMU tells of slots and of those that run."""

from __future__ import annotations

from typing import Any

from actors.qemu.monitor.processors import processor_entries


def slot(socket: int, path: str | None, count: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {"props": {"socket-id": socket}, "vcpus-count": count, "type": "max-cpu"}
    return found if path is None else {**found, "qom-path": path}


def cpu(index: int, path: str) -> dict[str, Any]:
    return {"cpu-index": index, "thread-id": 100 + index, "qom-path": path}


def test_slots_are_numbered_by_place_and_told_from_those_that_run() -> None:
    slots = [slot(2, None), slot(1, "/machine/peripheral/vcpu1"), slot(0, "/machine/unattached/device[0]")]
    running = [cpu(0, "/machine/unattached/device[0]"), cpu(1, "/machine/peripheral/vcpu1")]
    first, second, third = processor_entries(running, slots, 3)
    assert (first.online, first.hotpluggable, first.thread, first.enabled_as, first.alias) == (
        True,
        False,
        100,
        1,
        None,
    )
    assert (second.online, second.hotpluggable, second.alias, second.enabled_as) == (True, True, "vcpu1", 2)
    assert (third.online, third.hotpluggable, third.thread) == (False, True, None)


def test_threads_of_a_core_stand_below_it() -> None:
    slots = [slot(0, "/core", 2)]
    running = [cpu(0, "/core/thread[0]"), cpu(1, "/core/thread[1]")]
    assert [one.thread for one in processor_entries(running, slots, 2)] == [100, 101]


def test_numbers_that_do_not_fit_leave_what_runs() -> None:
    entries = processor_entries([cpu(0, "/a")], [slot(0, "/a")], 2)
    assert [(one.online, one.type) for one in entries] == [(True, None), (False, None)]
    assert processor_entries([cpu(0, "/b")], [slot(0, "/a")], 1)[0].thread == 100
