"""Guests that end with the connection which started them: `create --autodestroy`.

A guest is bound to its caller as the broker knows it, and behind the gateway to one of the gateway's connections.
Whether that is still there is asked once a second while there is such a guest, so that nothing depends on somebody
having a word left when it goes: a client that is killed, a gateway that dies with all its connections, a driver that
was away when it happened. Who only has to find its way to a new broker gets the time for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from schema.enums.domain_state import DomainShutoffReason
from schema.errors import VirtError

calls: Calls[QemuHost] = Calls()

PERIOD_S: Final = 1.0
ANSWER_S: Final = 10.0
RETURN_S: Final = 10.0
"""A broker that is younger may not have everybody back yet who was at the one before it."""

_SOURCE: Final = 16
"""The bytes of a call's id that name the caller."""


def this_connection() -> str:
    """The connection of the call that is being answered, as a guest's document holds it."""
    call = current_call()
    source, number = call.id[:_SOURCE].hex(), call.caller.get("client")
    return source if number is None else f"{source}:{number}"


@calls.handles()
def qemu_connection_closed(host: QemuHost) -> None:
    """A connection through which guests were started is over: who is still there is asked at once."""
    host.connection_closed.set()


def watch_connections(host: QemuHost) -> None:
    """Looks after the guests that are bound to connections, as long as there are any."""
    if not host.watches_connections and _bound(host):
        host.watches_connections = True
        host.runtime.spawn(_watch(host), "connections that guests end with")


def _bound(host: QemuHost) -> list[tuple[Guest, str]]:
    return [
        (guest, guest.run.bound_to) for guest in host.guests.values() if guest.run is not None and guest.run.bound_to
    ]


async def _watch(host: QemuHost) -> None:
    try:
        while bound := _bound(host):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await host.connection_closed.wait()
            host.connection_closed.clear()
            try:
                gone = await gone_of(host, {to for _, to in bound})
            except VirtError as exc:
                host.log.debug("who is connected is not known", error=exc.message)
                continue
            for guest, to in bound:
                if to in gone and guest.run is not None and guest.run.bound_to == to:
                    await _end(host, guest)
    finally:
        host.watches_connections = False


async def gone_of(host: QemuHost, bound: Iterable[str]) -> set[str]:
    """Those of the connections that are no more. Raises VirtError when that cannot be found out."""
    parts = {to: to.partition(":") for to in bound}
    sources = {source for source, _, _ in parts.values()}
    answer = await host.runtime.ask(
        "broker", "broker_present", callers=[bytes.fromhex(one) for one in sorted(sources)], deadline_s=ANSWER_S
    )
    present = {one.hex() for one in answer.callers}
    gone = {to for to, (source, _, _) in parts.items() if source not in present}
    if gone and answer.uptime_s < RETURN_S:
        gone = set()
    numbers = {to: int(number) for to, (source, _, number) in parts.items() if number and source in present}
    if numbers:
        clients = await host.runtime.ask(
            "gateway", "gateway_present", clients=sorted(numbers.values()), deadline_s=ANSWER_S
        )
        gone |= {to for to, number in numbers.items() if number not in clients.clients}
    return gone


async def _end(host: QemuHost, guest: Guest) -> None:
    host.log.info("a guest ends with the connection that started it", guest=guest.name)
    guest.destroys = True
    try:
        async with host.intents.change("destroy", {"uuid": guest.record.uuid, "force": True}):
            await end_process(guest, force=True)
            await host.end(guest, DomainShutoffReason.DESTROYED)
    except VirtError as exc:
        host.log.warning("a guest that nobody watches did not end", guest=guest.name, error=exc.message)
    finally:
        if guest.run is not None:
            guest.destroys = False
