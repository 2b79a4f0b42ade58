"""What every process of the agent does before it serves: it ties its life to supervisord's and locks its role.

A process whose supervisord was killed must be gone before a new one serves: binding a live ipc path succeeds silently,
and two journals of one agent would be a lie. So each sets PR_SET_PDEATHSIG, looks whether its parent is still the one
that started it, and holds its role's lock for life. A holder that was killed but cannot die (it sleeps uninterruptibly
on a dead mount) is passed over: its epoch is fenced and it will never run another instruction of ours.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from settings.config import Config, load_config
from settings.paths import Paths, resolve_paths

ROOT_VARIABLE: Final = "VIRTROUPE_ROOT"
SLOT_VARIABLE: Final = "VIRTROUPE_SLOT"
EXIT_LOCKED: Final = 75  # EX_TEMPFAIL: another process holds the role, try again
LOCK_WAIT_S: Final = 2.0
UNKILLABLE_AFTER_S: Final = 0.3
SPARE_LOOK_S: Final = 1.0

_PR_SET_PDEATHSIG: Final = 1
_held: list[int] = []  # lock descriptors: open until the process ends


def current() -> tuple[Paths, Config]:
    """The paths and settings of the agent that this process belongs to. Raises ConfigError."""
    root = os.environ.get(ROOT_VARIABLE)
    paths = resolve_paths(Path(root) if root else None)
    return paths, load_config(paths.config_file)


def seal(role: str, paths: Paths) -> None:
    """Ties this process to its parent and to its role; ends it when the parent is gone or the role is taken.

    An actor that supervisord started while another process serves waits here for its turn.
    """
    os.umask(0o077)
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent or not _is_child_of_supervisord(paths):
        _give_up(f"{role}: the process that started this one is gone")
    if SLOT_VARIABLE in os.environ:
        _take_over(paths.lock(role))  # an actor whose role is taken is the spare
    else:
        hold_lock(paths.lock(role))


def die_with_parent() -> None:
    """The kernel kills this process when its parent dies; a change of user clears this, so it is said again then."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def drop_privileges(user: str) -> None:
    """Goes on as `user`, with its groups and the one that may enter the actors' folder; nothing when not root.

    Raises KeyError for an unknown user.
    """
    if not user or os.geteuid() != 0:
        return
    parent = os.getppid()
    entry = pwd.getpwnam(user)
    groups = os.getgrouplist(user, entry.pw_gid)
    paths, _ = current()
    actors = paths.actors_door.parent
    if actors.exists() and (gid := actors.stat().st_gid) != 0:
        groups.append(gid)
    os.setgroups(groups)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    die_with_parent()
    if os.getppid() != parent:
        _give_up("the process that started this one is gone")


def hold_lock(path: Path, wait_s: float = LOCK_WAIT_S) -> None:
    """Takes the lock for the rest of this process's life; exits with EXIT_LOCKED when it stays taken."""
    fd = try_lock(path, wait_s)
    if fd is None:
        _give_up(f"'{path}' is held by process {lock_holder(path)}")
    _held.append(fd)


def _take_over(path: Path) -> None:
    """Takes the lock for the rest of this process's life as soon as its holder is gone, however long that takes."""
    while (fd := try_lock(path, 0.0)) is None:
        holder = lock_holder(path)
        if _is_ended(holder, SPARE_LOOK_S):
            continue
        if is_unkillable(holder):
            path.unlink(missing_ok=True)
    _held.append(fd)


def _is_ended(pid: int, wait_s: float) -> bool:
    """Whether a process ends within `wait_s`; its locks are free then."""
    if pid == 0:
        time.sleep(0.001)  # between two holders
        return True
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], wait_s)[0])
    finally:
        os.close(fd)


def try_lock(path: Path, wait_s: float) -> int | None:
    """A descriptor that holds the lock while it is open, or None when another process kept it for `wait_s`.

    POSIX locks, because a forked child must not inherit them.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begin = time.monotonic()
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(fd)
            os.close(fd)
            waited = time.monotonic() - begin
            if holder and waited > UNKILLABLE_AFTER_S and is_unkillable(holder):
                path.unlink(missing_ok=True)
            elif waited >= wait_s:
                return None
            else:
                time.sleep(0.005)
            continue
        if _same_file(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd
        os.close(fd)


def is_unkillable(pid: int) -> bool:
    """Whether SIGKILL was sent to the process, which yet sleeps where no signal reaches it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    state = fields.get("State", "").strip()[:1]
    pending = int(fields.get("ShdPnd", "0"), 16) | int(fields.get("SigPnd", "0"), 16)
    return state == "D" and bool(pending & 1 << (signal.SIGKILL - 1))


def _is_child_of_supervisord(paths: Paths) -> bool:
    # The parent may already be another one at the first look, so it is compared with what supervisord wrote before it
    # started anything.
    if "SUPERVISOR_ENABLED" not in os.environ:
        return True
    try:
        return int(paths.supervisor_pid.read_text(encoding="ascii")) == os.getppid()
    except (OSError, ValueError):
        return os.getppid() != 1


def _holder(fd: int) -> int:
    # struct flock: type and whence (short), start and length (off_t), pid
    form = "hhqqi4x"
    request = struct.pack(form, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack(form, fcntl.fcntl(fd, fcntl.F_GETLK, request))
    return 0 if answer[0] == fcntl.F_UNLCK else int(answer[4])


def lock_holder(path: Path) -> int:
    """The process that holds a lock, 0 when none does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _holder(fd)
    finally:
        os.close(fd)


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _give_up(why: str) -> NoReturn:
    sys.stderr.write(f"virtroupe: {why}\n")
    sys.stderr.flush()
    os._exit(EXIT_LOCKED)
