"""The head of a running guest's status document; a driver adds its own parts between head and guest."""

from __future__ import annotations

from conf.element import Element, attr, children, texts
from conf.values import INT


class Taint(Element, tag="taint"):
    """Something was done to the guest that makes faults hard to explain."""

    flag: str = attr("flag", str)


class DomainStatus(Element, tag="domstatus"):
    """What is kept of a running guest. A driver's class derives from this one and ends with the `<domain>`."""

    state: str = attr("state", str)
    reason: str = attr("reason", str)
    pid: int = attr("pid", INT)
    taints: list[Taint] = children(Taint, default=[])
    deprecations: list[str] = texts("deprecation", str, default=[])
