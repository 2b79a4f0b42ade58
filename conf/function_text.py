"""The text of a generated function, and the objects that it names."""

from typing import Any


class FunctionText:
    """The text of one function and the objects it names."""

    def __init__(self, head: str) -> None:
        self.lines = [head]
        self.names: dict[str, object] = {}

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def name(self, thing: object, prefix: str) -> str:
        for known, other in self.names.items():
            if other is thing:
                return known
        new = f"{prefix}{len(self.names)}"
        self.names[new] = thing
        return new

    def build(self, function: str, where: str) -> Any:
        scope = dict(self.names)
        exec(compile("\n".join(self.lines) + "\n", f"<{where}>", "exec"), scope)
        return scope[function]
