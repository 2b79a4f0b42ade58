"""`virtroupe console` in a terminal of its own, with a driver that is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.broker_process import REPOSITORY, BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

LIMIT_S = 20.0


class Terminal:
    """A command in a pseudo terminal."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        self.before: list[Any] = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=REPOSITORY)
        self.shown = b""

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def until(self, text: bytes) -> None:
        """Waits until this is shown, after what was waited for before."""
        end = time.monotonic() + LIMIT_S
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown: {self.shown!r}"
            self.shown += os.read(self._master, 65536)
        self.shown = self.shown.partition(text)[2]

    def ended(self) -> int:
        """The exit code. The terminal must be as it was."""
        code = self.process.wait(timeout=LIMIT_S)
        assert termios.tcgetattr(self.slave) == self.before
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=LIMIT_S)
        os.close(self._master)
        os.close(self.slave)


class ConsoleHouse:
    """A broker, and the driver of `tests.fakes.console`."""

    def __init__(self, house: BrokerHouse) -> None:
        self.root = house.root
        self._environment = {**os.environ, "VIRTROUPE_ROOT": str(house.root)}
        self.driver = self.start_driver()

    def start_driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.fakes.console"]
        self.driver = subprocess.Popen(command, env=self._environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL)
        return self.driver

    def kill_driver(self) -> None:
        self.driver.kill()
        self.driver.wait(timeout=LIMIT_S)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "client.command.main", "--root", str(self.root), "-c", "test:///default"]


@pytest.fixture
def house() -> Iterator[ConsoleHouse]:
    with broker_house() as broker:
        end = time.monotonic() + LIMIT_S
        while not broker.paths.clients_door_read_only.exists():
            assert time.monotonic() < end, broker.log.read_text()
            time.sleep(0.01)
        made = ConsoleHouse(broker)
        try:
            yield made
        finally:
            made.kill_driver()


@pytest.fixture
def terminal(house: ConsoleHouse) -> Iterator[Terminal]:
    with contextlib.closing(Terminal([*house.command, "console", "web1"])) as made:
        made.until(f"console of {house.driver.pid}".encode())
        yield made


def test_keys_go_to_the_guest_raw_and_the_escape_leaves(terminal: Terminal) -> None:
    terminal.type(b"ls\x03\x04\r")
    terminal.until(b"LS\x03\x04\r")
    terminal.type(b"\x1d")
    assert terminal.ended() == 0


def test_the_console_goes_on_when_the_driver_is_killed(terminal: Terminal, house: ConsoleHouse) -> None:
    terminal.type(b"a")
    terminal.until(b"A")
    house.kill_driver()
    terminal.type(b"typed meanwhile")
    house.start_driver()
    terminal.until(f"console of {house.driver.pid}".encode())
    terminal.until(b"TYPED MEANWHILE")
    terminal.type(b"\x1d")
    assert terminal.ended() == 0


def test_a_guest_that_ends_ends_the_console(terminal: Terminal) -> None:
    terminal.type(b"q")
    terminal.until(b"is over")
    assert terminal.ended() == 0


def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.process.terminate()
    assert terminal.ended() == 130


def test_without_a_terminal_the_input_is_typed_and_the_answer_shown(house: ConsoleHouse) -> None:
    told = subprocess.run(
        [*house.command, "console", "web1"],
        input=b"halt now q",
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        cwd=REPOSITORY,
    )
    assert told.returncode == 0
    assert told.stdout.startswith(b"console of ") and told.stdout.endswith(b"HALT NOW Q")
