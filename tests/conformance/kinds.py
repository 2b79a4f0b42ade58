"""Cases that ask for one text: what is made of a case, by its kind, and how it differs from what is recorded."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from schema.errors import VirtError
from tests.conformance import blocks, cpus, domains, emulators, migration, pools, statuses
from tests.conformance.host import cpu_times, node_info, sysfs_to_capabilities, sysinfo
from tests.conformance.networks import network_update
from tests.shared import SHARED, need_shared, shared_json

Case = dict[str, Any]

KINDS: Final[dict[str, Callable[[Case], str]]] = {
    **blocks.KINDS,
    **cpus.KINDS,
    **emulators.KINDS,
    "domain-filesystem-lookup": domains.has_filesystem,
    "gluster-pool-sources": pools.gluster_sources,
    "migration-cookie-roundtrip": migration.round_trip,
    "network-update": network_update,
    "procstat-to-cpustats": cpu_times,
    "qmp-migparams-to-json": migration.parameters_to_json,
    "qmp-migparams-to-xml": migration.parameters_to_xml,
    "status-xml-roundtrip": statuses.round_trip,
    "status-xml-to-migration-cookie": migration.first_cookie,
    "storagepool-capabilities": pools.capabilities,
    "sysfs-to-capabilities": sysfs_to_capabilities,
    "sysfs-to-nodeinfo": node_info,
    "sysinfo-to-xml": sysinfo,
}
"""How the text of a case is made. A VirtError refuses the case, in which some must end."""


def difference(case: Case) -> str:
    """What is wrong with what is made of a case; empty when it is as recorded, byte for byte."""
    try:
        made = KINDS[case["kind"]](case)
    except VirtError as exc:
        return "" if case["expectation"] != "ok" else f"{type(exc).__name__}: {exc}"
    if case["expectation"] != "ok":
        return "this case should have been refused"
    wanted = _wanted(case)
    if made.rstrip("\n") == wanted.rstrip("\n"):
        return ""
    lines = difflib.unified_diff(wanted.splitlines(), made.splitlines(), "libvirt", "ours", lineterm="", n=0)
    return "\n".join(lines) or "differs in blanks"


def _wanted(case: Case) -> str:
    if "expected" in case:
        return (SHARED / "corpus" / case["expected"]).read_text(encoding="utf-8")
    return str(case["expected_text"] if "expected_text" in case else case["expected_value"])


def cases_of_kind(kind: str) -> Iterator[Case]:
    """All cases of a kind, of whatever area."""
    for manifest in sorted(need_shared("corpus").glob("*/manifest.json")):
        for case in shared_json("corpus", manifest.parent.name, "manifest.json")["cases"]:
            if case["kind"] == kind:
                yield case


def passing() -> Counter[str]:
    """How many cases of each kind pass."""
    return Counter({kind: sum(_passes(case) for case in cases_of_kind(kind)) for kind in KINDS})


def _passes(case: Case) -> bool:
    try:
        return not difference(case)
    except pytest.skip.Exception:  # this host or this driver lacks what the case needs
        return False
