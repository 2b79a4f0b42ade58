"""`python -m tests.bench [NAME ...] [--json FILE]`: runs the benchmarks, prints one table, writes one JSON file.

Each module of this folder with a `measure()` is a benchmark. One that cannot run here (no QEMU, no libvirtd) says so by
raising `CannotRun` and is listed as left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.report import CannotRun, Measure

FOLDER = Path(__file__).parent


def benchmarks() -> list[str]:
    """The names of all modules that measure something."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if "\ndef measure(" in p.read_text(encoding="utf-8"))


def table_of(measures: dict[str, list[Measure]]) -> Table:
    """Name, figure, peer, ratio, goal."""
    table = Table(title="Virtroupe benchmarks", header_style="bold")
    for column, justify in (
        ("what", "left"),
        ("value", "right"),
        ("peer", "right"),
        ("ratio", "right"),
        ("goal", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, rows in measures.items():
        table.add_section()
        for m in rows:
            goal = (
                ""
                if m.goal is None
                else f"{'>=' if m.higher_is_better else '<='} {m.goal:g}{'x' if m.of_ratio else ''}"
            )
            style = {True: "green", False: "red", None: ""}[m.reached]
            peer = "" if m.peer is None else f"{m.peer:,.4g} {m.against}"
            ratio = "" if m.ratio is None else f"{m.ratio:.2f}x"
            table.add_row(f"{name}: {m.name}", f"{m.value:,.4g} {m.unit}", peer, ratio, goal, style=style)
    return table


def main() -> int:
    """Exit status 1 when a benchmark failed to run; a goal that is missed is reported, not failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", help="which benchmarks; all of them by default")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures go")
    options = parser.parse_args()
    console = Console()
    measures: dict[str, list[Measure]] = {}
    failed: list[str] = []
    for name in options.names or benchmarks():
        begin = time.monotonic()
        console.print(f"[dim]{name} ...[/dim]")
        try:
            measures[name] = importlib.import_module(f"tests.bench.{name}").measure()
        except CannotRun as exc:
            console.print(f"[yellow]{name} is left out: {exc}[/yellow]")
            continue
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        console.print(f"[dim]{name}: {time.monotonic() - begin:.1f} s[/dim]")
    console.print(table_of(measures))
    host = {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    figures = {name: [m.to_json() for m in rows] for name, rows in measures.items()}
    options.json.write_text(json.dumps({"host": host, "measures": figures}, indent=1) + "\n", encoding="utf-8")
    console.print(f"figures: {options.json}")
    if failed:
        console.print(f"[red]could not run: {', '.join(failed)}[/red]")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
