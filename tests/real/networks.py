"""A network of a test's own, in which there is nothing but a pair of links and a bridge."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from actors.qemu.linking.netlink import make_macvtap
from conf.domain.interface import DirectMode

LINK: Final = "v0"
OTHER_LINK: Final = "v1"
BRIDGE: Final = "vbr0"
_CLONE_NEWNET: Final = 0x40000000


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """The calling thread, and what it starts, is in it. Skips the test on a host that makes no such thing."""
    if os.geteuid() != 0:
        pytest.skip("only root makes links")
    library = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if library.unshare(_CLONE_NEWNET):
            pytest.skip("this host makes no networks")
        try:
            ip("link", "add", LINK, "type", "veth", "peer", "name", OTHER_LINK)
            ip("link", "add", BRIDGE, "type", "bridge")
            for name in ("lo", LINK, OTHER_LINK, BRIDGE):
                ip("link", "set", name, "up")
            try:
                make_macvtap("probe", LINK, DirectMode.BRIDGE, mac=None, mtu=None)
            except OSError as exc:
                pytest.skip(f"this host makes no macvtap devices: {exc}")
            ip("link", "del", "probe")
            yield
        finally:
            assert library.setns(before, _CLONE_NEWNET) == 0
    finally:
        os.close(before)


def ip(*words: str) -> str:
    """What the program says; it has to succeed."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30).stdout


def drop_macvtaps() -> None:
    """Removes what a test that failed may have left, which would be in the way of others."""
    for one in json.loads(ip("-j", "link", "show")):
        if one["ifname"].startswith("macvtap"):
            subprocess.run(["ip", "link", "del", one["ifname"]], check=False, capture_output=True, timeout=30)
