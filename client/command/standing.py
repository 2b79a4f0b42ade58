"""How the agent stands: every process of it, its state, its restarts and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from broker.peer import Peer
    from settings.paths import Paths

ASK_S: Final = 3.0
PROCESS_HEADINGS: Final = ("Process", "State", "Pid", "Up")
ACTOR_HEADINGS: Final = (
    "Driver",
    "State",
    "Pid",
    "Epoch",
    "Up",
    "Crashes",
    "Calls",
    "Waiting",
    "Memory",
    "Limit",
    "Files",
    "Why",
)


async def standing(paths: Paths, peer: Peer) -> dict[str, Any]:
    """The broker's status, with what supervisord and the warden know in it. Raises VirtError."""
    from client.command.rising import ask
    from client.tree import processes

    status = dict((await ask(peer, "broker", "broker_status", ASK_S)).status)
    status["processes"] = processes(paths)
    status["limits"] = {row["name"]: row for row in await warden_rows(peer, status)}
    return status


async def warden_rows(peer: Peer, status: dict[str, Any]) -> list[dict[str, Any]]:
    """What the warden knows of each actor; what the broker knows when the warden is not there."""
    from client.command.rising import ask
    from schema.errors import VirtError

    try:
        rows = list((await ask(peer, "warden", "warden_actor_list", ASK_S)).actors)
    except VirtError:
        rows = [
            {"name": name, "state": entry["state"], "why": entry["why"], "pid": entry["pid"], "epoch": entry["epoch"]}
            for name, entry in sorted(status["actors"].items())
            if name not in ("gateway", "warden")
        ]
    for row in rows:
        known = status["actors"].get(row["name"])
        if known is not None:
            row["state"] = known["state"]  # whether it is ready is first known there
            row["epoch"] = known["epoch"]
    return rows


def standing_text(status: dict[str, Any]) -> str:
    """The tables that a person reads."""
    from client.command.output import size, table

    journal = status["journal"]
    head = (
        f"Journal: {journal['appended']} events since the broker started, "
        f"{size(journal['bytes'] // 1024)} in {journal['segments']} segments; clients: {_count(status['clients'])}\n"
    )
    rows = [(p["name"], p["state"], p["pid"] or "-", age(p["up_s"])) for p in status["processes"]]
    actors = [actor_cells(row, status["actors"].get(row["name"], {})) for row in status["limits"].values()]
    return f"{table(PROCESS_HEADINGS, rows)}\n{table(ACTOR_HEADINGS, actors)}\n{head}"


def actor_cells(row: dict[str, Any], entry: dict[str, Any]) -> tuple[object, ...]:
    """One line of the table of actors."""
    from client.command.output import size

    limit = row.get("memory_mib")
    return (
        row["name"],
        row["state"],
        row.get("pid") or "-",
        row.get("epoch") or "-",
        age(row.get("up_s")),
        row.get("crashes", "-"),
        entry.get("calls", "-"),
        entry.get("waiting", "-"),
        size(row.get("rss_kib") or None),
        "-" if limit is None else size(limit * 1024),
        row.get("open_files", "-"),
        row.get("why") or "",
    )


def age(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(clients: object) -> int:
    return len(clients) if isinstance(clients, list | dict | tuple) else int(str(clients))
