"""What holds for all tests: where VIRTROUPE_PEERS=must (`make test` as root), a missing real peer is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


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
    return report
