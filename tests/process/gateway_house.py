"""A broker, the test driver and the gateway as processes below a root of their own, and real virsh against them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.process.broker_process import BrokerHouse
from tests.process.ending import end_processes_below

WAIT_S = 20.0


def wait_for(what: str, condition: Callable[[], bool], limit_s: float = WAIT_S) -> None:
    """Waits until something holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {limit_s:.0f} s"
        time.sleep(0.01)


class GatewayHouse(BrokerHouse):
    """Starts and ends the processes; each by its pid."""

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str) -> int:
        """Starts a role's process."""
        with (self.root / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(role),
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started[role] = process
        return process.pid

    def command(self, role: str) -> list[str]:
        """How a role's process is started."""
        modules = {"gateway": "gateway", "broker": "broker"}
        return [sys.executable, "-I", "-m", modules.get(role, f"actors.{role}")]

    def end(self, role: str) -> None:
        """Ends a role's process in order and waits until it is gone."""
        self.kill(role, signal.SIGTERM)

    def kill(self, role: str, number: int = signal.SIGKILL) -> None:
        """Ends a role's process and waits until it is gone."""
        process = self._started.pop(role)
        process.send_signal(number)
        process.wait(timeout=WAIT_S)

    def wait_until_served(self) -> None:
        """Waits until the gateway's sockets take connections."""

        def served() -> bool:
            for path in (self.paths.libvirt_socket, self.paths.libvirt_socket_read_only):
                with socket.socket(socket.AF_UNIX) as sock:
                    try:
                        sock.connect(os.fspath(path))
                    except OSError:
                        return False
            return True

        wait_for("the gateway's sockets", served)

    def uri(self, name: str = "test:///default", *, read_only: bool = False) -> str:
        scheme, _, rest = name.partition(":")
        path = self.paths.libvirt_socket_read_only if read_only else self.paths.libvirt_socket
        return f"{scheme}+unix:{rest}?socket={path}"

    def virsh(
        self, *arguments: str, uri: str | None = None, timeout: float = 30.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs real virsh."""
        return subprocess.run(
            ["virsh", "-c", uri or self.uri(), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )

    def log_of(self, role: str) -> str:
        path: Path = self.root / f"{role}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def show_logs(self, *more: str) -> None:
        """Prints what the processes logged; pytest shows it when the test fails."""
        for role in ("broker", "test", "gateway", *more):
            print(f"--- log of {role}\n{self.log_of(role)[-4000:]}")

    def close(self) -> None:
        for role in ("gateway", *tuple(self._started)):
            process = self._started.pop(role, None)
            if process is None:
                continue
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM if role == "gateway" else signal.SIGKILL)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=WAIT_S)
        self._end_holder()
        end_processes_below(self.root)
        super().close()

    def holder_pid(self) -> int | None:
        """The process that holds the gateway's sockets."""
        try:
            return int(self.paths.lock("gateway-sockets").read_text())
        except (OSError, ValueError):
            return None

    def _end_holder(self) -> None:
        pid = self.holder_pid()
        if pid is not None and is_holder(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_holder(pid: int) -> bool:
    """Whether the process is one that holds a gateway's sockets."""
    try:
        return b"gateway.holder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def gateway_house(config: str = "", *roles: str) -> Iterator[GatewayHouse]:
    """A house in which broker, test driver (or `roles`) and gateway run."""
    house = GatewayHouse(config)
    try:
        for role in ("broker", *(roles or ("test",)), "gateway"):
            house.start(role)
        house.wait_until_served()
        yield house
    finally:
        house.close()
