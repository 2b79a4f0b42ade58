"""A program that uses the library is checked by its own type checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import virtroupe


async def main() -> None:
    async with virtroupe.connect("test:///default") as conn:
        domain = await conn.domain("web1")
        reveal_type(await domain.state())
        await domain.start(timeout=3.0, idempotency_key="k")
        await domain.start(timeout="soon")
    with virtroupe.sync.connect() as plain:
        reveal_type(plain.domain("web1").state())
    print((await domain.info()).memory)
"""


@pytest.mark.slow
def test_types_reach_the_users_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path).stdout
    assert told.count('Revealed type is "client.facts.DomainStateInfo"') == 2, told
    assert 'Argument "timeout" to "start" of "Domain" has incompatible type "str"' in told
    assert '"DomainInfo" has no attribute "memory"' in told
    assert "Found 2 errors" in told
