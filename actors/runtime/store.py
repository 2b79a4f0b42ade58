"""Files that an actor must not lose: each written whole or not at all, and on the disk before the caller hears of it.

Inside a change, and outside an intent, the one file that is written or removed is the effect of the call: what it will
be is noted first, so that after a crash the file itself tells whether the call happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from actors.runtime.call_log import CallLog
from actors.runtime.context import CurrentCall, find_call
from schema.errors import HostSystemError

_TEMPORARY: Final = ".new"

InThread = Callable[..., Awaitable[Any]]


class Store:
    """The files below one folder; paths are relative to it."""

    def __init__(self, folder: Path, calls: CallLog, in_thread: InThread) -> None:
        self.folder = folder
        self._calls = calls
        self._in_thread = in_thread
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def write(self, path: str, data: bytes, *, result: object = None, completes: bool = True) -> None:
        """Replaces a file; it is on the disk afterwards. `result` is what a call that is thereby done answers.

        A cancellation takes effect at the next wait after it.
        Raises HostSystemError, naming path and reason, when it cannot be written; then nothing changed.
        """
        async with self._turn(path):
            call = self._note(path, data, result, completes)
            await self._in_thread(self._write_now, path, data, call is not None and call.idempotency_key is not None)

    async def remove(self, path: str, *, result: object = None, completes: bool = True) -> None:
        """Removes a file, for good; one that is absent is no fault.

        Raises HostSystemError when it cannot be removed; then nothing changed.
        """
        async with self._turn(path):
            call = self._note(path, None, result, completes)
            await self._in_thread(self._remove_now, path, call is not None and call.idempotency_key is not None)

    def read(self, path: str) -> bytes | None:
        """What a file holds; None when there is none. Raises HostSystemError."""
        try:
            return self.path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _fault("read", self.path(path), exc) from exc

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """The paths of the files in a folder, sorted; none when there is no such folder. Raises HostSystemError."""
        try:
            with os.scandir(self.path(folder)) as entries:
                names = [e.name for e in entries if e.name.endswith(suffix) and e.is_file()]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _fault("read", self.path(folder), exc) from exc
        return [f"{folder}/{name}" if folder else name for name in sorted(names) if not name.endswith(_TEMPORARY)]

    def path(self, path: str) -> Path:
        """Where a file lies. Raises ValueError for a path that leads out of the folder."""
        parts = path.split("/")
        if ".." in parts or path.startswith("/"):
            raise ValueError(f"'{path}' leads out of the store")
        return self.folder.joinpath(*parts)

    def has_content(self, path: str, crc: int | None) -> bool:
        """Whether a file's content has this crc; of None: whether there is no such file."""
        try:
            data = self.read(path)
        except HostSystemError:
            return False
        return crc is None if data is None else crc == zlib.crc32(data)

    def _turn(self, path: str) -> asyncio.Lock:
        """Writers of one file go one after the other, in the order in which they came."""
        turn = self._turns.get(path)
        if turn is None:
            turn = self._turns[path] = asyncio.Lock()
        return turn

    def _note(self, path: str, data: bytes | None, result: object, completes: bool) -> CurrentCall | None:
        self.path(path)
        call = find_call()
        if call is None or call.procedure.is_read or call.open_intents or not completes:
            return None
        if call.procedure.ret and result is None:
            raise TypeError(
                f"{call.procedure.name} writes '{path}' and returns something: say result=..., which is answered "
                "when this driver dies before it replied, or completes=False when the file is not its whole effect"
            )
        self._calls.step(call, path, data, call.pack(result))
        return call

    def _write_now(self, path: str, data: bytes, sync_calls: bool) -> None:
        target = self.path(path)
        temporary = target.with_name(target.name + _TEMPORARY)
        with _faults("write", target):
            if sync_calls:
                self._calls.sync()
            self._make_folder(target.parent)
            try:
                _write_synced(temporary, data)
                temporary.rename(target)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_folder(target.parent)

    def _remove_now(self, path: str, sync_calls: bool) -> None:
        target = self.path(path)
        with _faults("remove", target):
            if sync_calls:
                self._calls.sync()
            try:
                target.unlink()
            except FileNotFoundError:
                return
            _sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


async def finish_despite_cancel(work: asyncio.Future[Any]) -> Any:
    """The result of work that cannot be stopped half-way; a cancellation meanwhile takes effect at the next wait."""
    task = asyncio.current_task()
    cancelled = 0
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            cancelled += 1
            if task is not None:
                task.uncancel()
    if cancelled and task is not None:
        loop = asyncio.get_running_loop()
        for _ in range(cancelled):
            loop.call_soon(task.cancel)
    return work.result()


def _write_synced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fault(verb: str, path: Path, exc: OSError) -> HostSystemError:
    return HostSystemError(exc.errno or errno.EIO, f"cannot {verb} '{path}'")


@contextlib.contextmanager
def _faults(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _fault(verb, path, exc) from exc
