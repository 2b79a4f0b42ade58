"""What makes a device: the options of a command line as commands of the monitor, each with the one that takes it back.

The modules that write command lines write into `Steps` as well, so that a device is the same whether its guest starts
with it or gets it later.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from actors.qemu.command.line import CommandLine, Properties, without_none
from actors.qemu.hotplug.chardev_words import chardev_arguments, read_words
from actors.qemu.monitor.link import Command
from schema.errors import InternalError, OperationUnsupported, VirtError

_SET: Final = "/dev/fdset/"
_IN_USE: Final = re.compile(r"\b(in use|busy)\b")
_LETS_GO_S: Final = 0.05
_LETS_GO_TRIES: Final = 100
"""Of all commands of a device together."""
_BEHIND: Final = frozenset(
    {
        "add-fd",
        "blockdev-add",
        "chardev-add",
        "getfd",
        "netdev_add",
        "object-add",
        "watchdog-set-action",
    }
)


@dataclass(slots=True)
class Step:
    """One command; `undo` takes it back. With a `descriptor`, QEMU is handed that under a name, or as a set."""

    name: str
    arguments: dict[str, Any]
    undo: Command | None = None
    descriptor: int | None = None
    local_set: int | None = None
    """The number by which later steps mean this set of descriptors; QEMU gives it another."""


class Talk(Protocol):
    """A monitor as plugging uses it. All raise InternalError when QEMU refuses, HypervisorGone when it ended."""

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """The value of one command."""

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Gives QEMU a descriptor under a name."""

    async def hand_over_set(self, descriptor: int, opaque: str, number: int | None = None) -> int:
        """Gives QEMU a descriptor that it opens as /dev/fdset/NUMBER; the number, of a new set or the given one."""

    def take_back(self, commands: list[Command]) -> None:
        """Sends commands that may fail, in order, without waiting for their answers."""


class Steps(CommandLine):
    """A command line whose options are the steps of plugging a device into a running guest."""

    def __init__(self) -> None:
        super().__init__("")
        self.steps: list[Step] = []

    def add(self, *words: str) -> None:
        """Takes an option that is plain words. Raises OperationUnsupported for one that only a start can have."""
        option, text = words[0], words[1] if len(words) > 1 else ""
        if option == "-chardev":
            self._add_chardev(text)
        elif option == "-add-fd":
            _, parts = read_words(f"add-fd,{text}")
            descriptor, number = int(parts["fd"]), int(parts["set"])
            self.steps.append(Step("add-fd", {"opaque": parts["opaque"]}, None, descriptor, number))
        elif option == "-watchdog-action":
            self.steps.append(Step("watchdog-set-action", {"action": text}))
        elif option != "-usb":  # a controller that the machine has, or has not, already
            raise OperationUnsupported(f"QEMU takes '{option}' at the start of a guest only")

    def add_json(self, option: str, value: Mapping[str, Any]) -> None:
        """Takes an option that is an object."""
        properties = without_none(value)
        match option:
            case "-object":
                self.steps.append(Step("object-add", properties, ("object-del", {"id": properties["id"]})))
            case "-blockdev":
                undo = ("blockdev-del", {"node-name": properties["node-name"]})
                self.steps.append(Step("blockdev-add", properties, undo))
            case "-netdev":
                self._name_descriptors(properties, ("fd", "fds", "vhostfd", "vhostfds"))
                self.steps.append(Step("netdev_add", properties, ("netdev_del", {"id": properties["id"]})))
            case "-device":
                self._name_descriptors(properties, ("vhostfd",))
                self.steps.append(Step("device_add", properties, ("device_del", {"id": properties.get("id", "")})))
            case _:
                raise OperationUnsupported(f"QEMU takes '{option}' at the start of a guest only")

    def add_command(self, name: str, arguments: Mapping[str, Any] | None) -> None:
        """A command that needs not be taken back, because it is about what is taken back anyway."""
        self.steps.append(Step(name, dict(arguments or {})))

    def _add_chardev(self, text: str) -> None:
        kind, parts = read_words(text)
        if "fd" in parts:
            parts["fd"] = self._hand_over(f"{parts['id']}-fd", int(parts["fd"]))
        self.steps.append(Step("chardev-add", chardev_arguments(kind, parts), ("chardev-remove", {"id": parts["id"]})))

    def _name_descriptors(self, properties: Properties, keys: tuple[str, ...]) -> None:
        for key in keys:
            if key in properties:
                numbers = str(properties[key]).split(":")
                names = [
                    self._hand_over(f"{properties['id']}-{key}{place}", int(number))
                    for place, number in enumerate(numbers)
                ]
                properties[key] = ":".join(names)

    def _hand_over(self, name: str, descriptor: int) -> str:
        self.steps.append(Step("getfd", {"fdname": name}, ("closefd", {"fdname": name}), descriptor))
        return name

    @property
    def ordered(self) -> list[Step]:
        """The steps, with the device after what stands behind it, and what is said of it after that."""
        return sorted(self.steps, key=lambda step: 0 if step.name in _BEHIND else 1 if step.name == "device_add" else 2)

    @property
    def undo(self) -> list[Command]:
        """What takes all steps back, the last first."""
        return [step.undo for step in reversed(self.ordered) if step.undo is not None]


async def quietly(talk: Talk, command: Command) -> None:
    """Takes something out: what is gone already need not go. Raises HypervisorGone."""
    name, arguments = command
    with contextlib.suppress(InternalError):
        await talk.ask(name, dict(arguments or {}))


async def take_out(talk: Talk, commands: list[Command]) -> None:
    """As `quietly`, in order, of what stood behind a device that is gone: QEMU may end its use of that a little later.

    A device leaves the list of devices before it is finalized; until then its parts are "in use" or "busy". Raises
    HypervisorGone.
    """
    tries = _LETS_GO_TRIES
    for name, arguments in commands:
        while True:
            try:
                await talk.ask(name, dict(arguments or {}))
            except InternalError as exc:
                if tries and _IN_USE.search(exc.message):
                    tries -= 1
                    await asyncio.sleep(_LETS_GO_S)
                    continue
            break


async def carry_out(talk: Talk, steps: list[Step]) -> dict[str, Any]:
    """Takes the steps one after the other; the value of each by the id of what it made.

    When one fails, those before it are taken back: nothing of the device is left. Raises what the step raised.
    """
    sets: dict[int, int] = {}
    done: list[Command] = []
    values: dict[str, Any] = {}
    try:
        for step in steps:
            value = await _take(talk, step, sets, done)
            values[str(step.arguments.get("id", step.name))] = value
    except VirtError:
        talk.take_back(done[::-1])
        raise
    except BaseException:
        # nobody knows whether the step under way was taken: its undo is sent as well
        if step.undo is not None:
            done.append(step.undo)
        talk.take_back(done[::-1])
        raise
    return values


async def _take(talk: Talk, step: Step, sets: dict[int, int], done: list[Command]) -> Any:
    if step.local_set is not None:
        assert step.descriptor is not None
        known = sets.get(step.local_set)
        opaque = str(step.arguments["opaque"])
        if known is not None:
            # QEMU chooses among the descriptors of a set the one that may do what it wants
            return await talk.hand_over_set(step.descriptor, opaque, known)
        number = sets[step.local_set] = await talk.hand_over_set(step.descriptor, opaque)
        done.append(("remove-fd", {"fdset-id": number}))
        return number
    if step.descriptor is not None:
        await talk.hand_over(str(step.arguments["fdname"]), step.descriptor)
        value = None
    else:
        value = await talk.ask(step.name, with_sets(step.arguments, sets) if sets else step.arguments)
    if step.undo is not None:
        done.append(step.undo)
    return value


def with_sets(value: Any, sets: dict[int, int]) -> Any:
    """The arguments with the numbers that QEMU gave to sets of descriptors."""
    if not sets:
        return value
    if isinstance(value, dict):
        return {key: with_sets(part, sets) for key, part in value.items()}
    if isinstance(value, list):
        return [with_sets(part, sets) for part in value]
    if isinstance(value, str) and value.startswith(_SET):
        return f"{_SET}{sets[int(value.removeprefix(_SET))]}"
    return value
