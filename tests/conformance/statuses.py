"""Status documents of running guests, read and written again."""

from __future__ import annotations

from typing import Any

from actors.qemu.rules import QemuRules
from actors.qemu.status_document import parse_status, write_status
from tests.conformance.drivers import rules_for
from tests.shared import SHARED


def round_trip(case: dict[str, Any]) -> str:
    """The status as it is kept again."""
    rules = rules_for(case)
    assert isinstance(rules, QemuRules)
    return write_status(parse_status((SHARED / "corpus" / case["input"]).read_bytes(), rules))
