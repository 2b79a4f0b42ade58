"""Capabilities of emulators that are not installed, made from dialogues that were recorded with them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.capabilities.questions import OTHER_QUESTIONS, QUESTIONS, capabilities_from_answers
from tests.shared import need_shared

LATEST = "8.0.0"


def recorded_answers(path: Path) -> list[tuple[str, Any, Any]]:
    """Each command of a recorded dialogue: name, arguments, and its value (None: refused)."""
    text = path.read_text(encoding="utf-8")
    decoder, values, place = json.JSONDecoder(), [], 0
    while (place := _skip_blanks(text, place)) < len(text):
        value, place = decoder.raw_decode(text, place)
        values.append(value)
    pairs = zip(values[::2], values[1::2], strict=True)
    return [(asked["execute"], asked.get("arguments"), said.get("return")) for asked, said in pairs]


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def capabilities_of_dialogue(path: Path, emulator: str) -> Capabilities:
    """What the emulator of a recorded dialogue can do; the second handshake in it is without KVM."""
    found: list[dict[str, Any]] = []
    for name, arguments, value in recorded_answers(path):
        if name == "qmp_capabilities":
            found.append({})
        found[-1].setdefault(_key(name, arguments), value)
    answers = [found[0].get(_key(*question)) for question in QUESTIONS]
    others = [found[-1].get(_key(*question)) for question in OTHER_QUESTIONS]
    return capabilities_from_answers(emulator, answers, others)


def _key(name: str, arguments: Any) -> str:
    return json.dumps([name, arguments], sort_keys=True)


@cache
def latest_capabilities(arch: str = "x86_64") -> Capabilities:
    """The newest recorded emulator, with aliases of machines as machines of their own, as the corpus has it."""
    path = need_shared("corpus", "qemu-caps", "qemucapabilitiesdata", f"caps_{LATEST}.{arch}.replies")
    caps = capabilities_of_dialogue(path, f"/usr/bin/qemu-system-{arch}")
    machines: list[Machine] = []
    for machine in caps.machines:
        machines.append(msgspec.structs.replace(machine, alias=None))
        if machine.alias is not None:
            machines.append(msgspec.structs.replace(machine, name=machine.alias, alias=None))
    return msgspec.structs.replace(caps, machines=tuple(machines))
