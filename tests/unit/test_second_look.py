"""A test with real processes that fails is tried again, and that is told (tests/conftest.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS = """
import pathlib
import pytest

@pytest.mark.{mark}
@pytest.mark.parametrize("number", range({count}))
def test_fails_{how}(number):
    seen = pathlib.Path(__file__).with_name(f"seen{{number}}")
    if not seen.exists() or "{how}" == "always":
        seen.touch()
        pytest.fail("the reason")
"""


@pytest.mark.parametrize(
    ("mark", "count", "how", "passes", "told"),
    [
        ("real", 1, "once", True, "1 failed at first and were tried again"),
        ("process", 4, "once", False, "more than 3: the run fails"),
        ("real", 1, "always", False, "1 failed at first and were tried again"),
        ("slow", 1, "once", False, "1 failed in"),
    ],
)
def test_a_second_look(tmp_path: Path, mark: str, count: int, how: str, passes: bool, told: str) -> None:
    (tmp_path / "test_it.py").write_text(TESTS.format(mark=mark, count=count, how=how))
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "-p", "tests.conftest", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert told in done.stdout
    assert "the reason" in done.stdout
