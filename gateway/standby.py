"""Answers native clients' reads for a driver that is given up: what was last known of its guests, and how old that is.

The broker hands such calls over. They are answered by the same readers as libvirt's, so that both doors say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker.peer import IncomingCall, Peer
from gateway.reads import READERS, read_unknown
from rpc.xdr import XdrError, args_codec, result_codec
from schema.body import pack_result, unpack_args
from schema.errors import DriverDegraded, InternalError, UnknownProcedure, VirtError
from schema.table import need_procedure
from settings.drivers import NoDriverForUri, driver_for_uri
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    from gateway.server import Gateway

PRESENT: Final = "gateway_present"
PROCEDURES: Final = (*READERS, PRESENT)


class Standby:
    """The gateway as the broker sees it: one that may be asked."""

    def __init__(self, log: StructuredLog, *, on_fenced: Callable[[], Any]) -> None:
        self._log = log
        self._on_fenced = on_fenced
        self._peer: Peer | None = None
        self._gateway: Gateway | None = None

    def start(self, peer: Peer, gateway: Gateway) -> None:
        """Takes what it answers with and from."""
        self._peer = peer
        self._gateway = gateway

    def on_call(self, call: IncomingCall) -> None:
        """Answers at once."""
        peer = self._peer
        if peer is None:
            return
        if call.prologue.procedure == PRESENT:
            peer.reply(call, self._present(call), seq=0)
            return
        try:
            body, age_s = self._read(call)
        except VirtError as exc:
            peer.fail(call, exc, seq=0)
        except XdrError as exc:
            peer.fail(call, InternalError(str(exc)), seq=0)
        else:
            peer.reply(call, body, seq=0, ticket={"age_s": age_s})

    def _present(self, call: IncomingCall) -> bytes:
        """Which connections there are, of those that are asked about."""
        row = need_procedure(PRESENT)
        known = () if self._gateway is None else self._gateway.connections
        here = {connection.number for connection in known}
        asked = unpack_args(row, call.body).clients
        return pack_result(row, {"clients": [number for number in asked if number in here]})

    def _read(self, call: IncomingCall) -> tuple[bytes, float]:
        name = call.prologue.procedure
        if name not in READERS or self._gateway is None:
            raise UnknownProcedure(name)
        try:
            source = driver_for_uri(call.prologue.scope)
        except NoDriverForUri as exc:
            raise InternalError(str(exc)) from exc
        replica = self._gateway.feed.replica(source)
        row = need_procedure(name)
        answer = None
        if name in replica.serves:
            payload = args_codec(row).encode(unpack_args(row, call.body))
            answer = read_unknown(name, replica.view(call.prologue.scope), payload)
        if answer is None:
            raise DriverDegraded(source, "and nothing is known of what was asked for")
        return pack_result(row, result_codec(row).decode(answer)), self._gateway.clock() - replica.heard_at

    def on_cancel(self, source: bytes, correlation: int) -> None:
        """Everything was answered at once."""

    def on_registered(self, last: tuple[int, int]) -> None:
        """The gateway publishes nothing."""

    def on_event_ack(self, seq: int, resend: bool) -> None:
        """The gateway publishes nothing."""

    def on_broker_lost(self) -> None:
        """The peer connects again by itself; reads are forwarded, and wait, until signs of life come."""
        self._log.warning("the broker is gone")

    def on_fenced(self, why: str) -> None:
        """Another gateway took this one's place."""
        self._log.error("fenced", why=why)
        self._on_fenced()
