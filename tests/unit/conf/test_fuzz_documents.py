"""Documents of the corpus, damaged at random: read or refused in the project's own words, and soon."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lxml import etree

from actors.qemu.migration.cookies import parse_migration_cookie, write_migration_cookie
from conf.capabilities.documents import parse_capabilities, write_capabilities
from conf.domain.domain import Domain
from conf.domain_capabilities.documents import parse_domain_capabilities, write_domain_capabilities
from conf.storage.capabilities import parse_pool_capabilities, write_pool_capabilities
from conf.storage.sources import parse_pool_sources, write_pool_sources
from schema.errors import VirtError
from tests.conformance.cases import AREAS, ROUND_TRIPS, Case, RoundTrip, cases_of
from tests.conformance.runner import all_cases
from tests.shared import SHARED

SLOWEST_S = 2.0
"""The CPU time after which a document counts as a hang."""

MOST_MEMORY = 3 << 30
"""The address space of the whole test process meanwhile."""

_NASTY = (
    *("", " ", "-1", "0", "00", "1", "4294967295", "4294967296", "18446744073709551615", "18446744073709551616"),
    *("9" * 40, "0x", "0xffffffffff", "1e9", "1_0", "٣", "NaN", "yes", "no", "on", "off", "default", "none", "auto"),
    *("/", "../../..", "a" * 5000, "'\"<>&", "%s%n", "é\u2028", "1-", "0-4294967295", "^1", "1,,2", "$X", "0-1,^0"),
    *(
        "qemu",
        "kvm",
        "pci",
        "usb",
        "virtio",
        "network",
        "block",
        "volume",
        "file",
        "dir",
        "host-model",
        "s390x",
        "vdzz",
    ),
    *("ffff:ff:1f.7", "::", "fe80::1%eth0", "256.0.0.1", "10.0.0.0/33", "52:54:00:00:00:00:00", "KiB", "EiB", "XX"),
)


READERS: dict[str, RoundTrip] = {
    **ROUND_TRIPS,
    "domain-caps": lambda case, source: write_domain_capabilities(parse_domain_capabilities(source)),
    "capabilities": lambda case, source: write_capabilities(parse_capabilities(source)),
    "storagepool-caps": lambda case, source: write_pool_capabilities(parse_pool_capabilities(source)),
    "storagepool-sources": lambda case, source: write_pool_sources(parse_pool_sources(source)),
    "migration-cookie": lambda case, source: write_migration_cookie(
        parse_migration_cookie(source, MOVING, MOVING.uuid)
    ),
}
"""How a document of each kind is read and written; those beside the round trips are what cases expect."""

MOVING = Domain.parse(
    etree.fromstring("<domain type='kvm'><name>upstream</name><uuid>dcf47dbd46d14d5bb442262a806a333a</uuid></domain>")
)


def test_damaged_documents_are_refused_in_our_words() -> None:
    fuzz(1500, seed=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_damaged_documents_for_long() -> None:
    fuzz(100_000, seed=random.randrange(1 << 32))


def fuzz(count: int, seed: int) -> None:
    """Reads, completes and writes so many damaged documents; a failure names the seed and the document."""
    chance = random.Random(seed)
    sources = [
        (case, source)
        for area in AREAS
        for case in cases_of(area)
        if case["kind"] == "xml-roundtrip" and len(source := (SHARED / "corpus" / case["input"]).read_bytes()) < 100_000
    ]
    others = READERS.keys() - ROUND_TRIPS.keys()
    sources += [
        (case, (SHARED / "corpus" / case["expected"]).read_bytes())
        for case in all_cases()
        if case.get("object") in others and "expected" in case
    ]
    assert len(sources) > 500
    refused = 0
    with _memory_limit():
        for number in range(count):
            case, source = chance.choice(sources)
            donor = chance.choice(sources)[1]
            document = damaged(chance, source, donor)
            refused += not _survives(case, document, f"seed {seed}, document {number}")
    assert 0.1 < refused / count < 0.95, "mutations that change nothing, or break everything, find nothing"


@contextmanager
def _memory_limit() -> Iterator[None]:
    """A document that wants gigabytes fails the test instead of ending it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _survives(case: Case, document: bytes, where: str) -> bool:
    start = time.process_time()
    accepted = done = False
    try:
        READERS[case["object"]](case, document)
        accepted = done = True
    except VirtError:
        done = True
    finally:
        if not done:  # whatever it is, it goes on and fails the test, which then says of which document
            print(f"{where}, from {case['id']}:\n{document.decode('utf-8', 'replace')}")
    took = time.process_time() - start
    assert took < SLOWEST_S, f"{where}, from {case['id']}: took {took:.1f} s\n{document!r}"
    return accepted


def damaged(chance: random.Random, source: bytes, donor: bytes) -> bytes:
    """The document with a few changes to its bytes or, mostly, to its tree."""
    if chance.random() < 0.15:
        return _damaged_bytes(chance, source)
    try:
        root, other = etree.fromstring(source), etree.fromstring(donor)
    except etree.XMLSyntaxError:
        return _damaged_bytes(chance, source)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        _damage_tree(chance, root, other)
    return bytes(etree.tostring(root))


def _damaged_bytes(chance: random.Random, source: bytes) -> bytes:
    data = bytearray(source)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            del data[place : place + chance.randint(1, 40)]
        elif kind == 1:
            data[place:place] = chance.choice((b"<", b">", b"&", b"&x;", b"\0", b"\xff", b"<!--", b"<![CDATA[", b"x"))
        elif kind == 2:
            data[place : place + 1] = bytes((chance.randrange(256),))
        else:
            data[place:place] = data[place : place + chance.randint(1, 200)]
    return bytes(data)


def _damage_tree(chance: random.Random, root: Any, other: Any) -> None:
    nodes = [node for node in root.iter() if isinstance(node.tag, str)]
    donors = [node for node in other.iter() if isinstance(node.tag, str)]
    node = chance.choice(nodes)
    kind = chance.randrange(9)
    if kind == 0 and node.attrib:
        del node.attrib[chance.choice(list(node.attrib))]
    elif kind in (1, 2) and node.attrib:
        node.attrib[chance.choice(list(node.attrib))] = chance.choice(_NASTY)
    elif kind == 3 and node.attrib:
        theirs = chance.choice(donors)
        if theirs.attrib:
            node.attrib[chance.choice(list(node.attrib))] = chance.choice(list(theirs.attrib.values()))
    elif kind == 4 and len(node) == 0:
        node.text = chance.choice(_NASTY)
    elif kind == 5 and node is not root:
        node.getparent().remove(node)
    elif kind == 6 and node is not root:
        node.addnext(_copy(node))
    elif kind == 7:
        node.append(_copy(chance.choice(donors)))
    else:
        same = [one for one in donors if one.tag == node.tag]
        if same and node is not root:
            node.getparent().replace(node, _copy(chance.choice(same)))


def _copy(node: Any) -> Any:
    return etree.fromstring(etree.tostring(node, with_tail=False))
