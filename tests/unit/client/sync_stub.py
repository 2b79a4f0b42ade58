"""Writes `client/sync.pyi` from the asynchronous classes: `python -m tests.unit.client.sync_stub > client/sync.pyi`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

CLIENT: Final = Path(__file__).resolve().parents[3] / "client"
WRAPPED: Final = {
    "Domain": "domain",
    "Network": "network",
    "StoragePool": "storage_pool",
    "Console": "console",
    "EventStream": "events",
    "Connection": "connection",
}
HEAD: Final = '''"""Types of the library without `await`; written by `tests/unit/client/sync_stub.py`, do not edit."""
'''


def stub() -> str:
    """The text of the stub, unformatted."""
    own = ast.parse((CLIENT / "sync.py").read_text(encoding="utf-8"))
    own_classes = {node.name: node for node in own.body if isinstance(node, ast.ClassDef)}
    imports: list[ast.ImportFrom | ast.Import] = _imports(own)
    neighbours: list[ast.ImportFrom] = []
    classes: list[ast.stmt] = []
    for name, module in WRAPPED.items():
        tree = ast.parse((CLIENT / f"{module}.py").read_text(encoding="utf-8"))
        imports += _imports(tree)
        neighbours += [
            ast.ImportFrom(module=f"client.{module}", names=[ast.alias(node.name)], level=0)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        ]
        inner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        plain = [_plain(node) for node in own_classes[name].body if isinstance(node, ast.FunctionDef)]
        classes.append(_class(name, [*_methods(inner), *plain]))
    connect = next(node for node in own.body if isinstance(node, ast.FunctionDef) and node.name == "connect")
    body: list[ast.stmt] = [*classes, _plain(connect)]
    used = {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)} - set(WRAPPED)
    lines = sorted({line for node in [*imports, *neighbours] for line in _import_lines(node, used)})
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(ast.unparse(part) for part in body) + "\n"


def _imports(tree: ast.Module) -> list[ast.ImportFrom | ast.Import]:
    """Those for types too, which stand below `if TYPE_CHECKING`."""
    parts = [part for node in tree.body for part in (node.body if isinstance(node, ast.If) else [node])]
    return [node for node in parts if isinstance(node, ast.ImportFrom | ast.Import)]


def _import_lines(node: ast.ImportFrom | ast.Import, used: set[str]) -> list[str]:
    names = [alias for alias in node.names if (alias.asname or alias.name) in used]
    if isinstance(node, ast.Import):
        return [f"import {alias.name}" for alias in names]
    return [f"from {node.module} import {alias.name}" for alias in names]


def _class(name: str, body: list[ast.stmt]) -> ast.ClassDef:
    return ast.ClassDef(name=name, bases=[], keywords=[], body=body, decorator_list=[])


def _methods(inner: ast.ClassDef) -> list[ast.stmt]:
    methods: list[ast.stmt] = []
    for node in inner.body:
        if isinstance(node, ast.AnnAssign):
            methods.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_instance = not any(isinstance(d, ast.Name) and d.id == "classmethod" for d in node.decorator_list)
            if not node.name.startswith("_") and is_instance:
                methods.append(_plain(node))
    return methods


def _plain(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.FunctionDef:
    return ast.FunctionDef(
        name=node.name,
        args=node.args,
        body=[ast.Expr(ast.Constant(...))],
        decorator_list=node.decorator_list,
        returns=node.returns,
        lineno=0,
    )


if __name__ == "__main__":
    sys.stdout.write(stub())
