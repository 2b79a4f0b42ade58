"""What is found in a domain of the corpus."""

from __future__ import annotations

from typing import Any

from conf.domain.documents import parse_domain
from conf.domain.filesystem import filesystem_at
from tests.shared import SHARED


def has_filesystem(case: dict[str, Any]) -> str:
    """Whether something is mounted at the path that the case names."""
    domain = parse_domain((SHARED / "corpus" / case["input"]).read_bytes())
    return str(filesystem_at(domain.devices.filesystems, case["path"]) is not None)
