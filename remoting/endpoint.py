"""Ways to a daemon: a unix socket, TCP, TLS, or a program (ssh) that carries the bytes.

A program per connection is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from remoting.unix_way import UnixWay, open_unix_way
from rpc.uri import SERVER_PORTS, RemoteUri
from schema.errors import AuthFailed, RpcError
from util.sasl import SaslSession

CONNECT_S: Final = 15.0
BUFFER: Final = 1 << 20
SYSTEM_SOCKET: Final = "/run/libvirt/libvirt-sock"
PKI_FOLDER: Final = Path("/etc/pki")
_END_S: Final = 2.0
_WORDS_S: Final = 0.5
_STDERR_MAX: Final = 4096


@dataclass(slots=True)
class Channel:
    """An open way; `said` is what the program that carries it wrote to its standard error."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter | UnixWay
    process: asyncio.subprocess.Process | None = None
    said: bytearray = field(default_factory=bytearray)
    listening: asyncio.Task[None] | None = None
    layer: SaslSession | None = None
    """What encrypts the bytes on this way, once that is agreed."""

    def write(self, data: bytes) -> None:
        """Sends, encrypted if that is agreed. Raises SaslError."""
        self.writer.write(data if self.layer is None else self.layer.encode(data))

    async def read(self, most: int) -> bytes:
        """What came; nothing at the end. Raises OSError, and SaslError for what cannot be decrypted."""
        while data := await self.reader.read(most):
            if self.layer is None or (data := self.layer.decode(data)):
                break
        return data

    @property
    def ends(self) -> tuple[str, str] | None:
        """The addresses of both ends, as SASL writes them; nothing without a network."""
        if isinstance(self.writer, UnixWay) or self.process is not None:
            return None
        names = (self.writer.get_extra_info("sockname"), self.writer.get_extra_info("peername"))
        return f"{names[0][0]};{names[0][1]}", f"{names[1][0]};{names[1][1]}"

    @property
    def files(self) -> UnixWay | None:
        """What can carry open files; nothing where none can be passed."""
        return self.writer if isinstance(self.writer, UnixWay) else None

    async def last_words(self) -> str:
        """What its program said before it ended."""
        if self.listening is not None:
            await asyncio.wait({self.listening}, timeout=_WORDS_S)
        return bytes(self.said).decode(errors="replace").strip()

    def close(self) -> None:
        """Lets go of it at once; what was written may still be on its way."""
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.close()

    async def aclose(self) -> None:
        """Lets go of it and waits for the end of its program."""
        self.close()
        if self.process is not None:
            try:
                await asyncio.wait_for(self.process.wait(), _END_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        else:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self.writer.wait_closed(), _END_S)
        if self.listening is not None:
            self.listening.cancel()


async def open_channel(uri: RemoteUri, *, timeout_s: float = CONNECT_S) -> Channel:
    """Connects.

    Raises RpcError when the daemon cannot be reached, AuthFailed when it refuses this side's certificate.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _open(uri)
    except TimeoutError as exc:
        raise RpcError(f"unable to connect to '{uri.text}': no answer within {timeout_s:g} s") from exc
    except OSError as exc:
        raise RpcError(f"unable to connect to '{uri.text}': {exc.strerror or exc}") from exc


async def _open(uri: RemoteUri) -> Channel:
    if uri.transport == "unix":
        way = await open_unix_way(uri.socket or local_socket(uri), BUFFER)
        return Channel(way.reader, way)
    if uri.transport == "tcp":
        return Channel(*await asyncio.open_connection(uri.host, uri.port or SERVER_PORTS["tcp"], limit=BUFFER))
    if uri.transport == "tls":
        return await _open_tls(uri)
    return await _open_program(command_of(uri))


def local_socket(uri: RemoteUri) -> str:
    """Where a daemon of this host listens."""
    if not uri.is_session:
        return SYSTEM_SOCKET
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"{runtime}/libvirt/libvirt-sock"


# --- TLS ---


async def _open_tls(uri: RemoteUri) -> Channel:
    context = await asyncio.get_running_loop().run_in_executor(None, tls_context, uri)
    try:
        reader, writer = await asyncio.open_connection(
            uri.host, uri.port or SERVER_PORTS["tls"], ssl=context, server_hostname=uri.host, limit=BUFFER
        )
    except ssl.SSLError as exc:
        raise AuthFailed(f"TLS with '{uri.host}' failed: {exc.reason or exc}") from exc
    channel = Channel(reader, writer)
    try:
        # the daemon says one byte when it has accepted this side's certificate
        verdict = await reader.readexactly(1)
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as exc:
        channel.close()
        raise AuthFailed(f"'{uri.host}' does not accept this host's certificate") from exc
    if verdict != b"\1":
        channel.close()
        raise AuthFailed(f"'{uri.host}' does not accept this host's certificate")
    return channel


def tls_context(uri: RemoteUri) -> ssl.SSLContext:
    """Certificates from the folders that libvirt uses. Raises RpcError when one cannot be read."""
    ca, cert, key = pki_files(uri)
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not uri.verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if uri.verifies:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert.exists():
            context.load_cert_chain(str(cert), str(key))
    except (OSError, ssl.SSLError) as exc:
        raise RpcError(f"the certificates of '{uri.text}' cannot be read ({ca}, {cert}, {key}): {exc}") from exc
    return context


def pki_files(uri: RemoteUri) -> tuple[Path, Path, Path]:
    """The authority's certificate, this side's certificate and its key."""
    folder = uri.parameters.get("pkipath")
    if folder:
        base = Path(folder)
        return base / "cacert.pem", base / "clientcert.pem", base / "clientkey.pem"
    own = Path.home() / ".pki" / "libvirt"
    if os.geteuid() != 0 and (own / "clientcert.pem").exists():
        return own / "cacert.pem", own / "clientcert.pem", own / "clientkey.pem"
    system = PKI_FOLDER / "libvirt"
    return PKI_FOLDER / "CA" / "cacert.pem", system / "clientcert.pem", system / "private" / "clientkey.pem"


# --- a program that carries the bytes ---


def command_of(uri: RemoteUri) -> list[str]:
    """The command line of `ssh` and `ext`."""
    given = uri.parameters
    if uri.transport == "ext":
        return [given["command"]]
    command = [given.get("command") or "ssh"]
    if uri.port is not None:
        command += ["-p", str(uri.port)]
    if uri.user:
        command += ["-l", uri.user]
    if given.get("keyfile"):
        command += ["-i", given["keyfile"]]
    if not uri.verifies:
        command += ["-o", "StrictHostKeyChecking=no"]
    if given.get("known_hosts"):
        command += ["-o", f"UserKnownHostsFile={given['known_hosts']}"]
    # nobody sits in front of this process who could be asked for a password
    command += ["-T", "-e", "none", "-o", "BatchMode=yes", "--", uri.host]
    return [*command, _far_command(uri)]


def _far_command(uri: RemoteUri) -> str:
    """What is run on the other host: libvirt's own helper where it is, else netcat."""
    given = uri.parameters
    mode = given.get("proxy", "auto")
    socket = given.get("socket") or ("$XDG_RUNTIME_DIR/libvirt/libvirt-sock" if uri.is_session else SYSTEM_SOCKET)
    quoted = f'"{socket}"' if socket.startswith("$") else shlex.quote(socket)
    netcat = f"{shlex.quote(given.get('netcat') or 'nc')} -U {quoted}"
    helper = f"virt-ssh-helper {shlex.quote(uri.name)}"
    if mode == "netcat" or given.get("socket") or given.get("netcat"):
        script = netcat
    elif mode == "native":
        script = helper
    else:
        script = f"if command -v virt-ssh-helper >/dev/null 2>&1; then exec {helper}; else exec {netcat}; fi"
    return f"sh -c {shlex.quote(script)}"


async def _open_program(command: Sequence[str]) -> Channel:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=BUFFER,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    channel = Channel(process.stdout, process.stdin, process)
    channel.listening = asyncio.create_task(_listen(process.stderr, channel.said))
    return channel


async def _listen(stderr: asyncio.StreamReader, said: bytearray) -> None:
    while piece := await stderr.read(1024):
        said += piece
        del said[:-_STDERR_MAX]
