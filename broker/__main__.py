"""Runs the broker: `python -I -m broker`."""

from __future__ import annotations

import gc
import os
import pwd
import resource
import sys
from typing import Final

from broker.epochs import make_token
from broker.registry import PLATFORM
from broker.server import Server
from broker.sockets import make_folder
from settings.config import Config, ConfigError
from settings.drivers import available_drivers
from settings.paths import Paths, SocketPathTooLong
from settings.process import current, seal
from util.structured_log import StructuredLog
from util.unwritable import is_unwritable

SWITCH_S: Final = 0.0005
GC_THRESHOLD: Final = 20_000


def main() -> None:
    """Serves until SIGTERM; ends at once when something it needs is missing."""
    try:
        paths, config = current()
        paths.check_socket_lengths()
    except (ConfigError, SocketPathTooLong) as exc:
        sys.exit(f"virtroupe: {exc}")
    seal("broker", paths)
    log = StructuredLog("broker", level=config.log.level, as_json=config.log.json)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        names, users = prepare_roles(paths, config, log)
        server = Server(paths, config, names, users, log)
    except (OSError, ValueError, KeyError) as exc:
        log.error("cannot start", error=str(exc))
        sys.exit(1)
    # the loop must not wait for its own helpers: a thread that reads a replay gives the interpreter back soon, and the
    # collector looks rarely, and never at what was there from the start
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    server.serve_signals()
    server.run()


def prepare_roles(
    paths: Paths, config: Config, log: StructuredLog
) -> tuple[tuple[str, ...], dict[str, frozenset[int]]]:
    """The roles that can exist here, each with a token, and the users as which each may run.

    A token that already lies there makes its role known: that is how a driver that is not in the table is let in.
    """
    closed = 0o711 if os.geteuid() == 0 else 0o700  # an actor's own user must get to its token
    make_folder(paths.state, closed)
    make_folder(paths.tokens, closed)
    found = {path.name for path in paths.tokens.iterdir() if path.suffix != ".new"}
    known = tuple(dict.fromkeys((*PLATFORM, *(driver.name for driver in available_drivers(config)), *sorted(found))))
    names = []
    users: dict[str, frozenset[int]] = {}
    for name in known:
        uid, gid = os.geteuid(), os.getegid()
        wanted = config.actor(name).user
        if wanted and uid == 0:
            try:
                entry = pwd.getpwnam(wanted)
            except KeyError:
                log.error("unknown user", actor=name, user=wanted)
            else:
                uid, gid = entry.pw_uid, entry.pw_gid
        try:
            make_token(paths.token(name), uid, gid)
        except OSError as exc:
            if name in PLATFORM or not is_unwritable(exc):
                raise
            log.error("a driver cannot be let in: there is no token for it", actor=name, error=str(exc))
            continue
        names.append(name)
        users[name] = frozenset({uid, os.geteuid()})
    return tuple(names), users


if __name__ == "__main__":
    main()
