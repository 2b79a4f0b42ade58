"""Parts of a device that may be there once, where libvirt says so: counted in the text, before it is read."""

from __future__ import annotations

from typing import Final

from lxml import etree

from schema.errors import XmlError

_HOST_ENDS: Final = frozenset(("serial", "parallel", "console", "channel", "redirdev", "smartcard"))
_ENDS: Final = ("source", "log", "protocol")
_BACKENDS: Final = {"tpm": "TPM", "rng": "RNG"}


def check_parts(device: etree._Element) -> None:
    """Refuses a device with more parts of a kind than it can have. Raises XmlError."""
    tag = str(device.tag)
    if tag in _HOST_ENDS:
        _check_end(device)
    elif tag in _BACKENDS:
        backends = device.findall("backend")
        if len(backends) > 1:
            raise XmlError(f"only one {_BACKENDS[tag]} backend is supported")
        if tag == "rng" and backends and backends[0].get("model") == "egd":
            _check_end(backends[0])


def _check_end(end: etree._Element) -> None:
    if len(end) < 2:
        return
    for part in _ENDS:
        count = len(end.findall(part))
        if part == "source" and end.get("type") == "udp":
            if count > 2:
                raise XmlError("only two source elements are allowed for character device")
        elif count > 1:
            raise XmlError(f"only one {part} element is allowed for character device")
