"""What the broker must not forget: the newest epoch of each actor, and the key by which clients resume."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from broker.registry import Incarnation
from util.unwritable import is_unwritable

EPOCHS_FILE: Final = "epochs.json"
KEY_FILE: Final = "resume.key"
KEY_LENGTH: Final = 32


def load_epochs(folder: Path, spare: Path | None = None) -> dict[str, Incarnation]:
    """The epochs that `save_epochs` wrote; none when there is no file. Raises OSError, ValueError."""
    found: dict[str, Incarnation] = {}
    for path in (folder / EPOCHS_FILE, *((spare,) if spare is not None else ())):
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        for name, value in json.loads(text).items():
            told = Incarnation(int(value[0]), int(value[1]))
            if told.epoch > found.get(str(name), Incarnation(0, 0)).epoch:
                found[str(name)] = told
    return found


def save_epochs(folder: Path, spare: Path, epochs: Mapping[str, Incarnation]) -> None:
    """Writes all epochs; they are on disk when this returns. Raises OSError; then the old ones are.

    Where nothing can be written in `folder` they are written to `spare`, which outlives every process, but not the
    host: after that nobody is left whom an epoch could fence.
    """
    data = json.dumps(epochs, indent=0, sort_keys=True).encode()
    try:
        _write(folder / EPOCHS_FILE, data)
    except OSError as exc:
        if not is_unwritable(exc):
            raise
        _write(spare, data)
    else:
        spare.unlink(missing_ok=True)


def load_or_make_key(folder: Path) -> bytes:
    """The key behind the secrets of clients; one of this process alone where none can be kept. Raises OSError."""
    path = folder / KEY_FILE
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_LENGTH:
        key = secrets.token_bytes(KEY_LENGTH)
        try:
            _write(path, key)
        except OSError as exc:
            if not is_unwritable(exc):
                raise
    return key


def make_token(path: Path, uid: int, gid: int) -> bytes:
    """The token of a role, made when there is none yet, readable by its own user alone. Raises OSError."""
    try:
        token = path.read_bytes()
    except FileNotFoundError:
        token = b""
    if not token:
        token = secrets.token_bytes(KEY_LENGTH)
        _write(path, token)
    if os.geteuid() == 0 and ((now := path.stat()).st_uid, now.st_gid) != (uid, gid):
        os.chown(path, uid, gid)
    return token


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh))
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
