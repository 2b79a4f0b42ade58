"""What holds for all tests.

Where VIRTROUPE_PEERS=must (`make test` as root), a missing real peer is a failure. A test with real processes that
fails is looked at a second time (docs/design/0011): the first failure is told, and too many of them fail the run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Mapping
from typing import Final

import pytest
import uvloop

MOST_SECOND_LOOKS: Final = 3
_second_looks = pytest.StashKey[list[str]]()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the agent runs on: it refuses things that asyncio's own takes."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_second_looks] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.has_plugin("rerunfailures"):
        return
    for item in items:
        if "storm" in item.path.parts:
            continue  # a promise that a storm saw broken is broken, however the next storm goes
        if item.get_closest_marker("real") is not None or item.get_closest_marker("process") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == 0 and len(session.config.stash[_second_looks]) > MOST_SECOND_LOOKS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    failures = config.stash[_second_looks]
    if failures:
        limit = f", more than {MOST_SECOND_LOOKS}: the run fails" if len(failures) > MOST_SECOND_LOOKS else ""
        terminalreporter.section(f"{len(failures)} failed at first and were tried again{limit}")
        for text in failures:
            terminalreporter.write_line(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and os.environ.get("VIRTROUPE_PEERS") == "must"
        and item.get_closest_marker("real") is not None
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"a real peer is missing, and VIRTROUPE_PEERS=must: {reason}"
    if report.failed and getattr(item, "execution_count", 1) == 1 and item.get_closest_marker("flaky") is not None:
        item.config.stash[_second_looks].append(f"{report.nodeid} ({report.when})\n{report.longreprtext}")
    return report
