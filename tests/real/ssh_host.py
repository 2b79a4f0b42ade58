"""An sshd of our own on loopback: private keys, configuration and port, in the namespace of a private libvirtd."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process.test_gateway_tls import free_port

SSHD = "/usr/sbin/sshd"
_START_S = 30.0


@dataclass
class SshHost:
    """How it is reached."""

    port: int
    folder: Path

    def uri(self, path: str, *, driver: str = "test", **parameters: object) -> str:
        """A URI over ssh to this host."""
        words = {"keyfile": self.folder / "key", "known_hosts": self.folder / "known", **parameters}
        query = "&".join(f"{name}={value}" for name, value in words.items())
        return f"{driver}+ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}?{query}"


@contextmanager
def ssh_host(folder: Path, inside: Sequence[str] = ()) -> Iterator[SshHost]:
    """Runs sshd for the block; `inside` is what its command line begins with. Skips where there is none."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("no sshd here (Debian: openssh-server)")
    if os.geteuid() != 0:
        pytest.skip("sshd needs root to let root in")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=60
        )
    port = free_port()
    public = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    (folder / "allowed").write_bytes((folder / "key.pub").read_bytes())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/allowed\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\n"
    )
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [*inside, SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_S
        while not _listens(port):
            said = (folder / "sshd.log").read_text(errors="replace")
            assert process.poll() is None, f"sshd ended: {said}"
            assert time.monotonic() < end, f"sshd does not listen: {said}"
            time.sleep(0.05)
        yield SshHost(port, folder)
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
