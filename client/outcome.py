"""What became of a call whose outcome was pending."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from client.calling import CallOptions
from client.errors import CallPending, InvalidArguments, VirtError, from_wire

if TYPE_CHECKING:
    from client.connection import Connection


class OutcomeState(StrEnum):
    """How far a call came."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call; `error` is what it ended in, where it failed or was undone.

    UNKNOWN says that there is no record: it did not begin, or ended longer ago than outcomes are kept.
    """

    state: OutcomeState
    error: VirtError | None = None


async def find_outcome(conn: Connection, pending: CallPending | str, options: CallOptions) -> Outcome:
    """Asks the driver. Raises InvalidArguments for what is no call's id."""
    text = pending.call if isinstance(pending, CallPending) else pending
    try:
        key = bytes.fromhex(text or "")
    except ValueError as exc:
        raise InvalidArguments(f"'{text}' is not the id of a call") from exc
    told = (await conn.called("actor_call_outcome", {"id": key}, options)).result
    return Outcome(OutcomeState(told.state), None if told.error is None else from_wire(told.error))
