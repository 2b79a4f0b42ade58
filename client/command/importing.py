"""Taking over the guests that libvirt defined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypedDict

import typer

from client.command.running import Session, speaks

app = typer.Typer()

DRY_RUN: Final = 1
RUNNING: Final = 2
REFUSED: Final = 1
_WORDS: Final = {
    ("import", False): "would be imported",
    ("import", True): "imported",
    ("adopt", False): "would be taken over running",
    ("adopt", True): "taken over running",
    ("present", False): "known already",
    ("refused", False): "not imported",
}


class Told(TypedDict, total=False):
    """What the driver tells of one thing that it found."""

    kind: str
    name: str
    verdict: str
    done: bool
    reason: str | None
    autostart: bool
    managed_save: bool
    snapshots: int
    checkpoints: int
    notes: list[str]


@app.command("import")
@speaks
async def import_(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="The guests; without, all that libvirt has.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Below which libvirt's folders lie, or a copy of /etc/libvirt."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    running: Annotated[
        bool, typer.Option("--running", help="Also take over guests that run; libvirtd has to be stopped.")
    ] = False,
) -> int:
    """Take over guests that libvirt defined; libvirt's own files stay as they are."""
    flags = (DRY_RUN if dry_run else 0) | (RUNNING if running else 0)
    root = None if source is None else str(source.absolute())
    conn = await session.connect()
    answer = await conn.call("qemu_import_domains", root=root, names=names or [], flags=flags)
    guests: list[Told] = answer.guests if hasattr(answer, "guests") else answer
    session.show(_table(guests), guests)
    return REFUSED if any(one["verdict"] == "refused" for one in guests) else 0


def _table(told: list[Told]) -> str:
    from client.command.output import printable, table

    rows = [(one["name"], _WORDS[one["verdict"], one["done"]], _why(one)) for one in told if one["kind"] == "domain"]
    left: dict[str, list[str]] = {}
    for one in told:
        if one["kind"] != "domain":
            left.setdefault(one["kind"], []).append(one["name"])
    lines = [f"Not taken over: {kind} {', '.join(names)}\n" for kind, names in left.items()]
    return table(("Name", "", "With, or why not"), rows) + "".join(printable(line[:-1]) + "\n" for line in lines)


def _why(one: Told) -> str:
    words = [str(one["reason"])] if one["reason"] else []
    if one.get("autostart"):
        words.append("autostart")
    if one.get("managed_save"):
        words.append("its saved memory")
    for what, count in (("snapshots", one.get("snapshots", 0)), ("checkpoints", one.get("checkpoints", 0))):
        if count:
            words.append(f"{count} {what if count > 1 else what[:-1]}")
    return "; ".join([*words, *one.get("notes", ())])
