"""Runs the gateway: `python -I -m gateway`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import sys

import uvloop

from broker.peer import Peer
from gateway.entrances import Entrances
from gateway.listening import Listening
from gateway.server import Gateway
from gateway.standby import PROCEDURES, Standby
from settings.config import Config
from settings.paths import Paths
from settings.process import current, seal
from util.structured_log import StructuredLog

VERSION = "1"
EXIT_FENCED = 70  # EX_SOFTWARE: start me again


async def _run(paths: Paths, config: Config) -> None:
    log = StructuredLog("gateway", level=config.log.level, as_json=config.log.json)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    # polkit is asked about everybody, so everybody may come; a group that is named still narrows that.
    listening = Listening(paths, config.gateway.socket_group, for_everybody=config.gateway.auth_unix == "polkit")
    entrances = Entrances(paths, config, log)
    fenced = asyncio.Event()
    standby = Standby(log, on_fenced=fenced.set)
    stopping = asyncio.create_task(_first_of(stopped, fenced))
    peer: Peer | None = None
    try:
        connecting = asyncio.create_task(_connect(paths, standby))
        await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return
        peer = connecting.result()
        gateway = Gateway(peer, config, log)
        standby.start(peer, gateway)
        peer.ready(PROCEDURES, VERSION)
        serving = asyncio.create_task(gateway.serve(listening, entrances))
        log.info("ready", socket=str(paths.libvirt_socket))
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        if fenced.is_set():
            sys.exit(EXIT_FENCED)  # no orderly stop: the sockets stay, and the next gateway serves who waits there
        peer.bye()
    finally:
        stopping.cancel()
        if stopped.is_set():
            listening.end()
            entrances.end()
        if peer is not None:
            await peer.aclose()


async def _first_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _connect(paths: Paths, standby: Standby) -> Peer:
    while True:
        try:
            return await Peer.connect_role(paths, "gateway", standby)
        except (TimeoutError, ConnectionError, FileNotFoundError):
            # The sockets are bound already: clients wait, and so does the gateway.
            await asyncio.sleep(0.2)


def _raise_open_files(clients: int) -> None:
    """Room for a descriptor per client, one per stream, and some more, as far as the system lets this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * clients + 256
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main() -> int:
    """Serves until SIGTERM."""
    paths, config = current()
    seal("gateway", paths)
    _raise_open_files(config.gateway.max_clients)
    # Ten thousand guests are many objects that stay: to look through them all for cycles would show in readers' p99.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    uvloop.run(_run(paths, config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
