"""The warden's process, started by supervisord as its event listener: standard output belongs to that protocol."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from settings.config import ConfigError
from settings.process import current, seal
from util.structured_log import StructuredLog
from warden.server import Warden


async def serve() -> None:
    """Takes the protocol's descriptors away from everybody else, then serves until told to stop."""
    paths, config = current()
    protocol_in, protocol_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # whatever prints by mistake prints into the log
    os.close(nothing)
    paths.role_run("warden").mkdir(mode=0o700, parents=True, exist_ok=True)
    warden = Warden(
        paths,
        config,
        StructuredLog("warden", level=config.log.level, as_json=config.log.json),
        protocol_in,
        protocol_out,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, warden.close)
    await warden.run()


def main() -> None:
    """Runs the warden."""
    try:
        paths, _ = current()
    except ConfigError as exc:
        sys.exit(f"virtroupe: {exc}")
    seal("warden", paths)
    asyncio.run(serve())


if __name__ == "__main__":
    main()
