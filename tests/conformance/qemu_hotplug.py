"""Devices that are plugged into recorded guests: the monitor is a list of commands and their answers."""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.qemu.hotplug import attach, detach, processors, update, vcpus
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.departures import Departures, Removal
from actors.qemu.monitor.link import Command
from actors.qemu.rules import QemuRules
from conf.domain.aliases import assign_aliases
from conf.domain.disk import BackingStore, Disk
from conf.domain.documents import parse_device, parse_domain, write_domain
from conf.domain.domain import Domain
from conf.element import Element
from conf.flags import ParseFlags, XmlFlags
from schema.errors import InternalError, VirtError
from tests.conformance.cases import Case
from tests.conformance.drivers import rules_for
from tests.conformance.qemu_launch import OPTIONS, RecordedHost
from tests.shared import SHARED, shared_json
from util.cpuset import parse_cpuset

KINDS = ("hotplug-attach", "hotplug-detach", "hotplug-update", "hotplug-vcpus")


class WrongCommand(AssertionError):
    """The monitor was told something else than what was recorded."""


class RecordedTalk:
    """Answers commands in the recorded order."""

    def __init__(self, script: Sequence[tuple[str, str]], departures: Departures) -> None:
        self._script = list(script)
        self._departures = departures

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        if not self._script:
            raise WrongCommand(f"nothing more was recorded, but '{name}' was said")
        wanted, reply = self._script.pop(0)
        if wanted != name:
            raise WrongCommand(f"'{wanted}' was recorded, but '{name}' was said")
        return self._take(name, reply)

    def _take(self, name: str, reply: str) -> Any:
        value: Any = None
        decoder, text = json.JSONDecoder(), reply.strip()
        while text:
            message, end = decoder.raw_decode(text)
            text = text[end:].strip()
            if message.get("event") == "DEVICE_DELETED":
                self._departures.tell(message["data"]["device"], Removal.GONE)
            elif "error" in message:
                raise InternalError(f"unable to execute QEMU command '{name}': {message['error'].get('desc')}")
            elif "return" in message:
                value = message["return"]
        return value

    async def hand_over(self, name: str, descriptor: int) -> None:
        await self.ask("getfd")

    async def hand_over_set(self, descriptor: int, opaque: str, number: int | None = None) -> int:
        return int((await self.ask("add-fd"))["fdset-id"])

    def take_back(self, commands: Sequence[Command]) -> None:
        """What is taken back was recorded like the rest."""
        del self._script[: len(commands)]

    @property
    def rest(self) -> list[str]:
        return [name for name, _ in self._script]


class RecordedDeparture:
    """Whoever waits gets the answer at once: it came with the command, or never comes."""

    def __init__(self, departures: Departures, alias: str) -> None:
        self._departures, self._alias = departures, alias
        self._future = departures.expect(alias)

    async def wait(self) -> Removal:
        return self._future.result() if self._future.done() else Removal.PENDING

    def close(self) -> None:
        self._departures.forget(self._alias, self._future)


def run_hotplug(case: Case) -> str:
    """What is wrong with a case; empty when it went as recorded."""
    return asyncio.run(_run(case))


async def _run(case: Case) -> str:
    if case["kind"] == "hotplug-vcpus":
        return await _run_vcpus(case)
    rules = _rules(case)
    domain = _domain(case, rules)
    for earlier in _earlier(case):
        await _change(earlier, domain, rules)
    try:
        said = await _change(case, domain, rules)
    except VirtError as exc:
        return "" if case["expectation"] != "ok" else f"{type(exc).__name__}: {exc}"
    if said:
        return said
    if "expected" not in case:
        return "" if case["expectation"] == "ok" else "this change should have been refused"
    difference = _difference(case["expected"], domain)
    if case["expectation"] == "ok":
        return difference
    # the recorded test only tells that the guest is not what it would have been
    return "" if difference else "this change should not have come about"


def _rules(case: Case) -> QemuRules:
    text = (SHARED / "corpus" / case["input"]).read_text(encoding="utf-8")
    arch = re.search(r"<type arch='(\w+)'", text.replace('"', "'"))
    rules = rules_for({**case, "domain": {"arch": arch.group(1) if arch is not None else "x86_64"}})
    assert isinstance(rules, QemuRules)
    return rules


def _domain(case: Case, rules: QemuRules) -> Domain:
    """The running guest, as it was before the first change of its series."""
    first = next(iter(_earlier(case)), case)
    text = (SHARED / "corpus" / first["input"]).read_text(encoding="utf-8")
    domain = parse_domain(text, rules, ParseFlags.SKIP_VALIDATE)
    domain.id = case["domain_id"]
    return domain


def _earlier(case: Case) -> list[Case]:
    """The changes of the same guest that came before."""
    if not case.get("continues_previous"):
        return []
    number, place = case["sequence"]
    known = shared_json("corpus", "qemu", "manifest.json")["cases"]
    series = [one for one in known if one["kind"] in KINDS and (one.get("sequence") or [None])[0] == number]
    return sorted((one for one in series if one["sequence"][1] < place), key=lambda one: int(one["sequence"][1]))


def _board(domain: Domain, rules: QemuRules, talk: RecordedTalk, departures: Departures) -> Board:
    async def note(device: Element, undo: list[Command]) -> None:
        return None

    async def read_chain(disk: Disk) -> None:
        disk.backing_store = disk.backing_store or BackingStore()

    def number() -> int:
        numbers = [one.source.index or 0 for one in domain.devices.disks if one.source is not None]
        return max(numbers, default=0) + 1

    folder = Path(f"/tmp/lib/domain-{domain.id}-{domain.name}")
    return Board(
        domain=domain,
        rules=rules,
        options=OPTIONS,
        folder=folder,
        channels=Path("/tmp/channel"),
        talk=talk,
        resources=RecordedHost(),
        number=number,
        note=note,
        expect=lambda alias: RecordedDeparture(departures, alias),
        read_chain=read_chain,
        guest_id=domain.id or -1,
    )


async def _change(case: Case, domain: Domain, rules: QemuRules) -> str:
    departures = Departures()
    talk = RecordedTalk([(one["command"], one["reply"]) for one in case.get("monitor", ())], departures)
    board = _board(domain, rules, talk, departures)
    text = (SHARED / "corpus" / case["inputs"]["device"]).read_text(encoding="utf-8")
    try:
        await _do(case["kind"], board, text)
    except WrongCommand as exc:
        return str(exc)
    return f"recorded, but not said: {', '.join(talk.rest)}" if talk.rest else ""


async def _do(kind: str, board: Board, text: str) -> None:
    if kind == "hotplug-attach":
        await attach.attach(board, parse_device(text, board.domain, board.rules, ParseFlags.ABI_UPDATE))
    elif kind == "hotplug-detach":
        wanted = parse_device(text, board.domain, board.rules, ParseFlags.SKIP_VALIDATE)
        await detach.detach(board, detach.choose(board.domain, wanted))
    else:
        await update.update(board, parse_device(text, board.domain, board.rules))


async def _run_vcpus(case: Case) -> str:
    rules = _rules(case)
    text = (SHARED / "corpus" / case["input"]).read_text(encoding="utf-8")
    domain = parse_domain(text, rules, ParseFlags.INACTIVE)
    config = domain.copy()
    domain.id = 7
    assign_aliases(domain)
    departures = Departures()
    talk = RecordedTalk(_dialogue(case["inputs"]["monitor"]), departures)
    board = _board(domain, rules, talk, departures)
    try:
        if "vcpus" in case:
            await vcpus.set_count(board, case["vcpus"])
            processors.count_in(config, case["vcpus"], hotpluggable=True)
        else:
            numbers = frozenset(parse_cpuset(case["cpumap"]))
            await vcpus.set_some(board, numbers, enable=case["enable"])
            processors.set_in(config, numbers, enable=case["enable"])
    except WrongCommand as exc:
        return str(exc)
    except VirtError as exc:
        return "" if case["expectation"] != "ok" else f"{type(exc).__name__}: {exc}"
    if case["expectation"] != "ok":
        return "this change should have been refused"
    return _difference(case["expected"], domain) or _difference(
        case["expected_extra"]["config"], config, XmlFlags.INACTIVE
    )


def _dialogue(name: str) -> list[tuple[str, str]]:
    """Commands and answers of a file that has them one after the other."""
    decoder = json.JSONDecoder()
    text = (SHARED / "corpus" / name).read_text(encoding="utf-8").strip()
    values = []
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].strip()
    return [(one["execute"], json.dumps(answer)) for one, answer in zip(values[::2], values[1::2], strict=True)]


def _difference(name: str, domain: Domain, flags: XmlFlags = XmlFlags.NONE) -> str:
    wanted = (SHARED / "corpus" / name).read_text(encoding="utf-8").rstrip("\n")
    written = write_domain(domain, flags | XmlFlags.SECURE).rstrip("\n")
    if wanted == written:
        return ""
    lines = difflib.unified_diff(wanted.splitlines(), written.splitlines(), "libvirt", "ours", lineterm="", n=0)
    return "\n".join(lines) or "differs in blanks"
