"""Connection URIs: which one is meant when none is given, and the scope that a driver knows it by."""

from __future__ import annotations

import os
from typing import Final

from client.errors import InvalidArguments
from settings.config import Config, ConfigError, load_config
from settings.drivers import leads_elsewhere
from settings.paths import Paths

QEMU: Final = "qemu:///system"
TEST: Final = "test:///default"


def scope_of(uri: str) -> str:
    """The URI as drivers know it: that of another daemon as it stands, any other with its driver in lower case.

    Raises InvalidArguments for a text that is no URI.
    """
    driver, colon, rest = uri.partition(":")
    if not colon or not driver or not rest.startswith("/"):
        raise InvalidArguments(f"'{uri}' is not a connection URI such as '{QEMU}'")
    return uri if leads_elsewhere(uri) else f"{driver.lower()}:{rest}"


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
