"""Clients wait while no gateway lives, and are refused once it was stopped: real processes, killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpc.packet import Packet, PacketReader, PacketType, Program, pack_packet
from tests.process.gateway_house import WAIT_S, GatewayHouse, is_holder, wait_for

pytestmark = pytest.mark.process

AUTH_LIST = pack_packet(Packet(Program.REMOTE, 1, 66, PacketType.CALL, 0, 0, b""))


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    house = GatewayHouse()
    try:
        house.start("broker")
        house.start("gateway")
        house.wait_until_served()
        yield house
    finally:
        house.close()


@contextlib.contextmanager
def connected(house: GatewayHouse) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(os.fspath(house.paths.libvirt_socket))
        yield sock


def is_answered(sock: socket.socket) -> bool:
    reader = PacketReader()
    while (packet := reader.next_packet()) is None:
        data = sock.recv(4096)
        if not data:
            return False
        reader.feed(data)
    return packet.type == PacketType.REPLY


def ask(house: GatewayHouse) -> bool:
    with connected(house) as sock:
        sock.sendall(AUTH_LIST)
        return is_answered(sock)


def holder(house: GatewayHouse) -> int:
    wait_for("a holder", lambda: (pid := house.holder_pid()) is not None and is_holder(pid))
    pid = house.holder_pid()
    assert pid is not None
    return pid


def test_client_that_comes_while_the_gateway_is_dead_waits_and_is_served_by_the_next(house: GatewayHouse) -> None:
    assert ask(house)
    first = holder(house)
    house.kill("gateway")
    with connected(house) as one, connected(house) as two:
        one.sendall(AUTH_LIST)
        one.settimeout(0.2)
        with pytest.raises(TimeoutError):
            one.recv(1)
        one.settimeout(WAIT_S)
        house.start("gateway")
        assert is_answered(one)
        two.sendall(AUTH_LIST)
        assert is_answered(two)
    assert holder(house) == first
    for _ in range(3):
        house.kill("gateway")
        house.start("gateway")
        assert ask(house)
    assert holder(house) == first


def test_stopped_gateway_leaves_neither_sockets_nor_a_holder(house: GatewayHouse) -> None:
    pid = holder(house)
    house.kill("gateway", signal.SIGTERM)
    assert not house.paths.libvirt_socket.exists()
    assert not house.paths.libvirt_socket_read_only.exists()
    wait_for("the holder's end", lambda: not is_holder(pid))
    with pytest.raises(FileNotFoundError), connected(house):
        pass
    house.start("gateway")
    house.wait_until_served()
    assert ask(house)


def test_holder_that_was_killed_is_replaced(house: GatewayHouse) -> None:
    pid = holder(house)
    os.kill(pid, signal.SIGKILL)
    wait_for("another holder", lambda: house.holder_pid() not in (pid, None) and is_holder(house.holder_pid() or 0))
    house.kill("gateway")
    with connected(house) as sock:
        sock.sendall(AUTH_LIST)
        house.start("gateway")
        assert is_answered(sock)


def test_when_both_are_killed_the_next_gateway_begins_anew(house: GatewayHouse) -> None:
    pid = holder(house)
    house.kill("gateway")
    os.kill(pid, signal.SIGKILL)
    wait_for("the refusal", lambda: is_refused(house))
    house.start("gateway")
    wait_for("service", lambda: not is_refused(house))
    assert ask(house)
    assert holder(house) != pid


def is_refused(house: GatewayHouse) -> bool:
    try:
        with connected(house):
            return False
    except (ConnectionRefusedError, FileNotFoundError):
        return True


def test_holder_ends_when_it_is_told_and_takes_the_sockets_with_it(house: GatewayHouse) -> None:
    pid = holder(house)
    house.kill("gateway")
    os.kill(pid, signal.SIGTERM)
    wait_for("the holder's end", lambda: not is_holder(pid))
    assert not house.paths.libvirt_socket.exists()


def test_holder_ends_when_its_root_is_removed(house: GatewayHouse) -> None:
    pid = holder(house)
    house.kill("gateway")
    shutil.rmtree(house.paths.role_run("gateway"))
    wait_for("the holder's end", lambda: not is_holder(pid))


def test_removed_socket_is_made_anew_by_the_next_gateway(house: GatewayHouse) -> None:
    house.kill("gateway")
    house.paths.libvirt_socket.unlink()
    house.start("gateway")
    house.wait_until_served()
    assert ask(house)


def test_sockets_are_open_to_those_who_may_use_them(house: GatewayHouse) -> None:
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (house.paths.libvirt_socket, house.paths.libvirt_socket_read_only)
    }
    assert modes == {"libvirt-sock": 0o600, "libvirt-sock-ro": 0o666}
    assert stat.S_IMODE(house.paths.libvirt_socket.parent.stat().st_mode) == 0o755


def test_holder_outlives_the_session_and_hands_nothing_to_others(house: GatewayHouse) -> None:
    pid = holder(house)
    assert os.getsid(pid) == pid
    control = house.paths.role_run("gateway") / "sockets"
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (control.parent, house.paths.run, house.root):
        folder.chmod(0o755)
    control.chmod(0o666)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.settimeout(5);"
        "s.connect(sys.argv[1]); s.sendall(b'T'); print(len(socket.recv_fds(s, 1, 2)[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, control], capture_output=True, text=True, timeout=20, check=False)
    assert run.stdout.strip() != "2", run.stdout
    assert ask(house)


def test_other_users_may_read_only(house: GatewayHouse) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    house.root.chmod(0o711)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.settimeout(10); s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2])); print(len(s.recv(100)))"
    )
    answers = []
    for path in (house.paths.libvirt_socket_read_only, house.paths.libvirt_socket):
        command = [sys.executable, "-c", code, os.fspath(path), AUTH_LIST.hex()]
        answers.append(subprocess.run(command, capture_output=True, text=True, timeout=20, check=False))
    assert answers[0].stdout.strip() == "36", answers[0].stderr
    assert "PermissionError" in answers[1].stderr


def test_second_gateway_does_not_take_over(house: GatewayHouse) -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-m", "gateway"],
        env={**os.environ, "VIRTROUPE_ROOT": str(house.root)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode != 0
    assert "is held by process" in run.stderr
    assert ask(house)


def test_paths_are_those_of_the_settings(house: GatewayHouse) -> None:
    assert house.paths.libvirt_socket == Path(house.root) / "run" / "libvirt" / "libvirt-sock"
