"""How guests can be booted: `<os>`."""

from __future__ import annotations

from conf.domain_capabilities.support import Choice, Support
from conf.element import Element, attr, child, children, texts
from conf.values import YES_NO


class LoaderSupport(Element, tag="loader"):
    """Firmware: files that are known to the host, then how any of them may be used."""

    supported: bool = attr("supported", YES_NO)
    paths: list[str] = texts("value", str, default=[])
    choices: list[Choice] = children(Choice, default=[])


class OsSupport(Support, tag="os"):
    """What a guest can boot from; the choice `firmware` names kinds of firmware that are found by themselves."""

    loader: LoaderSupport | None = child(LoaderSupport, default=None)
