"""The round trips of the corpus that concern documents: which there are, and what came of one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from conf.document import parse_document
from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags, XmlFlags
from conf.host_interface.documents import parse_host_interface, write_host_interface
from conf.network.documents import parse_network, write_network
from conf.network.port import parse_network_port, write_network_port
from conf.node_device.documents import parse_node_device, write_node_device
from conf.nwfilter.documents import parse_filter_binding, parse_nwfilter, write_filter_binding, write_nwfilter
from conf.schemas import check_schema
from conf.secret.documents import parse_secret, write_secret
from conf.storage.documents import parse_pool, parse_volume, write_pool, write_volume
from schema.errors import VirtError, XmlInvalidSchema
from tests.conformance.drivers import rules_for
from tests.conformance.migration import parameters_round_trip
from tests.conformance.moments import backup_round_trip, checkpoint_round_trip, snapshot_round_trip
from tests.shared import SHARED, shared_json

Case = dict[str, Any]
RoundTrip = Callable[[Case, bytes], str]

_PARSE_FLAGS = {
    "VIR_DOMAIN_DEF_PARSE_INACTIVE": ParseFlags.INACTIVE,
    "VIR_DOMAIN_DEF_PARSE_STATUS": ParseFlags.STATUS,
    "VIR_DOMAIN_DEF_PARSE_ABI_UPDATE": ParseFlags.ABI_UPDATE,
    "VIR_DOMAIN_DEF_PARSE_SKIP_VALIDATE": ParseFlags.SKIP_VALIDATE,
}
_FORMAT_FLAGS = {
    "VIR_DOMAIN_DEF_FORMAT_SECURE": XmlFlags.SECURE,
    "VIR_DOMAIN_DEF_FORMAT_INACTIVE": XmlFlags.INACTIVE,
}


@dataclass(frozen=True)
class Outcome:
    """What came of a case; `difference` is empty when it passed."""

    case: Case
    difference: str

    @property
    def passed(self) -> bool:
        """As libvirt has it, byte for byte."""
        return not self.difference


SCHEMA_KINDS = ("schema-valid", "schema-invalid")
"""Kinds of cases whose documents are only validated."""


def group_of(case: Case) -> str:
    """The heading under which a case is counted."""
    return "/".join(str(case[key]) for key in ("area", "kind", "object"))


def cases_of(area: str) -> Iterator[Case]:
    """The round trips of an area that there is code for, and definitions that are to be read or refused."""
    for case in shared_json("corpus", area, "manifest.json")["cases"]:
        if case["kind"] == "xml-roundtrip" and case.get("object") in ROUND_TRIPS:
            yield case
        elif case["kind"] == "xml-to-argv" and case.get("object") == "domain" and case["driver"] == "qemu":
            yield {**case, "kind": "reading"}


def run(case: Case) -> Outcome:
    """Reads and writes the case's document and compares."""
    source = (SHARED / "corpus" / case["input"]).read_bytes()
    if case["kind"] == "reading":
        return _read(case, source)
    try:
        written = ROUND_TRIPS[case["object"]](case, source)
    except VirtError as exc:
        return Outcome(case, "" if case["expectation"] != "ok" else f"{type(exc).__name__}: {exc}")
    if case["expectation"] != "ok":
        return Outcome(case, "this document should have been refused")
    wanted = (SHARED / "corpus" / case["expected"]).read_text(encoding="utf-8").rstrip("\n")
    if written.rstrip("\n") == wanted:
        return Outcome(case, "")
    lines = difflib.unified_diff(wanted.splitlines(), written.splitlines(), "libvirt", "ours", lineterm="", n=0)
    return Outcome(case, "\n".join(lines) or "differs in blanks")


def schema_verdict(case: Case) -> str:
    """What is wrong when the case's document meets its schema; empty when the two agree as the case says."""
    node = parse_document((SHARED / "corpus" / case["input"]).read_bytes())
    try:
        check_schema(node, case["schema"])
    except XmlInvalidSchema as exc:
        return "" if case["kind"] == "schema-invalid" else str(exc)
    return "this document should not validate" if case["kind"] == "schema-invalid" else ""


def _read(case: Case, source: bytes) -> Outcome:
    """Reads a definition that a command line is made of, or sees it refused, in libvirt's words if they are known."""
    try:
        parse_domain(source, rules_for(case), parse_flags_of(case))
    except VirtError as exc:
        if case["expectation"] != "parse-error":
            return Outcome(case, f"{type(exc).__name__}: {exc}")
        name = case.get("expected_error")
        words = (SHARED / "corpus" / name).read_text(encoding="utf-8").strip() if name is not None else str(exc)
        return Outcome(case, "" if str(exc) == words else f"refused in other words: {exc}")
    return Outcome(case, "this document should have been refused" if case["expectation"] == "parse-error" else "")


def parse_flags_of(case: Case) -> ParseFlags:
    """How the definition of a case for a command line is read."""
    flags = ParseFlags.INACTIVE
    for name in case.get("parse_flags", ()):
        flags |= _PARSE_FLAGS.get(name, ParseFlags.NONE)
    return flags


def _domain(case: Case, source: bytes) -> str:
    parse_flags, format_flags = ParseFlags.NONE, XmlFlags.NONE
    for name in case.get("parse_flags", ()):
        parse_flags |= _PARSE_FLAGS.get(name, ParseFlags.NONE)
    for name in case.get("format_flags", ()):
        format_flags |= _FORMAT_FLAGS.get(name, XmlFlags.NONE)
    return write_domain(parse_domain(source, rules_for(case), parse_flags), format_flags)


def _network(case: Case, source: bytes) -> str:
    return write_network(parse_network(source))


def _pool(case: Case, source: bytes) -> str:
    return write_pool(parse_pool(source))


def _volume(case: Case, source: bytes) -> str:
    pool = parse_pool((SHARED / "corpus" / case["inputs"]["pool"]).read_bytes())
    needs_size = "VIR_VOL_XML_PARSE_NO_CAPACITY" not in case.get("parse_flags", ())
    return write_volume(parse_volume(source, pool, needs_size=needs_size))


def _interface(case: Case, source: bytes) -> str:
    return write_host_interface(parse_host_interface(source))


def _node_device(case: Case, source: bytes) -> str:
    return write_node_device(parse_node_device(source))


def _nwfilter(case: Case, source: bytes) -> str:
    return write_nwfilter(parse_nwfilter(source))


def _filter_binding(case: Case, source: bytes) -> str:
    return write_filter_binding(parse_filter_binding(source))


ROUND_TRIPS: dict[str, RoundTrip] = {
    "domain": _domain,
    "network": _network,
    "storagepool": _pool,
    "storagevol": _volume,
    "interface": _interface,
    "nodedev": _node_device,
    "nwfilter": _nwfilter,
    "nwfilterbinding": _filter_binding,
    "snapshot": snapshot_round_trip,
    "checkpoint": checkpoint_round_trip,
    "backup": backup_round_trip,
    "migration-params": parameters_round_trip,
    "secret": lambda case, source: write_secret(parse_secret(source)),
    "networkport": lambda case, source: write_network_port(parse_network_port(source)),
}
"""How a document of each kind is read and written."""

AREAS = (
    *("bhyve", "domain", "interface", "lxc", "moments", "network"),
    *("nodedev", "nwfilter", "qemu", "secret", "storage"),
)
"""The areas that have cases for documents."""
