"""A subscriber as a program: `subscriber.py ROOT URI FILE [AFTER]` notes each event's cursor in FILE, one a line.

Tests stop it, kill it and let it go on; what it noted is compared with the journal.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO

import virtroupe


async def main(out: TextIO, root: str, uri: str, after: str | None = None) -> None:
    """Notes events until it is ended. A Resync is noted as such."""
    async with virtroupe.connect(uri, root=Path(root)) as conn, conn.events(after=after) as events:
        out.write("listening\n")
        async for event in events:
            if isinstance(event, virtroupe.Resync):
                out.write(f"resync {event.cursor}\n")
            else:
                out.write(f"{event.cursor} {event.source} {event.epoch} {event.seq} {event.kind}\n")


if __name__ == "__main__":
    with Path(sys.argv[3]).open("a", encoding="ascii", buffering=1) as notes:
        asyncio.run(main(notes, *sys.argv[1:3], *sys.argv[4:]))
