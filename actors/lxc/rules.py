"""What containers of LXC add to the common rules of definitions."""

from __future__ import annotations

from conf.domain.rules import DomainRules


class LxcRules(DomainRules):
    """Containers have the architecture of the host."""

    name = "lxc"
    namespaces = frozenset({"lxc"})

    def __init__(self, arch: str = "x86_64") -> None:
        self.default_arch = arch
