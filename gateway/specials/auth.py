"""Proving who one is: what a client's socket asks for, SASL step by step, polkit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.auth.sasl import FAILURES_MAX, Progress, SaslLink, SaslProof
from gateway.routes import Route, Specials
from schema.errors import AuthFailed

if TYPE_CHECKING:
    from gateway.connection import Connection

NONE: Final = 0
SASL: Final = 1
POLKIT: Final = 2
_TYPES: Final = {"sasl": SASL, "polkit": POLKIT}


def add_to(specials: Specials) -> None:
    """Adds these answers to the table."""
    specials.answers("auth_list", before_open=True)(_auth_list)
    specials.awaits("auth_sasl_init", before_open=True)(_sasl_init)
    specials.awaits("auth_sasl_start", before_open=True)(_sasl_start)
    specials.awaits("auth_sasl_step", before_open=True)(_sasl_step)
    specials.awaits("auth_polkit", before_open=True)(_polkit)


def _auth_list(connection: Connection, args: Any) -> Mapping[str, Any]:
    proof = connection.proof
    return {"types": [NONE if proof is None else _TYPES[proof.kind]]}


def _need_sasl(connection: Connection) -> SaslProof:
    if not isinstance(connection.proof, SaslProof) or not connection.owes_proof:
        raise AuthFailed("authentication failed")
    return connection.proof


async def _sasl_init(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    return {"mechlist": await _need_sasl(connection).mechanisms()}


async def _sasl_start(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    proof = _need_sasl(connection)
    data = None if args.nil else args.data
    try:
        return _answer(connection, proof, await proof.start(args.mech, data))
    except AuthFailed:
        _count(connection, proof)
        raise


async def _sasl_step(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    proof = _need_sasl(connection)
    data = None if args.nil else args.data
    try:
        return _answer(connection, proof, await proof.step(data))
    except AuthFailed:
        _count(connection, proof)
        raise


def _answer(connection: Connection, proof: SaslProof, progress: Progress) -> Mapping[str, Any]:
    if progress.complete:
        connection.gateway.log.info("a client proved who it is", sasl=proof.user)
        connection.after_reply(lambda: _proved(connection, proof))
    return {
        "complete": int(progress.complete),
        "nil": int(progress.data is None),
        "data": progress.data or b"",
    }


def _proved(connection: Connection, proof: SaslProof) -> None:
    if proof.layer is not None and isinstance(connection.link, SaslLink):
        if connection.has_unread:
            connection.disconnect()  # what came before the encryption does not count as said inside it
            return
        connection.link.encrypt_by(proof.layer)
    connection.prove(sasl=proof.user)


def _count(connection: Connection, proof: SaslProof) -> None:
    if proof.failures >= FAILURES_MAX:
        connection.gateway.loop.call_soon(connection.link.close)


async def _polkit(connection: Connection, route: Route, args: Any) -> Mapping[str, Any]:
    proof = connection.proof
    if proof is None or proof.kind != "polkit" or not connection.owes_proof:
        raise AuthFailed("authentication failed")
    await proof.ask()
    connection.prove()
    return {"complete": 1}
