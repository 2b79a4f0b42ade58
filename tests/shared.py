"""Where the shared corpus lies: beside the repository, or where VIRTROUPE_SHARED says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("VIRTROUPE_SHARED") or Path(__file__).parents[2] / "shared")


def need_shared(*names: str) -> Path:
    """The path of a thing in the shared corpus; skips the test, saying so, where it is absent."""
    path = SHARED.joinpath(*names)
    if not path.exists():
        pytest.skip(f"'{path}' is not there; VIRTROUPE_SHARED names another place", allow_module_level=True)
    return path


def shared_json(*names: str) -> Any:
    """A JSON file of the shared corpus."""
    return json.loads(need_shared(*names).read_text(encoding="utf-8"))
