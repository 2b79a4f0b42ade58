"""Socket activation: somebody else listens, clients come first, and `virtroupe up` is given the sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.activation import NotOurs, sort_out
from settings.paths import Paths
from tests.process.agent import Agent
from tests.process.gateway_house import GatewayHouse, wait_for
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.process, pytest.mark.real, pytest.mark.timeout(300)]

GIVE = """
import os, sys
first, last, *words = sys.argv[1:]
for number, fd in enumerate((int(first), int(last))):
    os.dup2(fd, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.execv(words[0], words)
"""


def listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(64)
    return sock


class Listener:
    """What systemd is: it listens, whoever serves."""

    def __init__(self, paths: Paths) -> None:
        self.sockets = (listen(paths.libvirt_socket), listen(paths.libvirt_socket_read_only))

    def start(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a program which is given the sockets."""
        fds = tuple(sock.fileno() for sock in self.sockets)
        high = [os.dup(fd) for fd in fds]
        try:
            return subprocess.run(
                [sys.executable, "-c", GIVE, *map(str, high), *words],
                pass_fds=high, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
                env={**os.environ, **environment},
            )  # fmt: skip
        finally:
            for fd in high:
                os.close(fd)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Early:
    """A client that connects while nobody serves."""

    def __init__(self, virsh: Callable[[], subprocess.CompletedProcess[str]]) -> None:
        self.done: subprocess.CompletedProcess[str] | None = None

        def run() -> None:
            self.done = virsh()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def answer(self) -> str:
        self._thread.join(120)
        assert self.done is not None
        assert self.done.returncode == 0, self.done.stderr
        return self.done.stdout


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    need_virsh()
    made = GatewayHouse("[test]\nkeep = true\n")
    try:
        yield made
    finally:
        made.show_logs()
        made.close()


def activate(house: GatewayHouse, listener: Listener) -> None:
    done = listener.start(
        sys.executable, "-I", "-m", "gateway.activation", "2", VIRTROUPE_ROOT=str(house.root)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_who_connected_before_is_served_and_the_sockets_stay(house: GatewayHouse) -> None:
    listener = Listener(house.paths)
    try:
        paths = (house.paths.libvirt_socket, house.paths.libvirt_socket_read_only)
        inodes = [path.stat().st_ino for path in paths]
        early = Early(lambda: house.virsh("list", timeout=100))
        activate(house, listener)
        for role in ("broker", "test", "gateway"):
            house.start(role)
        assert "running" in early.answer()
        assert house.virsh("list", uri=house.uri(read_only=True)).returncode == 0

        house.kill("gateway")
        waiting = Early(lambda: house.virsh("list", timeout=100))
        house.start("gateway")
        assert "running" in waiting.answer()

        house.end("gateway")  # in order: nobody serves here any more, but somebody listens
        wait_for("the holder's end", lambda: house.holder_pid() is None or not is_alive(house.holder_pid()))
        later = Early(lambda: house.virsh("list", timeout=100))
        activate(house, listener)
        house.start("gateway")
        assert "running" in later.answer()
        assert inodes == [path.stat().st_ino for path in paths]
    finally:
        listener.close()


def is_alive(pid: int | None) -> bool:
    try:
        return pid is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in "ZX"
    except OSError:
        return False


def test_a_gateway_without_given_sockets_makes_its_own_again(house: GatewayHouse) -> None:
    listener = Listener(house.paths)
    activate(house, listener)
    for role in ("broker", "test", "gateway"):
        house.start(role)
    wait_for("the driver serves", lambda: house.virsh("list").returncode == 0)
    house.end("gateway")
    listener.close()
    house.start("gateway")
    wait_for("it serves again", lambda: house.virsh("list").returncode == 0)
    house.end("gateway")
    assert not house.paths.libvirt_socket.exists()


def test_other_sockets_are_refused(house: GatewayHouse, tmp_path: Path) -> None:
    with listen(house.root / "other") as other, pytest.raises(NotOurs, match="other"):
        sort_out(house.paths, [other])
    with listen(house.paths.libvirt_socket) as ours, socket.socket() as tcp:
        read_write, read_only = sort_out(house.paths, [tcp, ours])
        assert read_write is ours
        read_only.close()
        assert house.paths.libvirt_socket_read_only.is_socket()


def test_the_command_hands_on_what_it_was_given() -> None:
    need_virsh()
    agent = Agent()
    listener = Listener(agent.paths)
    try:
        uri = f"test+unix:///default?socket={agent.paths.libvirt_socket}"
        early = Early(
            lambda: subprocess.run(
                ["virsh", "-c", uri, "list", "--all"],
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        )
        done = listener.start(str(Path(sys.executable).with_name("virtroupe")), "--root", str(agent.root), "up")
        assert done.returncode == 0, done.stderr
        assert "test" in early.answer()
    finally:
        agent.stop()
        listener.close()
    assert agent.paths.libvirt_socket.exists(), "it is the listener's"
