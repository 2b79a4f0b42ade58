"""Every document that tells what a host can do, of all drivers and emulators: read, and written the same again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conf.capabilities.documents import parse_capabilities, write_capabilities
from conf.domain_capabilities.documents import parse_domain_capabilities, write_domain_capabilities
from conf.schemas import has_schema
from tests.conformance.runner import all_cases
from tests.shared import SHARED

AGAIN: dict[str, Callable[[bytes], str]] = {
    "domain-capabilities": lambda source: write_domain_capabilities(parse_domain_capabilities(source)),
    "sysfs-to-capabilities": lambda source: write_capabilities(parse_capabilities(source)),
    "caps-to-capabilities": lambda source: write_capabilities(parse_capabilities(source)),
}


@pytest.mark.parametrize("kind", AGAIN)
def test_documents_are_written_as_they_were_read(kind: str) -> None:
    seen = set()
    for case in all_cases():
        if case["kind"] == kind and case["expected"] not in seen:
            seen.add(case["expected"])
            source = (SHARED / "corpus" / case["expected"]).read_bytes()
            assert AGAIN[kind](source).rstrip("\n") == source.decode().rstrip("\n"), case["id"]
    assert seen


@pytest.mark.skipif(not has_schema("domaincaps.rng"), reason="libvirt's schemas are not installed")
def test_they_validate() -> None:
    for case in all_cases():
        if case["kind"] in AGAIN:
            source = (SHARED / "corpus" / case["expected"]).read_bytes()
            if case["kind"] == "domain-capabilities":
                parse_domain_capabilities(source, validate=True)
            else:
                parse_capabilities(source, validate=True)
