"""A helper of a guest as a process: started so that it outlives us, known to whoever comes after us, and ended.

It writes down itself who it is before it becomes the helper: there is no moment at which it runs and nobody could
know. Where nobody would read that any more, because the file has gone, there is no helper. The files are in a folder
that guests cannot reach: who they name is ended one day, by root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.helpers.logs import LogMark, trim
from actors.qemu.process import GuestProcess, ProcessId, boot_id, find_process, spawn_process
from schema.errors import InternalError

READY_S: Final = 30.0
"""How long a helper may take until it listens."""
LEAVES_S: Final = 1.0
"""How long helpers may take to end by themselves once QEMU is gone."""
PATIENCE_S: Final = 2.0
KILL_PATIENCE_S: Final = 10.0
_FIRST_LOOK_S: Final = 0.002
_SLOWEST_LOOK_S: Final = 0.05
_SUFFIX: Final = ".pid"
_PLACE: Final = "helpers"
_BASE: Final = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_OF_GUEST: Final = "VIRTROUPE_GUEST"
"""For people who look at a process and want to know whose it is."""
_LAUNCHER: Final = (
    'read -r who </proc/$$/stat && printf "%s\\n" "$who" >&0 || exit 125; '
    'case $(readlink /proc/$$/fd/0) in *" (deleted)") exit 125;; esac; exec "$@" </dev/null'
)


@dataclass(frozen=True, slots=True, order=True)
class Role:
    """What a helper does, and for which device of its guest."""

    program: str
    alias: str

    @property
    def file(self) -> str:
        """The name of the file that says who it is."""
        return f"{self.program}@{self.alias}{_SUFFIX}"

    @classmethod
    def of_file(cls, name: str) -> Role:
        """The role that a file's name says."""
        program, _, alias = name.removesuffix(_SUFFIX).partition("@")
        return cls(program, alias)


@dataclass(slots=True)
class Helper:
    """A running helper."""

    role: Role
    process: GuestProcess
    log: Path


def place_of(folder: Path) -> Path:
    """Where the helpers of the guest with that folder write down who they are."""
    return folder.parent / _PLACE / folder.name


def spawn_helper(
    role: Role,
    argv: Sequence[str],
    *,
    folder: Path,
    log: Path,
    inherit: Sequence[int] = (),
    user: tuple[int, int] | None = None,
    cwd: str = "/",
) -> tuple[Helper, LogMark]:
    """Starts a helper of the guest with that folder, and marks the place in its log where its words begin.

    Raises InternalError when it cannot be started.
    """
    program = argv[0]
    if not os.access(program, os.X_OK):
        raise InternalError(f"'{program}' is not an executable program")
    trim(log)
    mark = LogMark.at_end(log)
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = place_of(folder)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = os.open(place / role.file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            process = spawn_process(
                ["/bin/sh", "-c", _LAUNCHER, role.program, *argv],
                environment={**_BASE, _OF_GUEST: str(folder)},
                log=log,
                stdin=note,
                inherit=inherit,
                user=user,
                cwd=cwd,
            )
        finally:
            os.close(note)
    except OSError as exc:
        if exc.errno is None:  # it has ended already
            raise InternalError(f"{role.program} died and reported: {mark.said()}") from exc
        raise InternalError(f"Could not start '{program}': {exc.strerror}") from exc
    return Helper(role, process, log), mark


async def until_ready(helper: Helper, mark: LogMark, is_ready: Callable[[], bool]) -> None:
    """Waits until a helper has what it takes to serve its guest; one that does not get there is ended.

    Raises InternalError with its own words when it ends, or takes too long.
    """
    end, pause_s = time.monotonic() + READY_S, _FIRST_LOOK_S
    with contextlib.ExitStack() as undo:
        undo.callback(helper.process.release)
        undo.callback(_kill_group, helper.process)
        while not is_ready():
            if await helper.process.wait(pause_s):
                raise InternalError(f"{helper.role.program} died and reported: {mark.said()}")
            if time.monotonic() > end:
                raise InternalError(f"{helper.role.program} did not become ready: {mark.said()}")
            pause_s = min(pause_s * 2, _SLOWEST_LOOK_S)
        undo.pop_all()


def listens(name: str) -> bool:
    """Whether somebody listens on a unix socket that was bound under this very name."""
    try:
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == name and int(fields[3], 16) & _ACCEPTS:
            return True
    return False


_ACCEPTS: Final = 0x10000


def find_helpers(folder: Path) -> list[Helper]:
    """The helpers of a guest that live, whoever has started them."""
    found = []
    for path in _files(folder):
        identity = _identity_in(path)
        process = find_process(identity.pid, identity) if identity is not None else None
        if process is not None:
            found.append(Helper(Role.of_file(path.name), process, Path(os.devnull)))
    return found


def pids_of_helpers(folder: Path) -> tuple[int, ...]:
    """The helpers of a guest, by pid; some may have ended."""
    found = (_identity_in(path) for path in _files(folder))
    return tuple(one.pid for one in found if one is not None)


def _files(folder: Path) -> list[Path]:
    return sorted(place_of(folder).glob(f"*@*{_SUFFIX}"))


def _identity_in(path: Path) -> ProcessId | None:
    """Who a file says that the helper is; None where it does not say so (yet)."""
    try:
        text = path.read_bytes()
    except OSError:
        return None
    try:
        end = text.rindex(b")")
        return ProcessId(int(text[: text.index(b" ")]), int(text[end + 2 :].split()[19]), boot_id())
    except (ValueError, IndexError):
        return None


async def end_helpers(helpers: Sequence[Helper], *, leaves_s: float = 0.0) -> None:
    """Ends helpers: those that do not leave by themselves in time are told to, then killed with what they started."""
    waiting = [one for one in helpers if one.process.is_alive]
    for patience_s, send in ((leaves_s, None), (PATIENCE_S, signal.SIGTERM), (KILL_PATIENCE_S, signal.SIGKILL)):
        if not waiting:
            break
        for helper in waiting:
            if send is signal.SIGKILL:
                _kill_group(helper.process)
            elif send is not None:
                helper.process.send(send)
        if patience_s:
            await asyncio.wait({one.process.ended for one in waiting}, timeout=patience_s)
        waiting = [one for one in waiting if one.process.is_alive]
    for helper in helpers:
        helper.process.release()


def _kill_group(process: GuestProcess) -> None:
    """A helper leads a session of its own; what it has started goes with it."""
    if process.stat() is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.send(signal.SIGKILL)


async def clear_folder(folder: Path) -> None:
    """Ends the helpers of a guest that is gone, whoever started them."""
    for path in _files(folder):
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                _forestall(path)
    await end_helpers(find_helpers(folder))
    forget_place(folder)


def _forestall(path: Path) -> None:
    """What has not written down yet who it is does not become a helper; it comes back if it just has.

    It writes first and looks then whether its file is still there, we take the file away first and look then.
    """
    with path.open("rb") as file:
        path.unlink()
        said = file.read()
    if said:
        path.write_bytes(said)


def forget_place(folder: Path) -> None:
    """A guest has no helpers any more."""
    shutil.rmtree(place_of(folder), ignore_errors=True)


async def sweep_places(run_folder: Path, alive: AbstractSet[str]) -> None:
    """Ends the helpers of guests that ended while nobody looked; `alive` are the names of running guests' folders."""
    for place in sorted((run_folder / _PLACE).glob("*")):
        if place.name not in alive:
            await clear_folder(run_folder / place.name)
