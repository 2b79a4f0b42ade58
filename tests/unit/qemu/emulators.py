"""The capabilities of an emulator that is not there."""

from __future__ import annotations

from functools import cache

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.capabilities.questions import QUESTIONS, capabilities_from_answers
from tests.fakes.qmp import Emulator


@cache
def capabilities() -> Capabilities:
    """What the fake emulator says of itself."""
    emulator = Emulator(["qemu"])
    answers = []
    for name, arguments in QUESTIONS:
        try:
            answers.append(emulator.command(name, dict(arguments or {})))
        except KeyError:
            answers.append(None)
    return capabilities_from_answers("/usr/bin/qemu-system-x86_64", answers)
