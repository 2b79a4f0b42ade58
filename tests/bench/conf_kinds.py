"""Milliseconds to read, write and validate a document of each kind: the mean over those of the corpus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from conf.document import parse_document
from conf.host_interface.documents import parse_host_interface, write_host_interface
from conf.network.documents import parse_network, write_network
from conf.node_device.documents import parse_node_device, write_node_device
from conf.nwfilter.documents import parse_nwfilter, write_nwfilter
from conf.schemas import SCHEMAS, check_schema
from conf.secret.documents import parse_secret, write_secret
from conf.storage.documents import parse_pool, write_pool
from schema.errors import XmlInvalidSchema
from tests.bench.report import CannotRun, Measure
from tests.shared import SHARED, shared_json

ROUNDS: Final = 5
KINDS: Final[dict[str, tuple[str, str, Callable[[bytes], Any], Callable[[Any], str]]]] = {
    "network": ("network", "network", parse_network, write_network),
    "nwfilter": ("nwfilter", "nwfilter", parse_nwfilter, write_nwfilter),
    "node device": ("nodedev", "nodedev", parse_node_device, write_node_device),
    "interface": ("interface", "interface", parse_host_interface, write_host_interface),
    "secret": ("secret", "secret", parse_secret, write_secret),
    "pool": ("storage", "storagepool", parse_pool, write_pool),
}
"""By name: area and object in the corpus, and what reads and writes it."""


def documents(area: str, kind: str) -> Iterator[bytes]:
    """The documents of the corpus that are read back as they are."""
    for case in shared_json("corpus", area, "manifest.json")["cases"]:
        if case["kind"] == "xml-roundtrip" and case["object"] == kind and case["expectation"] == "ok":
            yield (SHARED / "corpus" / case["input"]).read_bytes()


def mean_ms(work: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """Milliseconds for one of them; the best of some rounds."""
    things = list(items)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for thing in things:
            work(thing)
        best = min(best, time.perf_counter() - began)
    return best * 1000 / len(things)


def measure() -> list[Measure]:
    """Reads, writes and validates all of each kind."""
    if not (SHARED / "corpus").is_dir():
        raise CannotRun("there is no corpus")
    rows = []
    for name, (area, kind, parse, write) in KINDS.items():
        texts = list(documents(area, kind))
        note = f"{len(texts)} documents"
        rows.append(Measure(f"{name}: parse", mean_ms(parse, texts), "ms", note=note))
        rows.append(Measure(f"{name}: write", mean_ms(write, [parse(text) for text in texts]), "ms", note=note))
        if SCHEMAS.is_dir():
            rows.append(Measure(f"{name}: validate", mean_ms(_judge, map(parse_document, texts)), "ms", note=note))
    return rows


def _judge(node: Any) -> bool:
    try:
        check_schema(node)
    except XmlInvalidSchema:
        return False
    return True
