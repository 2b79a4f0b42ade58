"""What is asked of the loop when a process is started is what uvloop, on which the agent runs, can do."""

from __future__ import annotations

import ast
from typing import Final

import pytest

from tests.architecture.tree import ROOT, modules

UNKNOWN: Final = {"umask", "user", "group", "extra_groups", "process_group", "pipesize"}


def unknown_words(text: str) -> list[str]:
    """The options of `create_subprocess_exec` that uvloop refuses."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    started = [
        one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "create_subprocess_exec"
    ]
    return [word.arg for one in started for word in one.keywords if word.arg in UNKNOWN]


def test_processes_are_started_as_uvloop_can() -> None:
    found = {str(path): words for path in modules() if (words := unknown_words((ROOT / path).read_text("utf-8")))}
    assert not found


@pytest.mark.parametrize("word", sorted(UNKNOWN))
def test_each_word_is_seen(word: str) -> None:
    assert unknown_words(f"asyncio.create_subprocess_exec('a', {word}=1)") == [word]
