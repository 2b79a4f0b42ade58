"""Whose the files of running guests were before the guests got them: written down before a file changes hands.

A file is taken once for all guests of this driver and goes back when the last of them lets go. Every step is on disk
before it is done and can be done again, so a driver that dies anywhere in between only leaves its successor the rest.
Where the file system can, the same is remembered on the file itself, for libvirt and for other drivers of ours: they
count together who uses the file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from actors.qemu.owning import xattrs
from actors.qemu.owning.identity import Owner
from actors.qemu.owning.xattrs import Memory
from actors.qemu.process import boot_id
from schema.errors import HostSystemError, OperationFailed

_SUFFIX: Final = ".json"
_TOLERATED: Final = (errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EROFS)
"""Why a file may stay with whom it is: its file system has no owners, or does not let us change them."""


class Taking(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that guests have."""

    path: str
    was: Owner
    given: Owner
    holders: tuple[str, ...]
    boot: str
    stage: str = "held"
    """`taking` before the file has changed hands, `held`, `leaving` before it goes back."""
    count: int | None = None
    """How many used it, by the file's own memory, before the step that is under way; None: it remembers nothing."""


class Register:
    """All takings of one driver, each in a file of its own. Methods wait for the disk and may be called in threads."""

    def __init__(self, folder: Path, log: Callable[[str, str], None]) -> None:
        self.folder = folder
        self._log = log
        self._takings: dict[str, Taking] = {}
        self._lock = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}

    # --- what is written ---------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Takes up what the last process wrote; what cannot be understood is told and left."""
        try:
            paths = sorted(self.folder.glob(f"*{_SUFFIX}"))
        except OSError as exc:
            self._log("the owners of files cannot be read", str(exc))
            return
        for path in paths:
            try:
                taking = msgspec.json.decode(path.read_bytes(), type=Taking)
            except (OSError, msgspec.DecodeError) as exc:
                self._log("the owner of a file cannot be read", f"{path.name}: {exc}")
            else:
                self._takings[taking.path] = taking

    def held_by(self, holder: str) -> set[str]:
        """The files that a guest has."""
        with self._lock:
            return {path for path, one in self._takings.items() if holder in one.holders}

    @property
    def holders(self) -> set[str]:
        """The guests that have files."""
        with self._lock:
            return {holder for one in self._takings.values() for holder in one.holders}

    @property
    def takings(self) -> list[Taking]:
        """All that is written down."""
        with self._lock:
            return list(self._takings.values())

    def _file(self, path: str) -> Path:
        return self.folder / (hashlib.sha256(os.fsencode(path)).hexdigest()[:40] + _SUFFIX)

    def _put(self, taking: Taking, *, surely: bool) -> None:
        target = self._file(taking.path)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder)
            with contextlib.ExitStack() as undo:
                undo.callback(Path(name).unlink, missing_ok=True)
                with os.fdopen(descriptor, "wb") as out:
                    out.write(msgspec.json.encode(taking))
                    if surely:
                        out.flush()
                        os.fsync(out.fileno())
                Path(name).replace(target)
                undo.pop_all()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot write '{target}'") from exc
        with self._lock:
            self._takings[taking.path] = taking

    def _drop(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._file(path).unlink()
        with self._lock:
            self._takings.pop(path, None)

    def _find(self, path: str) -> Taking | None:
        with self._lock:
            return self._takings.get(path)

    @contextlib.contextmanager
    def _alone(self, path: str) -> Iterator[None]:
        """One change of a file at a time; one that hangs holds up nobody but those who want the same file."""
        with self._lock:
            lock, users = self._locks.get(path, (Lock(), 0))
            self._locks[path] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks[path]
                if users == 1:
                    del self._locks[path]
                else:
                    self._locks[path] = lock, users - 1

    # --- a guest gets a file -----------------------------------------------------------------------------------------

    def give(self, path: str, owner: Owner, holder: str, *, returns: bool, remembers: bool = True) -> None:
        """Makes a file the guest's; it goes back at `take_back` if it `returns`, to root if nothing is remembered.

        Raises HostSystemError when that cannot be done, OperationFailed when others use it with another owner.
        """
        path = os.path.realpath(path)
        try:
            with self._alone(path):
                if returns:
                    self._give(path, owner, holder, remembers=remembers)
                elif owner_of(path) != owner:
                    known = self._find(path)
                    if known is not None and known.boot == boot_id():
                        raise _in_use(path)
                    _change(path, owner)
        except OSError as exc:
            raise HostSystemError(
                exc.errno or 0, f"unable to set user and group to '{owner.uid}:{owner.gid}' on '{path}'"
            ) from exc

    def _give(self, path: str, owner: Owner, holder: str, *, remembers: bool) -> None:
        known = self._find(path)
        if known is not None and (known.boot != boot_id() or known.stage != "held"):
            self._finish(known)
            known = self._find(path)
        if known is not None:
            if known.given != owner:
                raise _in_use(path)
            if holder not in known.holders:
                self._put(msgspec.structs.replace(known, holders=(*known.holders, holder)), surely=True)
            return
        now = owner_of(path)
        if not remembers:
            taking = Taking(path, Owner(0, 0), owner, (holder,), boot_id())
            self._put(taking, surely=True)
            _change(path, owner)
            return
        memory = xattrs.read_memory(path)
        if memory is None and now == owner and owner.uid == 0:
            return  # root keeps what is root's, whatever others do with it
        with xattrs.locked(path):
            memory = xattrs.read_memory(path)
            if memory is not None and now != owner:
                raise _in_use(path)
            was, count = (now, 0) if memory is None else (memory.owner, memory.count)
            taking = Taking(path, was, owner, (holder,), boot_id(), "taking", count)
            self._put(taking, surely=True)
            try:
                can = xattrs.write_memory(path, Memory(was, count + 1))
                if now != owner:
                    _change(path, owner)
            except OSError:
                self._undo(taking)
                raise
            self._put(msgspec.structs.replace(taking, stage="held", count=None if not can else count + 1), surely=False)

    # --- and it goes back --------------------------------------------------------------------------------------------

    def take_back(self, path: str, holder: str) -> None:
        """The guest uses the file no longer; with its last user it goes back to whose it was.

        Never raises: what cannot be given back is told in the log.
        """
        path = os.path.realpath(path)
        with self._alone(path):
            known = self._find(path)
            if known is None or holder not in known.holders:
                return
            others = tuple(one for one in known.holders if one != holder)
            try:
                if others:
                    self._put(msgspec.structs.replace(known, holders=others), surely=False)
                else:
                    self._leave(msgspec.structs.replace(known, holders=()))
            except (OSError, HostSystemError) as exc:
                self._log("a file could not be given back", f"{path}: {exc}")

    def _leave(self, taking: Taking) -> None:
        try:
            if taking.boot != boot_id() or taking.stage != "held":
                self._finish(taking)
                return
            if taking.count is None:
                self._restore(taking)
                return
            with xattrs.locked(taking.path):
                memory = xattrs.read_memory(taking.path)
                if memory is None or memory.count <= 1:
                    self._restore(taking)
                    return
                self._put(msgspec.structs.replace(taking, stage="leaving", count=memory.count), surely=False)
                xattrs.write_memory(taking.path, Memory(memory.owner, memory.count - 1))
                self._drop(taking.path)
        except FileNotFoundError:
            self._drop(taking.path)

    def keep_only(self, holder: str, paths: Iterable[str]) -> None:
        """Of all that a guest has, it goes on using only these. Never raises."""
        for path in self.held_by(holder) - {os.path.realpath(one) for one in paths}:
            self.take_back(path, holder)

    def finish_all(self, is_held: Callable[[str], bool]) -> None:
        """What is left of files whose guests ended while no driver ran. Never raises."""
        for taking in self.takings:
            holders = tuple(one for one in taking.holders if is_held(one))
            with self._alone(taking.path):
                try:
                    if not holders or taking.boot != boot_id():
                        self._leave(msgspec.structs.replace(taking, holders=()))
                    elif taking.stage == "taking":
                        # whoever it was taken for runs: it has the file, or would not
                        self._put(self._counted(taking, holders), surely=False)
                    elif holders != taking.holders:
                        self._put(msgspec.structs.replace(taking, holders=holders), surely=False)
                except (OSError, HostSystemError) as exc:
                    self._log("a file could not be given back", f"{taking.path}: {exc}")

    def _counted(self, taking: Taking, holders: tuple[str, ...]) -> Taking:
        memory = xattrs.read_memory(taking.path)
        before = taking.count or 0
        if memory is None or memory.count <= before:
            was = taking.was if memory is None else memory.owner
            if not xattrs.write_memory(taking.path, Memory(was, before + 1)):
                return msgspec.structs.replace(taking, holders=holders, stage="held", count=None)
        if owner_of(taking.path) != taking.given:
            _change(taking.path, taking.given)
        return msgspec.structs.replace(taking, holders=holders, stage="held", count=before + 1)

    def _finish(self, taking: Taking) -> None:
        """Ends what was begun with a file: it goes back, unless others use it."""
        if taking.boot != boot_id():
            # nobody who used it then is left
            self._restore(taking)
        elif taking.stage == "taking":
            self._undo(taking)
        elif taking.stage == "leaving":
            memory = xattrs.read_memory(taking.path)
            if memory is not None and taking.count is not None and memory.count >= taking.count:
                xattrs.write_memory(taking.path, Memory(memory.owner, memory.count - 1))
            self._drop(taking.path)
        else:
            self._leave(taking)

    def _undo(self, taking: Taking) -> None:
        """It was not taken after all: nothing of it may have been done, or all."""
        before = taking.count or 0
        if before == 0:
            self._restore(taking)
            return
        with contextlib.suppress(FileNotFoundError):
            memory = xattrs.read_memory(taking.path)
            if memory is not None and memory.count > before:
                xattrs.write_memory(taking.path, Memory(memory.owner, before))
        self._drop(taking.path)

    def _restore(self, taking: Taking) -> None:
        with contextlib.suppress(FileNotFoundError):
            if owner_of(taking.path) == taking.given:
                _change(taking.path, taking.was)
            xattrs.forget_memory(taking.path)
        self._drop(taking.path)


def owner_of(path: str) -> Owner:
    """Whose a file is. Raises OSError."""
    facts = Path(path).stat()
    return Owner(facts.st_uid, facts.st_gid)


def _change(path: str, owner: Owner) -> None:
    try:
        os.chown(path, owner.uid, owner.gid)
    except OSError as exc:
        if exc.errno not in _TOLERATED:
            raise


def _in_use(path: str) -> OperationFailed:
    return OperationFailed(f"Setting different DAC user or group on {path} which is already in use")
