"""Documents of guests that libvirt wrote, whatever from: reading and writing them changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conf.document import parse_document
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from tests.conformance.runner import all_cases
from tests.shared import SHARED

AREAS = ("bhyve", "domain", "lxc", "vmx", "xen")


def written(area: str) -> Iterator[str]:
    """The domain documents that cases of an area end in."""
    for case in all_cases():
        path = str(case.get("expected", ""))
        if case["area"] == area and path.endswith(".xml") and case.get("object", "domain") == "domain":
            yield path


@pytest.mark.parametrize("area", AREAS)
def test_what_libvirt_wrote_is_written_back(area: str) -> None:
    paths = sorted(set(written(area)))
    assert paths, f"the corpus has no domain documents of the area {area}"
    changed = []
    for path in paths:
        text = (SHARED / "corpus" / path).read_text(encoding="utf-8")
        domain = Domain.parse(parse_document(text, name="domain", root="domain"))
        if write_domain(domain, XmlFlags.SECURE).rstrip("\n") != text.rstrip("\n"):
            changed.append(path)
    assert not changed
