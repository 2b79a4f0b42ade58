"""At run time too, no actor loads another: the guard refuses it in a real process."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.architecture.tree import ROOT, modules


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh, isolated interpreter, as supervisord starts one."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("own", "other"), [("test", "qemu"), ("qemu", "test"), ("qemu", "secondary")])
def test_a_sealed_process_refuses_a_sibling(own: str, other: str) -> None:
    done = run_code(
        "from actors.runtime.guard import seal_imports\n"
        f"seal_imports('actors.{own}')\n"
        "import importlib\n"
        f"importlib.import_module('actors.' + {other!r})\n"
    )
    assert done.returncode != 0
    assert "SiblingImport" in done.stderr


@pytest.mark.parametrize("own", ["test", "qemu"])
def test_a_sealed_process_loads_its_own_driver(own: str) -> None:
    done = run_code(
        f"from actors.runtime.guard import seal_imports\nseal_imports('actors.{own}')\nimport actors.{own}.driver\n"
        "import sys\n"
        f"print([m for m in sys.modules if m.startswith('actors.') and m.split('.')[1] not in ('runtime', {own!r})])"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_driver_seals_itself_before_it_imports_anything_of_its_own() -> None:
    programs = [p for p in modules("actors") if p.name == "__main__.py"]
    assert len(programs) >= 3
    for path in programs:
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        first, second = [
            node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ][:2]
        assert ast.unparse(first) == "from actors.runtime.guard import seal_imports", path
        package = ".".join(path.parent.parts)
        assert ast.unparse(second) == f"seal_imports('{package}')", path
