"""The first bytes of an image, and what it is on this host.

An image on a network file system is read by a process of its own: when its server does not answer, that process hangs,
and nobody but whoever wanted this image waits, for a limited time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conf.storage.image_header import HEAD_BYTES
from schema.errors import HostSystemError, OperationTimeout

PATIENCE_S: Final = 10.0
GRACE_S: Final = 1.0
_MOUNTS: Final = Path("/proc/self/mountinfo")
_FOREIGN: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ceph",
        "fuse.glusterfs",
        "glusterfs",
        "fuse.sshfs",
        "fuse.ceph",
        "gfs2",
        "ocfs2",
        "lustre",
        "afs",
        "9p",
        "gpfs",
        "fuse.quobyte",
    }
)
_SCRIPT: Final = 'stat -Lc "%d %i %f" -- "$1" && if [ ! -d "$1" ]; then exec head -c "$2" -- "$1"; fi'


@dataclass(frozen=True, slots=True)
class Head:
    """What lies at a path; `data` is empty for a folder."""

    device: int
    inode: int
    mode: int
    data: bytes

    @property
    def identity(self) -> tuple[int, int]:
        """The same for all names of one file."""
        return self.device, self.inode

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_block_device(self) -> bool:
        return stat.S_ISBLK(self.mode)


def read_head(path: str, mounts: Path = _MOUNTS) -> Head:
    """Reads it; to be called from a worker thread.

    Raises HostSystemError when it cannot be read, OperationTimeout when its server does not answer.
    """
    if is_foreign(path, mounts):
        return _read_apart(path)
    try:
        facts = Path(path).stat()
        if stat.S_ISDIR(facts.st_mode):
            return Head(facts.st_dev, facts.st_ino, facts.st_mode, b"")
        with Path(path).open("rb") as file:
            return Head(facts.st_dev, facts.st_ino, facts.st_mode, file.read(HEAD_BYTES))
    except OSError as exc:
        raise _no_access(path, exc.errno) from exc


def is_foreign(path: str, mounts: Path = _MOUNTS) -> bool:
    """The path lies on a file system that another host serves; nothing is asked of that file system for this."""
    best, kind = "", ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    wanted = os.path.normpath(path)
    for line in lines:
        left, _, right = line.partition(" - ")
        words = left.split()
        if len(words) < 5 or not right:
            continue
        place = words[4].replace("\\040", " ")
        is_above = place == "/" or wanted == place or wanted.startswith(f"{place}/")
        if is_above and len(place) >= len(best):
            best, kind = place, right.split()[0]
    return kind in _FOREIGN


def _read_apart(path: str) -> Head:
    words = ["/bin/sh", "-c", _SCRIPT, "sh", path, str(HEAD_BYTES)]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    try:
        said, complained = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as exc:
        # it may not even die before its server answers: it is left to itself then
        process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        raise OperationTimeout(f"'{path}' cannot be read: its file system does not answer") from exc
    line, newline, data = said.partition(b"\n")
    if process.returncode or not newline:
        text = complained.decode(errors="replace")
        found = next((number for number, word in _WORDS.items() if word in text), 5)
        raise _no_access(path, found)
    device, inode, mode = line.split()
    return Head(int(device), int(inode), int(mode, 16), data)


_WORDS: Final = {2: "No such file", 13: "Permission denied", 116: "Stale file handle", 5: "Input/output error"}


def _no_access(path: str, number: int | None) -> HostSystemError:
    return HostSystemError(number or 0, f"Cannot access storage file '{path}'")
