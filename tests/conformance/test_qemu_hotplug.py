"""Devices and processors that come to recorded guests and go from them, command by command."""

from __future__ import annotations

from typing import Final

from tests.conformance.cases import Case
from tests.conformance.qemu_hotplug import KINDS, run_hotplug
from tests.shared import shared_json

NOT_REFUSED: Final = ("qemuhotplugtest/disk-cdrom UPDATE disk-cdrom-nochange",)
"""The recorded test knew how to change displays only, and takes every other update for a failure; this one changes
nothing, which libvirt itself accepts."""
FLOOR: Final = 41


def _cases() -> list[Case]:
    return [case for case in shared_json("corpus", "qemu", "manifest.json")["cases"] if case["kind"] in KINDS]


def test_devices_come_and_go_as_recorded() -> None:
    said = {case["id"]: run_hotplug(case) for case in _cases()}
    wrong = {name: why for name, why in said.items() if why and name not in NOT_REFUSED}
    assert not wrong
    assert len(said) - sum(map(bool, said.values())) >= FLOOR
