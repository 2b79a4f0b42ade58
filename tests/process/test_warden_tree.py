"""The process tree of an agent: one for each root, nothing survives it, and nothing is started that cannot work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from settings.process import EXIT_LOCKED, ROOT_VARIABLE
from settings.tree import PLATFORM
from tests.process.agent import Agent, end_process

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


HOLDER = "gateway.holder"  # holds libvirt's sockets beside the tree, so that who connects meanwhile waits


def test_two_agents_run_side_by_side_and_do_not_meet() -> None:
    with Agent() as one, Agent() as other:
        assert one.processes().keys().isdisjoint(other.processes())
        agents = (one, other)
        assert len({agent.pid(role) for agent in agents for role in (*PLATFORM, "supervisord", "test")}) == 10
        one.stop()
        assert other.wait_ready("test")["state"] == "ready"
        other.run("-c", "test:///default", "list", "--all")


def test_a_second_up_finds_the_agent_running_and_starts_nothing() -> None:
    with Agent() as agent:
        before = {role: agent.pid(role) for role in (*PLATFORM, "supervisord", "test")}
        told = agent.run("up").stdout
        assert "runs already" in told
        assert before == {role: agent.pid(role) for role in before}


def test_a_second_tree_of_one_root_gives_up_before_it_touches_anything() -> None:
    with Agent() as agent:
        socket = agent.paths.supervisor_socket.stat().st_ino
        done = subprocess.run(
            [sys.executable, "-I", "-m", "warden.tree", "-c", str(agent.paths.supervisor_config)],
            env={ROOT_VARIABLE: str(agent.root), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == EXIT_LOCKED
        assert f"is held by process {agent.pid('supervisord')}" in done.stderr
        assert agent.paths.supervisor_socket.stat().st_ino == socket
        assert agent.wait_ready("test")


def test_nothing_outlives_a_killed_supervisord_and_a_new_tree_serves() -> None:
    with Agent() as agent:
        agent.run("-c", "test:///default", "list", "--all")
        old = set(agent.processes())
        assert len(old) >= 5
        agent.kill("supervisord")
        end = time.monotonic() + 10
        while alive := {pid for pid, words in agent.processes().items() if HOLDER not in words}:
            assert time.monotonic() < end, f"they outlived supervisord: {alive}"
            time.sleep(0.01)
        agent.start()
        assert old.isdisjoint(pid for pid, words in agent.processes().items() if HOLDER not in words)
        agent.run("-c", "test:///default", "list", "--all")


def test_a_stopped_broker_dies_with_supervisord_too() -> None:
    with Agent() as agent:
        broker = agent.kill("broker", signal.SIGSTOP)
        agent.kill("supervisord")
        agent.start()
        assert agent.pid("broker") != broker
        assert broker not in agent.processes()


def test_a_broker_that_hangs_is_killed_and_started_again() -> None:
    with Agent("[broker]\nhang_after_s = 1.0\n") as agent:
        agent.run("-c", "test:///default", "list", "--all")
        time.sleep(1.5)  # the warden has asked it something
        broker = agent.kill("broker", signal.SIGSTOP)
        assert agent.wait_for_pid("broker", other_than=broker) != broker
        assert broker not in agent.processes()
        agent.wait_ready("test")
        agent.run("-c", "test:///default", "list", "--all")


def test_down_leaves_nothing_and_says_so_the_second_time() -> None:
    with Agent() as agent:
        assert "is down" in agent.run("down").stdout
        assert agent.processes() == {}
        assert "No agent runs" in agent.run("down").stdout
        failed = agent.run("status", check=False)
        assert failed.returncode == 3
        assert "virtroupe up" in failed.stderr


def test_down_ends_what_a_killed_tree_left() -> None:
    with Agent() as agent:
        agent.kill("supervisord")
        agent.run("down")
        end = time.monotonic() + 5
        while left := agent.processes():
            assert time.monotonic() < end, f"left: {left}"
            time.sleep(0.01)


def test_a_disabled_driver_is_on_demand_again_in_a_new_tree() -> None:
    with Agent() as agent:
        agent.run("actor", "stop", "test")
        agent.wait_state("test", "disabled")
        agent.run("down")
        agent.start()
        assert agent.wait_ready("test")


def test_a_socket_path_that_is_too_long_is_refused_before_anything_starts() -> None:
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    root = base / ("long" * 25)
    agent = Agent(root=root)
    done = agent.run("up", check=False)
    assert done.returncode == 1
    assert "107" in done.stderr
    assert str(root) in done.stderr
    assert not root.exists()
    base.rmdir()


@pytest.mark.parametrize(
    ("toml", "named"),
    [("[broker]\nheartbeats = 1\n", "broker.heartbeats"), ("[warden\n", "TOML"), ("[log]\nlevel = 7\n", "level")],
)
def test_a_configuration_that_cannot_be_used_is_named_before_anything_starts(toml: str, named: str) -> None:
    root = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    agent = Agent(toml, root=root)
    done = agent.run("up", check=False)
    assert done.returncode == 1
    assert named in done.stderr
    assert str(agent.paths.config_file) in done.stderr
    assert not agent.paths.run.exists()
    agent.paths.config_file.unlink()
    agent.paths.config.rmdir()
    root.rmdir()


def test_a_broker_that_cannot_start_is_told_with_its_log() -> None:
    with Agent() as agent:
        agent.run("down")
        # the journal's place is taken by something that is no folder
        for path in sorted(agent.paths.journal.rglob("*"), reverse=True):
            path.unlink()
        agent.paths.journal.rmdir()
        agent.paths.journal.write_text("not a folder")
        done = agent.run("up", check=False, timeout=120)
        assert done.returncode == 1
        assert "the broker does not answer" in done.stderr
        assert str(agent.paths.journal) in done.stderr
        agent.run("down")
        agent.paths.journal.unlink()
        agent.start()


def test_every_socket_that_paths_names_is_there_and_private() -> None:
    import json

    with Agent() as agent:
        told = json.loads(agent.run("paths", "--json").stdout)
        end = time.monotonic() + 20  # metrics are served a little after the calls are
        while absent := [name for name, path in told["sockets"].items() if not Path(path).is_socket()]:
            assert time.monotonic() < end, absent
            time.sleep(0.02)
        for name, path in told["folders"].items():
            assert Path(path).is_dir(), name
        assert agent.paths.actors_door.parent.stat().st_mode & 0o007 in (0, 1)
        assert agent.paths.supervisor_socket.stat().st_mode & 0o077 == 0
        assert agent.paths.log.stat().st_mode & 0o007 == 0


def test_what_a_process_prints_by_mistake_does_not_disturb_the_event_protocol() -> None:
    with Agent() as agent:
        fds = Path(f"/proc/{agent.pid('warden')}/fd")
        assert (fds / "1").readlink() == (fds / "2").readlink(), "standard output goes where standard error goes"


def test_a_process_that_is_started_by_hand_for_a_taken_role_gives_up() -> None:
    with Agent() as agent:
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "broker"],
            env={ROOT_VARIABLE: str(agent.root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = child.communicate(timeout=60)
        finally:
            if child.poll() is None:
                end_process(child.pid)
        assert child.returncode == EXIT_LOCKED
        assert "is held by process" in said
        assert agent.wait_ready("test")
