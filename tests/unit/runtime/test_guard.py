from __future__ import annotations

import subprocess
import sys

import pytest

from actors.runtime.guard import ImportGuard, SiblingImport


@pytest.mark.parametrize(
    ("own", "name", "refused"),
    [
        ("actors.qemu", "actors.test", True),
        ("actors.qemu", "actors.test.driver", True),
        ("actors.qemu", "actors.qemu.monitor", False),
        ("actors.qemu", "actors.qemu2", True),
        ("actors.qemu", "actors.runtime.calls", False),
        ("actors.qemu", "actors", False),
        ("actors.qemu", "actors.secondary.network", True),
        ("actors.secondary.network", "actors.secondary", False),
        ("actors.secondary.network", "actors.secondary.storage", True),
        ("acme_driver", "actors.qemu", True),
        ("acme_driver", "actors.runtime", False),
        ("acme_driver", "acme_driver.inner", False),
        ("actors.qemu", "json", False),
    ],
)
def test_who_may_load_what(own: str, name: str, refused: bool) -> None:
    guard = ImportGuard(own)
    assert guard.is_sibling(name) is refused
    if refused:
        with pytest.raises(SiblingImport, match=name):
            guard.find_spec(name)
    else:
        assert guard.find_spec(name) is None


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_sealed_process_cannot_import_a_sibling_by_any_name() -> None:
    code = (
        "from actors.runtime.guard import seal_imports; seal_imports('actors.skeleton')\n"
        "import importlib, actors.skeleton.driver\n"
        "importlib.import_module('actors.' + 'test')\n"
    )
    result = in_a_process(code)
    assert result.returncode != 0
    assert "SiblingImport" in result.stderr


def test_a_process_that_has_loaded_a_sibling_cannot_be_sealed() -> None:
    code = "import actors.test\nfrom actors.runtime.guard import seal_imports; seal_imports('actors.skeleton')\n"
    result = in_a_process(code)
    assert "SiblingImport" in result.stderr
