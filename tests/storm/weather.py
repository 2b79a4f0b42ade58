"""The bad weather: SIGKILL (or SIGSTOP) for random roles of an agent, and a look at what its processes hold.

A role's process is found by the lock file that it holds for life, never by name: other agents run on the same host.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from settings.paths import Paths


def pid_of_role(paths: Paths, role: str) -> int | None:
    """The living process that holds a role's lock."""
    try:
        pid = int(paths.lock(role).read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except (OSError, ValueError):
        return None
    module = role if role in ("broker", "gateway", "warden") else f"actors.{role}"
    return pid if module.encode() in words and state not in (b"Z", b"X") else None


def rss_kib(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * (
            os.sysconf("SC_PAGE_SIZE") // 1024
        )
    except (OSError, IndexError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table that belongs to an agent."""

    pid: int
    parent: int
    state: str
    words: tuple[str, ...]


def processes_of_agent(paths: Paths) -> Iterator[Process]:
    """Every process whose environment names this root, and zombies (which have none) whose parent does."""
    root = str(paths.run.parent)
    ours: set[int] = set()
    zombies: list[Process] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_bytes().rpartition(b") ")[2].split()
            words = tuple(w.decode(errors="replace") for w in (folder / "cmdline").read_bytes().split(b"\0") if w)
            process = Process(int(folder.name), int(stat[1]), stat[0].decode(), words)
            if process.state == "Z":
                zombies.append(process)
                continue
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if f"VIRTROUPE_ROOT={root}".encode() in environment:
            ours.add(process.pid)
            yield process
    yield from (z for z in zombies if z.parent in ours)


@dataclass(slots=True)
class Weather:
    """Kills one role after the other, at random times, until it has killed `kills` times or is told to stop."""

    paths: Paths
    roles: Sequence[str]
    kills: int
    dice: random.Random
    pause_s: tuple[float, float] = (0.02, 0.4)
    signal: signal.Signals = signal.SIGKILL
    done: Counter[str] = field(default_factory=Counter)
    killed: list[tuple[float, str, int]] = field(default_factory=list)

    async def run(self, limit_s: float) -> None:
        """Raises AssertionError when the agent does not offer enough processes to kill in time."""
        end = time.monotonic() + limit_s
        while sum(self.done.values()) < self.kills:
            assert time.monotonic() < end, f"only {dict(self.done)} of {self.kills} kills in {limit_s} s"
            await asyncio.sleep(self.dice.uniform(*self.pause_s))
            role = self.dice.choice(self.roles)
            pid = pid_of_role(self.paths, role)
            if pid is None or (self.killed and any(p == pid for _, _, p in self.killed[-8:])):
                continue  # it is being started again
            try:
                os.kill(pid, self.signal)
            except ProcessLookupError:
                continue
            self.done[role] += 1
            self.killed.append((time.monotonic(), role, pid))
