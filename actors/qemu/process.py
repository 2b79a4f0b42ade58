"""A guest's process: who it is, how it is started so that it outlives us, and how it ends.

A pid alone names nothing: it is used again. A process is known by pid, start time and boot, and watched through a
pidfd that is opened before the start time is compared. A process that has ended but was not collected by its parent
(the host's init may be slow) counts as dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from actors.qemu.confining.kernel import in_own_thread
from actors.runtime.control_group import release

NOFILE_SOFT: Final = 1024  # what programs expect; QEMU raises it itself up to the hard limit
_NOT_FOR_GUESTS: Final = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_RSS, resource.RLIMIT_CORE)


@cache
def boot_id() -> str:
    """The kernel's name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of one boot, for ever."""

    pid: int
    start_ticks: int
    boot: str


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc says of a process."""

    state: str
    start_ticks: int
    cpu_ns: int
    cpu_user_ns: int
    cpu_system_ns: int

    @property
    def is_alive(self) -> bool:
        return self.state not in "ZXx"

    @property
    def is_stopped(self) -> bool:
        """Frozen by a signal or a debugger: it will not react to SIGTERM."""
        return self.state in "Tt"


def find_stat(pid: int) -> ProcessStat | None:
    """What the kernel knows of a pid; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # the name stands in brackets and may hold anything, brackets and blanks included
    fields = text[text.rindex(b")") + 2 :].split()
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    user, system = int(fields[11]) * tick_ns, int(fields[12]) * tick_ns
    return ProcessStat(fields[0].decode(), int(fields[19]), user + system, user, system)


class GuestProcess:
    """A running process and the watch on its end."""

    def __init__(self, identity: ProcessId, pidfd: int) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._collect)

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def is_alive(self) -> bool:
        return not self.ended.done()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls back once when the process has ended; not when the watch is given up."""

        def tell(ended: asyncio.Future[None]) -> None:
            if not ended.cancelled():
                callback()

        self.ended.add_done_callback(tell)

    def stat(self) -> ProcessStat | None:
        """What /proc says now; None when it has ended."""
        if self.ended.done():
            return None
        stat = find_stat(self.pid)
        return stat if stat is not None and stat.start_ticks == self.identity.start_ticks else None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to this very process; nothing when it has ended."""
        if self.ended.done():
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self, timeout_s: float) -> bool:
        """Whether the process ended in time."""
        if self.ended.done():
            return True
        await asyncio.wait({self.ended}, timeout=timeout_s)
        return self.ended.done()

    def release(self) -> None:
        """Stops watching; the process is left as it is."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if not self.ended.done():
            self.ended.cancel()

    def _collect(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        # a guest that an earlier incarnation of this actor started is not our child
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        if not self.ended.done():
            self.ended.set_result(None)


def spawn_process(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    inherit: Sequence[int] = (),
    user: tuple[int, int] | None = None,
    groups: Sequence[int] = (),
    cwd: str = "/",
    stdin: int = subprocess.DEVNULL,
    confine: Callable[[], None] | None = None,
) -> GuestProcess:
    """Starts a program that outlives us.

    It leads a session of its own, has the log as its output, no descriptor but those named, and none of our limits.
    As another user it is in `groups` besides its own group. `confine` limits the thread that starts it.
    Raises OSError when the program cannot be started.
    """
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def start() -> subprocess.Popen[bytes]:
        if confine is not None:
            confine()
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=cwd,
            umask=0o077,
            start_new_session=True,
            pass_fds=tuple(inherit),
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else list(groups),
        )

    try:
        child = start() if confine is None else in_own_thread(start)
    finally:
        os.close(output)
    # the pidfd collects it; Popen must neither wait for it nor complain that it runs
    child.returncode = 0
    try:
        release(child.pid)
    except OSError:
        # what is kept for this actor would be kept for the guest
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        raise
    _lift_limits(child.pid)
    process = find_process(child.pid)
    if process is None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
        raise OSError(f"'{argv[0]}' ended at once")
    return process


def _lift_limits(pid: int) -> None:
    """Gives a new process the limits that are meant for guests, not those of this actor."""
    with contextlib.suppress(OSError, ValueError):
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        soft = NOFILE_SOFT if hard == resource.RLIM_INFINITY else min(NOFILE_SOFT, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    for limit in _NOT_FOR_GUESTS:
        with contextlib.suppress(OSError, ValueError):
            hard = resource.prlimit(pid, limit)[1]
            wanted = resource.RLIM_INFINITY if os.geteuid() == 0 else hard
            soft = 0 if limit == resource.RLIMIT_CORE else wanted
            resource.prlimit(pid, limit, (soft, wanted))
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("0", encoding="ascii")


def find_process(pid: int, identity: ProcessId | None = None) -> GuestProcess | None:
    """A watch on a living process; None when it is dead, or is not the one that `identity` names."""
    if identity is not None and identity.boot != boot_id():
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # only now the pid cannot come to mean another process unnoticed
    stat = find_stat(pid)
    if stat is None or not stat.is_alive or (identity is not None and identity.start_ticks != stat.start_ticks):
        if stat is not None and not stat.is_alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        os.close(pidfd)
        return None
    return GuestProcess(identity or ProcessId(pid, stat.start_ticks, boot_id()), pidfd)


def find_pids_by_argument(argument: str) -> list[int]:
    """The living processes that were started with this very argument.

    For the moments in which a pid may have been lost: we died between starting a guest and noting its pid.
    """
    wanted = os.fsencode(argument)
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words:
                stat = find_stat(int(folder.name))
                if stat is not None and stat.is_alive:
                    pids.append(int(folder.name))
    return pids
