"""The conformance runner as a command: any folder of the corpus' format, every case with an outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.architecture.tree import ROOT
from tests.conformance.runner import all_cases


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def small_corpus(folder: Path, wanted: str) -> None:
    """A corpus of three cases: one that passes, one whose recorded answer is wrong, one of an unknown kind."""
    area = folder / "network"
    area.mkdir(parents=True)
    document = (
        "<network>\n  <name>n</name>\n  <uuid>81ff0d90-c91e-6742-64da-4a736edb9a9b</uuid>\n"
        "  <forward mode='bridge'/>\n  <bridge name='br0'/>\n</network>\n"
    )
    (area / "in.xml").write_text(document, encoding="utf-8")
    (area / "out.xml").write_text(wanted, encoding="utf-8")
    case: dict[str, Any] = {
        "id": "good",
        "name": "n",
        "kind": "xml-roundtrip",
        "object": "network",
        "driver": "network",
        "input": "network/in.xml",
        "expected": "network/in.xml",
        "expectation": "ok",
    }
    bad = {**case, "id": "bad", "expected": "network/out.xml"}
    unknown = {**case, "id": "unknown", "kind": "network-to-poem"}
    (area / "manifest.json").write_text(json.dumps({"cases": [case, bad, unknown]}), encoding="utf-8")


def test_any_folder_of_the_format_is_run(tmp_path: Path) -> None:
    small_corpus(tmp_path, "<network/>\n")
    done = run_command("--corpus", str(tmp_path), "--json")
    outcomes = {one["id"]: one for one in json.loads(done.stdout)["cases"]}
    assert done.returncode == 1
    assert {name: one["outcome"] for name, one in outcomes.items()} == {
        "good": "passed",
        "bad": "failed",
        "unknown": "not-implemented",
    }
    assert outcomes["bad"]["why"]
    assert "network-to-poem" in outcomes["unknown"]["why"]


def test_the_table_says_why_a_case_failed(tmp_path: Path) -> None:
    small_corpus(tmp_path, "<network/>\n")
    done = run_command("--corpus", str(tmp_path), "--kind", "xml-roundtrip")
    assert "bad" in done.stdout
    assert "good" not in done.stdout


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    done = run_command("--corpus", str(tmp_path))
    assert done.returncode == 2
    assert "no manifest" in done.stderr


def test_no_case_of_the_shared_corpus_is_left_out() -> None:
    done = run_command("--area", "network", "--area", "secret", "--json")
    told = [one["id"] for one in json.loads(done.stdout)["cases"]]
    assert sorted(told) == sorted(c["id"] for c in all_cases() if c["area"] in ("network", "secret"))
