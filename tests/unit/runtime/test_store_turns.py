"""Two writers of one file take turns: both succeed, and the later one is what stays."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from actors.runtime.store import Store


async def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    async def in_thread(function: Any, *args: Any) -> Any:
        await asyncio.sleep(random.random() / 100)
        return await asyncio.to_thread(function, *args)

    store = Store(tmp_path, None, in_thread)  # type: ignore[arg-type]
    await asyncio.gather(*(store.write("a/b", f"{n}".encode() * 2000) for n in range(40)))
    assert store.read("a/b") == b"39" * 2000
    assert store.list("a") == ["a/b"]
