"""Guest processes: who they are, that they outlive us, and how their end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.process import (
    GuestProcess,
    boot_id,
    find_pids_by_argument,
    find_process,
    find_stat,
    spawn_process,
)
from actors.qemu.process_memory import resident_kib, thread_use
from actors.qemu.records import Facts, Record

pytestmark = [pytest.mark.process, pytest.mark.timeout(30)]

SLEEP = [sys.executable, "-ISc", "import time,signal\nsignal.signal(15, signal.SIG_DFL)\ntime.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-ISc",
    "import time,signal\nsignal.signal(15, signal.SIG_IGN)\nprint('.',flush=True)\ntime.sleep(60)",
]


def spawn(tmp_path: Path, argv: list[str], **more: object) -> GuestProcess:
    return spawn_process(argv, environment={"A": "b"}, log=tmp_path / "log", **more)  # type: ignore[arg-type]


async def program_runs(pid: int) -> None:
    """The kernel shows a program's arguments a moment after its caller goes on."""
    for _ in range(500):
        if Path(f"/proc/{pid}/cmdline").read_bytes() and Path(f"/proc/{pid}/environ").read_bytes():
            return
        await asyncio.sleep(0.01)


async def links_of(pid: int, names: set[str]) -> dict[str, str]:
    """A process's descriptors, once it has no others; a program that starts opens some for a moment."""
    for _ in range(500):
        links = {}
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links[one.name] = str(one.readlink())
        if links.keys() == names:
            break
        await asyncio.sleep(0.01)
    return links


async def test_it_leads_a_session_of_its_own_with_nothing_of_ours(tmp_path: Path) -> None:
    read, write = os.pipe()
    process = spawn(tmp_path, SLEEP, inherit=[write])
    try:
        await program_runs(process.pid)
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
        assert Path(f"/proc/{process.pid}/environ").read_bytes() == b"A=b\0"
        links = await links_of(process.pid, {"0", "1", "2", str(write)})
        assert links["0"] == "/dev/null" and links["1"] == links["2"] == str(tmp_path / "log")
        assert set(links) == {"0", "1", "2", str(write)}
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == min(1024, hard)
    finally:
        process.send(signal.SIGKILL)
        assert await process.wait(5)
        os.close(read)
        os.close(write)


async def test_its_end_is_noticed_and_no_zombie_stays(tmp_path: Path) -> None:
    # one that ends before it is looked at is no process that was started
    process = spawn(tmp_path, [sys.executable, "-ISc", "import time; time.sleep(0.5)"])
    told: list[bool] = []
    process.on_end(lambda: told.append(True))
    assert await process.wait(30)
    assert told == [True] and not process.is_alive and process.stat() is None
    assert find_stat(process.pid) is None
    process.send(signal.SIGKILL)  # nobody is hit


async def test_a_pid_is_a_process_only_with_its_start_time_and_boot(tmp_path: Path) -> None:
    process = spawn(tmp_path, SLEEP)
    identity = process.identity
    try:
        assert identity.boot == boot_id()
        again = find_process(process.pid, identity)
        assert again is not None and again.is_alive
        again.release()
        later = dataclasses.replace(identity, start_ticks=identity.start_ticks + 1)
        assert find_process(process.pid, later) is None
        assert find_process(process.pid, dataclasses.replace(identity, boot="another")) is None
    finally:
        process.send(signal.SIGKILL)
        await process.wait(5)
    assert find_process(process.pid, identity) is None


async def test_giving_up_the_watch_tells_nothing(tmp_path: Path) -> None:
    process = spawn(tmp_path, SLEEP)
    told: list[bool] = []
    process.on_end(lambda: told.append(True))
    identity = process.identity
    process.release()
    again = find_process(identity.pid, identity)
    assert again is not None and told == []
    again.send(signal.SIGKILL)
    assert await again.wait(5)
    assert told == []


async def test_a_process_is_found_by_an_argument(tmp_path: Path) -> None:
    marker = f"marker-of-{tmp_path}"
    process = spawn(tmp_path, [*SLEEP, marker])
    try:
        await program_runs(process.pid)
        assert find_pids_by_argument(marker) == [process.pid]
        assert find_pids_by_argument(marker + "x") == []
    finally:
        process.send(signal.SIGKILL)
        await process.wait(5)
    assert find_pids_by_argument(marker) == []


async def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        spawn(tmp_path, ["/nowhere/program"])


async def test_a_frozen_and_a_stubborn_process_are_killed(tmp_path: Path) -> None:
    for argv, freeze in ((SLEEP, True), (STUBBORN, False), (SLEEP, False)):
        guest = Guest(Record("00000000-0000-0000-0000-000000000001", "g", Facts()), "s")
        guest.process = process = spawn(tmp_path, argv)
        if freeze:
            process.send(signal.SIGSTOP)
        await end_process(guest, force=True, patience_s=0.2)
        assert not process.is_alive


async def test_what_a_process_uses(tmp_path: Path) -> None:
    process = spawn(tmp_path, SLEEP)
    try:
        assert (resident_kib(process.pid) or 0) > 0
        use = thread_use(process.pid, process.pid)
        assert use is not None and use.processor >= 0
        assert thread_use(process.pid, 1) is None
    finally:
        process.send(signal.SIGKILL)
        await process.wait(5)
    assert resident_kib(process.pid) is None
