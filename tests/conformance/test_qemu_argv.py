"""Command lines of guests against those that were recorded for the newest emulator.

Not all pass yet. `data/qemu_argv.json` holds how many must; the number may only rise.
"""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from schema.errors import VirtError
from tests.conformance.qemu_caps import capabilities_of
from tests.conformance.qemu_launch import build_recorded, same_words, words_of
from tests.shared import need_shared, shared_json

FLOORS: Final = Path(__file__).parent / "data" / "qemu_argv.json"
ARCHES: Final = ("x86_64",)


def cases(arch: str) -> list[dict[str, Any]]:
    """The recorded command lines of the newest emulator of an architecture."""
    manifest = shared_json("corpus", "qemu", "manifest.json")
    return [
        one
        for one in manifest["cases"]
        if one["kind"] == "xml-to-argv" and one["caps"]["mode"] == "latest" and one["caps"]["arch"] == arch
    ]


def verdict(case: dict[str, Any]) -> str:
    """What comes of a case: `pass`, or in a few words why not."""
    corpus = need_shared("corpus")
    xml = (corpus / case["input"]).read_text(encoding="utf-8")
    caps = capabilities_of(case)
    try:
        groups = {one["name"]: one["fds"] for one in case.get("fd_groups", ())}
        line = build_recorded(xml, caps, case.get("state") or {}, groups)
    except VirtError as exc:
        return "pass" if case["expectation"] != "ok" else f"refused: {exc.message}"
    except Exception as exc:  # whatever it is, it is this case's fault and not the end of the others
        return f"broke: {type(exc).__name__}: {exc}"
    if case["expectation"] != "ok":
        return f"accepted, must be refused: {case['expectation']}"
    text = (corpus / case["expected"]).read_text(encoding="utf-8").replace("\\\n", " ")
    wanted = shlex.split(text)
    found = words_of(line)
    if same_words(found, wanted):
        return "pass"
    place = next(
        (n for n, pair in enumerate(zip(found, wanted, strict=False)) if not same_words(*([w] for w in pair))), -1
    )
    return f"differs at word {place}: ours {found[place - 1 : place + 2]} theirs {wanted[place - 1 : place + 2]}"


@pytest.mark.parametrize("arch", ARCHES)
def test_as_many_command_lines_are_right_as_ever(arch: str) -> None:
    results = {one["id"]: verdict(one) for one in cases(arch)}
    passed = sum(1 for said in results.values() if said == "pass")
    report = os.environ.get("VIRTROUPE_CONFORMANCE_REPORT")
    if report:
        Path(report).write_text("\n".join(f"{k}: {v}" for k, v in results.items() if v != "pass"), encoding="utf-8")
    floor = json.loads(FLOORS.read_text(encoding="utf-8"))[arch]
    kinds = Counter(said.split(":")[0] for said in results.values())
    assert passed >= floor, f"{passed} of {len(results)} pass, {floor} did: {kinds}"
