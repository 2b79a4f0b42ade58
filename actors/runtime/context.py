"""The call that the running code answers, without handing it through every function."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from schema.body import pack_result
from schema.model import Procedure

_current: Final[ContextVar[CurrentCall | None]] = ContextVar("virtroupe_call", default=None)


class CurrentCall(msgspec.Struct, eq=False):
    """What a handler may want to know of its call. `deadline` is in the loop's time."""

    id: bytes
    procedure: Procedure
    scope: str = ""
    caller: dict[str, Any] = msgspec.field(default_factory=dict)
    deadline: float | None = None
    trace: str | None = None
    read_only: bool = False
    is_resend: bool = False
    idempotency_key: str | None = None
    digest: bytes = b""
    """Of the arguments: the same idempotency key with other arguments is another call."""
    key: tuple[str, bytes | str] | None = None
    """The object whose lane it has, or had last."""
    open_intents: int = 0
    is_over: bool = False
    """Tasks that a handler leaves behind keep its context; what they do later is not the call's doing."""
    report: Callable[[CurrentCall, int, int, str], None] | None = None
    files: dict[str, Any] | None = None
    """The ticket at which the open files can be had that the caller sent along (`actors/runtime/files.py`)."""

    finish: Callable[[Any], Any] | None = None
    """What an older call makes of the result of the newer one that answers it."""

    def pack(self, result: object) -> bytes:
        """The body of a reply with this result. Raises InvalidMessage when it does not fit the schema."""
        return pack_result(self.procedure, result if self.finish is None else self.finish(result))

    def progress(self, done: int, total: int = 0, what: str = "") -> None:
        """Tells how far a task is; `total` 0 means that nobody knows."""
        if self.report is not None:
            self.report(self, done, total, what)


def find_call() -> CurrentCall | None:
    """The call that is being answered, None in background work."""
    call = _current.get()
    return None if call is None or call.is_over else call


def current_call() -> CurrentCall:
    """The call that is being answered.

    Raises LookupError in background work, which belongs to no call.
    """
    call = find_call()
    if call is None:
        raise LookupError("no call is being answered here")
    return call


def enter_call(call: CurrentCall | None) -> None:
    """From here on this task answers `call`. For the runtime and for tests."""
    _current.set(call)
