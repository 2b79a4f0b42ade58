"""Starts and ends the process tree of an agent on this host."""

from __future__ import annotations

import http.client
import os
import select
import signal
import stat
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any, Final

from settings.config import ConfigError, load_config
from settings.drivers import available_drivers, check_actors
from settings.paths import Paths, SocketPathTooLong
from settings.process import ROOT_VARIABLE, lock_holder
from settings.tree import PLATFORM, SUPERVISOR, UnfitPath, render_tree, template_path
from util.xmlrpc_unix import unix_proxy

START_S: Final = 20.0
STOP_S: Final = 30.0
TERM_S: Final = 10.0
LOOK_S: Final = 0.02
SOCKET_HOLDER: Final = "gateway-sockets"
FIRST_GIVEN: Final = 3
"""The first descriptor that systemd gives."""

_PASSED_ON: Final = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
_PASSED_ON_GROUPS: Final = ("LC_", "XDG_", "VIRTROUPE_")
_ADMIN_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotStart(Exception):
    """The agent cannot run here, or did not start; the text says why. Nothing was left running."""


def supervisor_pid(paths: Paths) -> int:
    """The supervisord of the agent, 0 when none runs.

    Raises CannotStart when this user may not know.
    """
    lock = paths.lock(SUPERVISOR)
    try:
        lock.stat()
    except PermissionError as exc:
        raise CannotStart(f"The agent in '{paths.run}' is another user's: {exc.strerror}: '{lock}'") from exc
    except OSError:
        return 0
    return lock_holder(lock)


def check_startable(paths: Paths) -> None:
    """Raises CannotStart for what would keep the agent from running, before anything is started."""
    try:
        paths.check_socket_lengths()
        check_actors(load_config(paths.config_file), paths.config_file)
        _check_run_folder(paths.run)
    except (SocketPathTooLong, ConfigError) as exc:
        raise CannotStart(str(exc)) from exc


def start_tree(paths: Paths, root: Path | None) -> int:
    """Starts supervisord, which starts everything else, and returns its process id once it answers.

    Raises CannotStart.
    """
    check_startable(paths)
    _make_folders(paths)
    _hand_over_sockets(root)
    _write_configuration(paths)
    said = paths.run / "supervisord.out"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "warden.tree", "-c", str(paths.supervisor_config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
            env=environment(root, os.environ),
        )
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise CannotStart(_why_it_ended(said, paths, process.returncode))
        if supervisor_pid(paths) == process.pid and is_answering(paths):
            process.returncode = 0  # it outlives us, and is not ours to wait for
            return process.pid
        time.sleep(LOOK_S)
    process.kill()
    process.wait()
    raise CannotStart(f"supervisord did not answer within {START_S:g} s; '{paths.supervisor_log}' may say why")


def _hand_over_sockets(root: Path | None) -> None:
    """libvirt's sockets, where systemd listens on them and has started this process for them."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or count == "0":
        return
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gateway.activation", count],
        pass_fds=range(FIRST_GIVEN, FIRST_GIVEN + int(count)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environment(root, os.environ),
        check=False,
    )
    if done.returncode:
        raise CannotStart(f"the sockets that this process was given cannot be used: {done.stderr.strip()}")


def stop_tree(paths: Paths) -> bool:
    """Ends the agent, everything of it but the guests; whether there was one.

    Raises CannotStart when its supervisord cannot be ended.
    """
    was_there = _end_supervisor(paths)
    # outside the tree: where the gateway did not end in order, it goes on holding libvirt's sockets for the next one
    return _end_holder(paths) or was_there


def _end_holder(paths: Paths) -> bool:
    pid = lock_holder(paths.lock(SOCKET_HOLDER))
    if pid == 0:
        return False
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(watched, signal.SIGTERM)
        if not select.select([watched], [], [], TERM_S)[0]:
            signal.pidfd_send_signal(watched, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself
    finally:
        os.close(watched)
    return True


def _end_supervisor(paths: Paths) -> bool:
    pid = supervisor_pid(paths)
    if pid == 0:
        return False
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        try:
            proxy(paths).supervisor.shutdown()
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            signal.pidfd_send_signal(watched, signal.SIGTERM)
        # its children die with it, whatever they are doing
        for number, wait_s in ((None, STOP_S), (signal.SIGTERM, TERM_S), (signal.SIGKILL, TERM_S)):
            if number is not None:
                signal.pidfd_send_signal(watched, number)
            if select.select([watched], [], [], wait_s)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(watched)
    raise CannotStart(f"supervisord (process {pid}) does not end")


def proxy(paths: Paths) -> Any:
    """supervisord's procedures."""
    return unix_proxy(paths.supervisor_socket, TERM_S)


def is_answering(paths: Paths) -> bool:
    """Whether supervisord serves its socket."""
    try:
        return bool(proxy(paths).supervisor.getState()["statename"] == "RUNNING")
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return False


def processes(paths: Paths) -> list[dict[str, Any]]:
    """What supervisord runs: broker, gateway and warden first. Empty when it does not answer."""
    try:
        infos = proxy(paths).supervisor.getAllProcessInfo()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return []
    rows = [
        {"name": info["group"], "state": info["statename"].lower(), "pid": info["pid"] or None, "up_s": _up_s(info)}
        for info in infos
        if info["group"] in PLATFORM
    ]
    return sorted(rows, key=lambda row: PLATFORM.index(row["name"]))


def environment(root: Path | None, given: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """What the agent's processes find in their environment: not whatever the shell had that started them."""
    passed = {k: v for k, v in given.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_GROUPS)}
    folders = [*given.get("PATH", "").split(":"), *_ADMIN_PATH.split(":")]
    passed["PATH"] = ":".join(dict.fromkeys(folder for folder in folders if folder.startswith("/")))
    passed.pop(ROOT_VARIABLE, None)
    if root is not None:
        passed[ROOT_VARIABLE] = os.path.abspath(root)  # noqa: PTH100 - as settings.paths: symlinks stay
    return passed


def _up_s(info: dict[str, Any]) -> float | None:
    return float(info["now"] - info["start"]) if info["pid"] else None


def _make_folders(paths: Paths) -> None:
    # Traversable, because actors with users of their own have folders below; each of those has its own mode.
    modes = ((paths.config, 0o755), (paths.state, 0o711), (paths.cache, 0o711), (paths.run, 0o755), (paths.log, 0o750))
    for folder, mode in modes:
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = folder.stat()
            if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode:
                folder.chmod(mode)
        except OSError as exc:
            raise CannotStart(f"The folder '{folder}' cannot be made: {exc.strerror}") from exc


def _check_run_folder(folder: Path) -> None:
    # The fallback lies in /tmp, where somebody else may have made it first.
    if folder.parent == Path("/tmp") and folder.exists():
        found = folder.lstat()
        if found.st_uid != os.geteuid() or folder.is_symlink():
            raise CannotStart(f"The folder '{folder}' belongs to somebody else")


def _write_configuration(paths: Paths) -> None:
    try:
        config = load_config(paths.config_file)
        template = template_path().read_text(encoding="utf-8")
        text = render_tree(template, paths, available_drivers(config), sys.executable, as_root=os.geteuid() == 0)
        beside = paths.supervisor_config.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(paths.supervisor_config)
    except (OSError, UnfitPath) as exc:
        raise CannotStart(f"The supervisord configuration cannot be written: {exc}") from exc


def _why_it_ended(said: Path, paths: Paths, code: int) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    detail = lines[-1] if lines else f"it ended with {code}; '{paths.supervisor_log}' may say why"
    return f"supervisord did not start: {detail}"
