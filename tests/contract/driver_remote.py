"""The remote driver: the other host is an actor in the same loop, which speaks libvirt's protocol at a socket.

Nothing on the other host is lost with this driver, so that tests of what a kill leaves of its own files do not apply.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from actors.remote.driver import RemoteActor
from actors.remote.host import RemoteHost
from actors.runtime.runtime import Runtime
from actors.test.driver import TestActor
from tests.contract.driver import ContractDriver
from tests.contract.driver_test import define_xml
from tests.fakes.daemon_of_actor import daemon_of_actor

SOCKET: Final = Path(tempfile.gettempdir()) / f"vt-contract-{os.getpid()}"
SCOPE: Final = f"test+unix:///default?socket={SOCKET}"


def actor() -> RemoteActor:
    """The driver, which opens the other host when it starts; that begins and ends with it."""
    made = RemoteActor()
    far = AsyncExitStack()
    start: Callable[[Runtime], Awaitable[RemoteHost]] = made.start
    stop: Callable[[RemoteHost], Awaitable[None]] = made.stop

    async def start_both(runtime: Runtime) -> RemoteHost:
        root = runtime.paths.state / "far"
        await far.enter_async_context(daemon_of_actor(TestActor(), "test:///default", root, SOCKET))
        host = await start(runtime)
        await host.open(SCOPE)
        return host

    async def stop_both(host: RemoteHost) -> None:
        await stop(host)
        await far.aclose()
        SOCKET.unlink(missing_ok=True)

    replaced: Any = made
    replaced.start, replaced.stop = start_both, stop_both
    return made


DRIVER = ContractDriver(
    actor=actor,
    scope=SCOPE,
    define_xml=define_xml,
    passes_calls_on=True,
    without=(
        "test_killed_at_rest_everything_is_as_it_was",
        "test_a_definition_that_was_not_heard_is_told_by_the_successor",
        "test_on_a_full_disk_a_definition_is_refused_and_nothing_is_half_written",
    ),
)
