"""One client of the admin program: every call is answered at once from what the gateway knows of itself."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final

from gateway.admin.answers import AdminAnswers
from gateway.faults import error_payload
from gateway.link import Link
from rpc.packet import PONG_BYTES, PacketError, Program
from rpc.session import CallReceived, CallRefused, PingReceived, PongReceived, RemoteProtocolError, ServerSession
from rpc.xdr import XdrError, args_codec, result_codec
from schema.body import result_struct
from schema.enums.admin import ClientTransport
from schema.errors import ErrorDomain, InternalError, RpcError, VirtError
from schema.table import procedure_by_number

if TYPE_CHECKING:
    from gateway.server import Gateway

SERVED: Final = frozenset({int(Program.ADMIN)})
OUT_MAX: Final = 1 << 20


class AdminClient:
    """A connection to the admin socket."""

    def __init__(
        self, gateway: Gateway, answers: AdminAnswers, sock: socket.socket, caller: dict[str, Any], number: int
    ) -> None:
        self.number = number
        self.since = time.time()
        self.transport = ClientTransport.UNIX
        self.caller = caller
        self.read_only = False
        self._gateway = gateway
        self._answers = answers
        self._open = False
        self._is_over = False
        self._session = ServerSession(served=SERVED)
        self.link = Link(
            gateway.loop,
            sock,
            gateway.read_buffer,
            on_data=self._received,
            on_drained=lambda: None,
            on_closed=lambda: gateway.admin_clients.discard(self),
        )

    def disconnect(self) -> None:
        """Closes the connection now."""
        self.link.abort()

    def _received(self, data: bytes) -> None:
        session = self._session
        session.feed(data)
        try:
            while not self.link.closing:
                event = session.next_event()
                if event is None:
                    break
                if isinstance(event, CallReceived):
                    self._call(event)
                elif isinstance(event, CallRefused):
                    packet = event.packet
                    payload = error_payload(RpcError(event.reason))
                    self.link.write(
                        session.error(packet.program, packet.version, packet.procedure, packet.serial, payload)
                    )
                elif isinstance(event, PingReceived):
                    self.link.write(PONG_BYTES)
                elif not isinstance(event, PongReceived):
                    raise RemoteProtocolError("the admin program has no streams")
        except (PacketError, RemoteProtocolError) as exc:
            self._gateway.log.info("an admin client broke the protocol", reason=str(exc), pid=self.caller["pid"])
            self.link.abort()
            return
        if self.link.buffered > OUT_MAX:
            self.link.abort()

    def _call(self, event: CallReceived) -> None:
        session = self._session
        try:
            payload = self._answer(event)
        except VirtError as exc:
            self.link.write(session.error(event.program, 1, event.procedure, event.serial, error_payload(exc)))
            return
        self.link.write(session.reply(event.program, event.procedure, event.serial, payload))
        if self._is_over:
            self.link.close()

    def _answer(self, event: CallReceived) -> bytes:
        if event.fds:
            raise RpcError("the admin program takes no descriptors")
        procedure = procedure_by_number("admin", event.procedure)
        try:
            args = args_codec(procedure).decode(event.payload)
        except XdrError as exc:
            raise RpcError(f"Unable to decode message payload: {exc}") from exc
        if procedure.name == "admin_connect_open":
            result = self._answers.find(procedure.name)(args)
            if self._open:
                raise InternalError("connection already open", domain=ErrorDomain.RPC)
            self._open = True
        elif not self._open:
            raise InternalError("connection not open", domain=ErrorDomain.RPC)
        else:
            result = self._answers.find(procedure.name)(args)
            self._is_over = procedure.name == "admin_connect_close"
        if procedure.call_class.value == "change":
            self._gateway.log.info("the administrator changed the gateway", call=procedure.name, uid=self.caller["uid"])
        return result_codec(procedure).encode(result_struct(procedure)(**result))
