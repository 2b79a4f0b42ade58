"""Command lines of guests against recorded ones, for emulators known by a file, by a version or by flags alone.

Not all pass yet. `data/qemu_argv.json` holds how many must; the number may only rise.
"""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast

from actors.qemu.rules import QemuRules
from conf.storage.documents import parse_pool
from conf.storage.pool import Pool
from schema.errors import VirtError
from tests.conformance.cases import parse_flags_of
from tests.conformance.cpus import processors_of
from tests.conformance.drivers import rules_for
from tests.conformance.qemu_launch import build_recorded, same_words, words_of
from tests.shared import need_shared, shared_json

FLOORS: Final = Path(__file__).parent / "data" / "qemu_argv.json"


def cases() -> list[dict[str, Any]]:
    """The recorded command lines."""
    manifest = shared_json("corpus", "qemu", "manifest.json")
    return [one for one in manifest["cases"] if one["kind"] == "xml-to-argv"]


def group_of(case: dict[str, Any]) -> str:
    """The heading under which a case is counted: how the emulator is known, and of which architecture."""
    caps = case["caps"]
    return " ".join((caps["mode"], caps["arch"])) if "arch" in caps else str(caps["mode"])


def pools_of(case: dict[str, Any]) -> dict[str, Pool]:
    """The storage pools of the case's host, by the names of their files."""
    names = case.get("inputs", {}).get("storage_pools", ())
    corpus = need_shared("corpus")
    return {Path(name).stem: parse_pool((corpus / name).read_bytes()) for name in names}


def incoming_of(case: dict[str, Any]) -> str | None:
    """Where a guest that comes from elsewhere is read from; what stands on the input is a descriptor for QEMU."""
    origin: str | None = case.get("migrate_from")
    return f"fd:{case['migrate_fd']}" if origin in ("stdio", "fd") else origin


def verdict(case: dict[str, Any]) -> str:
    """What comes of a case: `pass`, or in a few words why not."""
    corpus = need_shared("corpus")
    xml = (corpus / case["input"]).read_text(encoding="utf-8")
    rules = cast(QemuRules, rules_for(case))
    try:
        groups = {one["name"]: one["fds"] for one in case.get("fd_groups", ())}
        line = build_recorded(
            xml,
            rules,
            case.get("state") or {},
            groups,
            parse_flags_of(case),
            incoming_of(case),
            processors=processors_of(case),
            pools=pools_of(case),
            fips="FLAG_FIPS_HOST" in case.get("test_flags", ()),
        )
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


def test_as_many_command_lines_are_right_as_ever() -> None:
    results = {one["id"]: (group_of(one), verdict(one)) for one in cases()}
    report = os.environ.get("VIRTROUPE_CONFORMANCE_REPORT")
    if report:
        lines = (f"{name}: {said}" for name, (_, said) in results.items() if said != "pass")
        Path(report).write_text("\n".join(lines), encoding="utf-8")
    passed = Counter(group for group, said in results.values() if said == "pass")
    floors = json.loads(FLOORS.read_text(encoding="utf-8"))
    fallen = {group: (passed[group], floor) for group, floor in floors.items() if passed[group] < floor}
    assert not fallen, f"fewer pass than did: {fallen}"
