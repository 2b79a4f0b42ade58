"""A full disk, a read-only state folder: changes are refused clearly, the guest lives, nothing is half written."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.agent import Agent
from tests.real.guest import RealGuest, needs_qemu, qemu_pid

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]

URI = "qemu:///system"
SIZE_MIB = 24


@pytest.fixture
def small_root() -> Iterator[Path]:
    """A root whose state folder is a file system of its own."""
    root = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    state = root / "state"
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=700", "none", str(state)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", "-R", "-l", str(state)], check=True)
        shutil.rmtree(root, ignore_errors=True)


def fill(folder: Path) -> None:
    """Leaves not one free byte."""
    with (folder / "filler").open("wb", buffering=0) as out:
        size = 1 << 20
        while size:
            try:
                out.write(b"\0" * size)
            except OSError:
                size //= 2


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every definition and status file of the driver, whole."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix in (".xml", ".json", ".msgpack")
    }


def define(agent: Agent, guest: RealGuest, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    document = folder / f"{guest.name}.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    return agent.run("-c", URI, "define", str(document), check=check)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_changes_are_refused_and_nothing_is_half_done(how: str, small_root: Path, tmp_path: Path) -> None:
    needs_qemu()
    with Agent(root=small_root) as agent:
        living = RealGuest("living", memory_mib=64, boots=False)
        define(agent, living, tmp_path)
        agent.run("-c", URI, "start", "living")
        pid = qemu_pid(living.uuid)
        state = small_root / "state"
        if how == "full":
            fill(state)
        else:
            # a whole file system with open files cannot be made read-only; the folder of definitions can
            definitions = str(state / "qemu" / "domains")
            subprocess.run(["mount", "--bind", definitions, definitions], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", definitions], check=True)
        before = snapshot_of(state / "qemu")

        newcomer = RealGuest("newcomer", uuid=uuid.uuid4(), memory_mib=64, boots=False)
        refused = define(agent, newcomer, tmp_path, check=False)
        assert refused.returncode != 0
        expected = "No space left on device" if how == "full" else "Read-only file system"
        assert expected in refused.stderr, refused.stderr
        for words in (("autostart", "living"), ("start", "newcomer")):
            assert agent.run("-c", URI, *words, check=False).returncode != 0
        assert snapshot_of(state / "qemu") == before
        assert agent.run("-c", URI, "list", "--all").returncode == 0, "reads go on"
        assert qemu_pid(living.uuid) == pid, "the guest does not notice"

        if how == "full":
            (state / "filler").unlink()
        else:
            subprocess.run(["umount", str(state / "qemu" / "domains")], check=True)
        define(agent, newcomer, tmp_path)
        names = agent.run("-c", URI, "list", "--all").stdout
        assert "newcomer" in names and "living" in names
        agent.run("-c", URI, "destroy", "living")
        assert qemu_pid(living.uuid) is None


@pytest.mark.parametrize("how", [pytest.param("full", marks=pytest.mark.soak), "read-only"])
def test_an_agent_that_cannot_keep_anything_starts_and_is_read(how: str, small_root: Path) -> None:
    uri = "test:///default"
    state = small_root / "state"
    with Agent("[test]\nkeep = true\n", root=small_root) as agent:
        agent.run("-c", uri, "suspend", "test")
        agent.run("down")
        if how == "full":
            fill(state)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)

        agent.start()
        assert "paused" in agent.run("-c", uri, "list", "--all").stdout
        assert agent.virsh(uri, "domstate", "test").stdout.strip() == "paused"
        expected = "No space left on device" if how == "full" else "Read-only file system"
        refused = agent.virsh(uri, "resume", "test", check=False)
        assert refused.returncode != 0
        assert expected in refused.stderr
        for role in ("test", "broker"):
            agent.kill(role)
            agent.wait_until(lambda: says(agent, "paused"), "its guests can be asked about again")

        if how == "full":
            (state / "filler").unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True)
        # nothing has to be started again: the next try finds out
        agent.wait_until(lambda: agent.run("-c", uri, "resume", "test", check=False).returncode == 0, "a change")
        agent.wait_until(lambda: "resumed" in history(agent), "its event is in the journal")
        assert history(agent).count("suspended") == 1
        assert says(agent, "running")


def history(agent: Agent) -> str:
    return agent.run("-c", "test:///default", "events", "--after", "begin", "--no-follow").stdout


def says(agent: Agent, state: str) -> bool:
    return agent.virsh("test:///default", "domstate", "test", check=False).stdout.strip() == state
