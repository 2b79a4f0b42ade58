"""Connection URIs: which one is meant when none is given, and the scope that a driver knows it by."""

from __future__ import annotations

import os
from typing import Final

from client.errors import InvalidArguments
from settings.config import Config, ConfigError, load_config
from settings.paths import Paths

QEMU: Final = "qemu:///system"
TEST: Final = "test:///default"


def scope_of(uri: str) -> str:
    """The URI as drivers know it: without the way to the daemon, which this library does not take.

    `test+unix:///default?socket=S`, as virsh wants it, is `test:///default`.
    Raises InvalidArguments for a URI of another host, and for a text that is none.
    """
    scheme, colon, rest = uri.partition(":")
    driver, _, transport = scheme.partition("+")
    if not colon or not driver or not rest.startswith("/"):
        raise InvalidArguments(f"'{uri}' is not a connection URI such as '{QEMU}'")
    if transport not in ("", "unix"):
        raise InvalidArguments(f"'{uri}' names the transport '{transport}', this library reaches only the local agent")
    if transport:
        rest = rest.partition("?")[0]
    return f"{driver.lower()}:{rest}"


def default_uri(paths: Paths) -> str:
    """What is meant when no URI is given: QEMU where it can run, else the test driver.

    QEMU's is `qemu:///session` at the agent of an ordinary user, whoever asks.
    """
    from settings.drivers import available_drivers, default_uris

    try:
        config = load_config(paths.config_file)
    except ConfigError:
        config = Config()
    names = {driver.name for driver in available_drivers(config)}
    return next((uri for name, uri in default_uris(_agents_user(paths)) if name in names), TEST)


def _agents_user(paths: Paths) -> int:
    try:
        return paths.clients_door.stat().st_uid
    except OSError:
        return os.geteuid()
