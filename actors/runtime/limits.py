"""Limits of an actor's process, and the folders that it needs, before it gives up its rights."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
from pathlib import Path

from actors.runtime.control_group import NoGroup, enter, places
from settings.config import ActorSettings
from settings.paths import Paths
from settings.process import drop_privileges
from util.structured_log import StructuredLog


def confine(role: str, paths: Paths, settings: ActorSettings, log: StructuredLog) -> None:
    """Makes the actor's folders, limits its open files, and goes on as its own user when there is one.

    Memory is watched by the warden, and kept by the kernel where a control group is wanted and can be had: an address
    space limit would break programs that map much and use little.
    Raises OSError when a folder cannot be made, KeyError for an unknown user.
    """
    limit_open_files(settings.open_files)
    make_folders(role, paths, settings.user if os.geteuid() == 0 else "")
    if settings.cgroup:
        enter_group(role, paths, settings, log)
    drop_privileges(settings.user)


def enter_group(role: str, paths: Paths, settings: ActorSettings, log: StructuredLog) -> None:
    """Goes into a control group with the limits that are set; where there can be none, that is logged."""
    limits = {"memory": settings.memory_mib << 20, "pids": settings.processes}
    try:
        if settings.user:
            raise NoGroup(f"what '{settings.user}' starts could not leave it")
        enter(role, paths.run, limits, places())
    except NoGroup as exc:
        log.warning("no control group for this driver: its memory is watched only", why=str(exc))


def limit_open_files(count: int) -> None:
    """At most so many descriptors; the hard limit is lowered only as far as the host's own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_folders(role: str, paths: Paths, user: str) -> None:
    """The actor's own folders, owned by its user. Raises OSError and KeyError."""
    folders = (paths.role_state(role), paths.role_cache(role), paths.role_run(role))
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not user:
        return
    entry = pwd.getpwnam(user)
    for folder in folders:
        if folder.stat().st_uid != entry.pw_uid:
            _give(folder, entry.pw_uid, entry.pw_gid)
        for parent in _made_by_us(folder, paths):
            parent.chmod(parent.stat().st_mode | 0o011)  # the way through, not the view


def _give(folder: Path, uid: int, gid: int) -> None:
    # what an earlier run wrote with all rights has to be its own too
    for path, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            os.chown(Path(path, name), uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)


def _made_by_us(folder: Path, paths: Paths) -> list[Path]:
    roots = {paths.state, paths.cache, paths.run}
    return [parent for parent in folder.parents if parent in roots or any(parent in r.parents for r in roots)][:2]
