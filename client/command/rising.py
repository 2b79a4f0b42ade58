"""Waiting until a started agent answers, and showing how far it is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from broker.peer import Peer
    from settings.paths import Paths

BROKER_S: Final = 30.0
PART_S: Final = 60.0
LOOK_S: Final = 0.02


class NotReady(Exception):
    """A part of the agent did not answer in time; `role` is the one whose log may say why."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(f"the {role} does not answer: {why}")
        self.role = role


class Steps:
    """The steps of a start: on a terminal a spinner that becomes a tick, elsewhere one line each."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=False, quiet=quiet, highlight=False)
        self._begin = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows that something is under way, then that it is done or failed."""
        begin = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f"{what} ..."):
                yield from self._guarded(what)
        else:
            yield from self._guarded(what)
        self._console.print(f"[green]✓[/green] {what} [dim]({(time.monotonic() - begin) * 1000:.0f} ms)[/dim]")

    def say(self, text: str) -> None:
        """A line between the steps."""
        self._console.print(text, soft_wrap=True, markup=False)

    @property
    def took_s(self) -> float:
        """Since the first step began."""
        return time.monotonic() - self._begin

    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._console.print(f"[red]✗[/red] {what}")
            raise


async def wait_until_ready(paths: Paths, steps: Steps) -> dict[str, Any]:
    """The broker's status once broker, gateway, warden and the test driver answer. Raises NotReady."""
    from broker.peer import Peer
    from schema.errors import VirtError

    with steps.step("the broker answers"):
        try:
            peer = await Peer.connect_client(paths, program="virtroupe up", wait_s=BROKER_S)
        except VirtError as exc:
            raise NotReady("broker", exc.message) from exc
    try:
        for role, words in (("warden", "the warden watches"), ("gateway", "the gateway speaks libvirt's protocol")):
            with steps.step(words):
                await _until_state(peer, role, "ready")
        with steps.step("the test driver answers"):
            await _named("test", ask(peer, "test", "actor_ping", PART_S))
        return dict((await _named("broker", ask(peer, "broker", "broker_status", BROKER_S))).status)
    finally:
        await peer.aclose()


async def ask(peer: Peer, destination: str, called: str, deadline_s: float, /, **arguments: object) -> Any:
    """The result of a procedure. Raises the VirtError that came back."""
    from schema.body import pack_args, unpack_result
    from schema.table import need_procedure

    procedure = need_procedure(called)
    reply = await peer.call(destination, called, pack_args(procedure, arguments), deadline_s=deadline_s)
    return unpack_result(procedure, reply.body)


async def _until_state(peer: Peer, role: str, state: str) -> None:
    end = time.monotonic() + PART_S
    while True:
        actors = (await _named("broker", ask(peer, "broker", "broker_status", BROKER_S))).status["actors"]
        if actors[role]["state"] == state:
            return
        if time.monotonic() > end:
            raise NotReady(role, f"it is {actors[role]['state']} after {PART_S:g} s")
        await asyncio.sleep(LOOK_S)


async def _named(role: str, asking: Awaitable[Any]) -> Any:
    from schema.errors import VirtError

    try:
        return await asking
    except VirtError as exc:
        raise NotReady(role, exc.message) from exc


def tell_failure(paths: Paths, error: NotReady) -> None:
    """Says what did not work, with the last lines of its log."""
    from client.command.logs import last_lines

    sys.stderr.write(f"error: {error}\n")
    for line in last_lines(paths, error.role, 15):
        sys.stderr.write(f"  {line}\n")
