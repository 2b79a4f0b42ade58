"""A real broker and fake roles as processes below a root of their own, each ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from settings.paths import Paths, resolve_paths

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = ("test", "qemu", "warden", "gateway")


class BrokerHouse:
    """A root, the broker in it, and whatever else a test starts there."""

    def __init__(self, config: str = "") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
        self.paths: Paths = resolve_paths(self.root)
        self.paths.tokens.mkdir(parents=True)
        for role in ROLES:
            self.paths.token(role).write_bytes(secrets.token_bytes(32))
            self.paths.token(role).chmod(0o600)
        if config:
            self.paths.config.mkdir(parents=True)
            self.paths.config_file.write_text(config, encoding="utf-8")
        self.broker: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self.log = self.root / "broker.log"

    def start_broker(self) -> int:
        with self.log.open("ab") as log:
            self.broker = subprocess.Popen(
                [sys.executable, "-I", "-m", "broker"], env=self._environment(), stdin=subprocess.DEVNULL, stderr=log
            )
        return self.broker.pid

    def kill_broker(self, number: int = signal.SIGKILL) -> None:
        assert self.broker is not None
        self.broker.send_signal(number)
        self.broker.wait(timeout=20)

    def start_role(self, name: str) -> subprocess.Popen[bytes]:
        """A `tests.fakes.role` process, ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.role", name],
            env=self._environment(),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._others.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == b"ready\n", f"the fake role '{name}' said {line!r}; broker: {self.log.read_text()}"
        return process

    async def role(self, name: str) -> subprocess.Popen[bytes]:
        return await asyncio.to_thread(self.start_role, name)

    def close(self) -> None:
        for process in (*self._others, self.broker):
            if process is None:
                continue
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(timeout=20)
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "VIRTROUPE_ROOT": str(self.root)}


@contextlib.contextmanager
def broker_house(config: str = "") -> Iterator[BrokerHouse]:
    """A house with a broker that has been started."""
    house = BrokerHouse(config)
    try:
        house.start_broker()
        yield house
    finally:
        house.close()
