"""`python -m tests.conformance [--corpus DIR] [--area A] [--kind K] [--json]`: every case of a corpus with its outcome.

The corpus is any folder of the shared corpus' format: a manifest per area, files named relative to the folder. Kinds
that nothing here can run yet are reported as not implemented, never left out. Exit status 1 when a case failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any


def main() -> int:
    """Prints a table of groups and why their cases failed; with `--json` the outcomes alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--corpus", type=Path, help="a folder of the corpus' format; by default the shared one")
    parser.add_argument("--area", action="append", help="only this area (may be repeated)")
    parser.add_argument("--kind", action="append", help="only this kind (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print nothing but the outcomes, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vtc") as folder:
        if options.corpus is not None:
            # everything that reads the corpus finds it as the folder `corpus` of what VIRTROUPE_SHARED names
            if not (options.corpus / "index.json").exists() and not list(options.corpus.glob("*/manifest.json")):
                parser.error(f"'{options.corpus}' holds no manifest")
            (Path(folder) / "corpus").symlink_to(options.corpus.resolve())
            os.environ["VIRTROUPE_SHARED"] = folder
        from tests.conformance.runner import run_corpus

        results = run_corpus(options.area, options.kind)
        if options.json:
            json.dump({"cases": [one.to_json() for one in results]}, sys.stdout, indent=1)
            print()
        else:
            show(results)
        return 1 if any(one.outcome == "failed" for one in results) else 0


def show(results: list[Any]) -> None:
    """The table, then every failed case with its reason."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    groups: dict[str, Counter[str]] = {}
    for one in results:
        groups.setdefault(one.group, Counter())[one.outcome] += 1
    table = Table(header_style="bold")
    table.add_column("area / kind / object / driver")
    for column in ("passed", "failed", "not implemented"):
        table.add_column(column, justify="right")
    for group, counts in sorted(groups.items()):
        table.add_row(group, *(str(counts[name] or "") for name in ("passed", "failed", "not-implemented")))
    console.print(table)
    for one in results:
        if one.outcome == "failed":
            console.print(f"[red]{one.id}[/red]", one.why.splitlines()[0] if one.why else "", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
