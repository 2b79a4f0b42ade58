"""Every case of the corpus with its outcome, by whatever here knows its kind."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest

from conf.schemas import has_schema
from tests.conformance import qemu_hotplug
from tests.conformance.cases import ROUND_TRIPS, SCHEMA_KINDS, Case, run, schema_verdict
from tests.conformance.kinds import KINDS, difference
from tests.conformance.test_qemu_argv import verdict
from tests.shared import need_shared

WITH_RULES = ("generic", "qemu", "lxc", "bhyve")
"""The drivers whose rules for definitions are written."""


@dataclass(frozen=True, slots=True)
class Result:
    """`outcome` is `passed`, `failed` or `not-implemented`; `why` says more of the last two."""

    id: str
    group: str
    outcome: str
    why: str = ""

    def to_json(self) -> dict[str, str]:
        """As the runner prints it."""
        return {"id": self.id, "outcome": self.outcome, "why": self.why}


def run_corpus(areas: Collection[str] | None = None, kinds: Collection[str] | None = None) -> list[Result]:
    """The results of all cases, or of those of some areas and kinds, manifest by manifest."""
    return [run_case(case) for case in all_cases() if _is_asked(case, areas, kinds)]


def all_cases() -> Iterator[Case]:
    """Every case of every manifest."""
    for manifest in sorted(need_shared("corpus").glob("*/manifest.json")):
        area = manifest.parent.name
        for case in json.loads(manifest.read_text(encoding="utf-8"))["cases"]:
            yield {"area": area, **case}


def run_case(case: Case) -> Result:
    """One case; whatever goes wrong in it is its own failure."""
    group = " / ".join(str(case.get(key, "-")) for key in ("area", "kind", "object", "driver"))
    missing = _why_not(case)
    if missing:
        return Result(case["id"], group, "not-implemented", missing)
    try:
        why = _difference(case)
    except pytest.skip.Exception as exc:  # the corpus lacks what the case needs
        return Result(case["id"], group, "not-implemented", str(exc))
    except Exception as exc:  # a case must not end the run of the others
        why = f"broke: {type(exc).__name__}: {exc}"
    return Result(case["id"], group, "failed" if why else "passed", why)


def _is_asked(case: Case, areas: Collection[str] | None, kinds: Collection[str] | None) -> bool:
    return (not areas or case["area"] in areas) and (not kinds or case["kind"] in kinds)


def _why_not(case: Case) -> str:
    kind, found = case["kind"], case.get("object")
    if kind in KINDS or kind in qemu_hotplug.KINDS:
        return ""
    if kind == "xml-roundtrip":
        if found not in ROUND_TRIPS:
            return f"no document of this kind yet: {found}"
        if found == "domain" and case.get("driver") not in WITH_RULES:
            return f"no rules of the driver '{case.get('driver')}' yet"
        return ""
    if kind in SCHEMA_KINDS:
        return "" if has_schema(case["schema"]) else f"the schema {case['schema']} is not installed on this host"
    if kind == "xml-to-argv" and case.get("driver") == "qemu" and found == "domain":
        return ""
    return f"nothing runs the kind '{kind}' yet"


def _difference(case: Case) -> str:
    if case["kind"] in KINDS:
        return difference(case)
    if case["kind"] in qemu_hotplug.KINDS:
        return qemu_hotplug.run_hotplug(case)
    if case["kind"] == "xml-roundtrip":
        return run(case).difference
    if case["kind"] in SCHEMA_KINDS:
        return schema_verdict(case)
    said = verdict(case)
    return "" if said == "pass" else said
