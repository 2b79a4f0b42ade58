"""systemd and its register of machines, asked over the system's D-Bus. All functions block, for a limited time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import DBusErrorResponse

from schema.errors import HostSystemError

RUNS: Final = Path("/run/systemd/system")
"""Is there where systemd is the first process (sd_booted)."""
ANSWER_S: Final = 20.0
_SERVICE: Final = "virtroupe-qemu"
_CLASS: Final = "vm"
_AFTER: Final = ["virtroupe.service"]
_BEFORE: Final = ["virt-guest-shutdown.target"]
_MACHINES: Final = DBusAddress(
    "/org/freedesktop/machine1", bus_name="org.freedesktop.machine1", interface="org.freedesktop.machine1.Manager"
)
_SYSTEMD: Final = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
_NOBODY: Final = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")
_UNIT_MISSING: Final = "org.freedesktop.systemd1.NoSuchUnit"
_MASKED: Final = "org.freedesktop.systemd1.UnitMasked"
_TAKEN: Final = (
    "org.freedesktop.machine1.MachineExists",
    "org.freedesktop.systemd1.UnitExists",
    "org.freedesktop.DBus.Error.FileExists",
    "System.Error.EEXIST",
)


class NobodyThere(Exception):
    """No such service runs on this host."""


class NameTaken(Exception):
    """Another machine has that name."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is to be told of a guest."""

    name: str
    scope: str
    slice: str
    uuid: bytes
    pid: int
    links: Sequence[int]
    """The numbers of its network devices on this host."""
    title: str


def is_there() -> bool:
    """Whether systemd runs this host."""
    return RUNS.is_dir()


def register(machine: Machine) -> None:
    """Puts a guest into the register of machines, which makes its scope.

    Raises NobodyThere without such a register, NameTaken, HostSystemError.
    """
    properties = [
        ("Slice", ("s", machine.slice)),
        ("After", ("as", _AFTER)),
        ("Before", ("as", _BEFORE)),
        ("Description", ("s", machine.title)),
    ]
    _ask(
        _MACHINES,
        "CreateMachineWithNetwork",
        "sayssusaia(sv)",
        (machine.name, machine.uuid, _SERVICE, _CLASS, machine.pid, "", list(machine.links), properties),
    )


def make_scope(machine: Machine) -> None:
    """Has systemd make a guest's scope, which is there a moment later.

    Raises NobodyThere, NameTaken, HostSystemError.
    """
    properties = [
        ("PIDs", ("au", [machine.pid])),
        ("Slice", ("s", machine.slice)),
        ("Delegate", ("b", True)),
        ("After", ("as", _AFTER)),
        ("Before", ("as", _BEFORE)),
        ("Description", ("s", machine.title)),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    _ask(_SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", (machine.scope, "fail", properties, []))


def set_weight(unit: str, name: str, value: int) -> None:
    """Tells systemd of a unit's weight, so that it does not put an old one back.

    Raises NobodyThere, HostSystemError.
    """
    _ask(_SYSTEMD, "SetUnitProperties", "sba(sv)", (unit, True, [(name, ("t", value))]))


def _ask(address: DBusAddress, method: str, signature: str, body: tuple[object, ...]) -> None:
    with _connection() as connection:
        try:
            reply = connection.send_and_get_reply(new_method_call(address, method, signature, body), timeout=ANSWER_S)
        except (OSError, EOFError, TimeoutError) as exc:
            raise HostSystemError(getattr(exc, "errno", 0) or 0, f"no answer to '{method}' of systemd's") from exc
    if reply.header.message_type is not MessageType.error:
        return
    failure = DBusErrorResponse(reply)
    said = str(failure.data[0]) if failure.data else failure.name
    if failure.name in _NOBODY or failure.name in (_UNIT_MISSING, _MASKED):
        raise NobodyThere(said)
    if failure.name in _TAKEN or "already exists" in said:
        raise NameTaken(said)
    raise HostSystemError(0, f"systemd refuses '{method}': {said}")


@contextlib.contextmanager
def _connection() -> Iterator[DBusConnection]:
    try:
        connection = open_dbus_connection("SYSTEM")
    except (OSError, EOFError, RuntimeError, ValueError, StopIteration, DBusErrorResponse) as exc:
        raise NobodyThere(f"the system's D-Bus cannot be reached: {exc!r}") from exc
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError):
            connection.close()
