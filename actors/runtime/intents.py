"""Changes of several steps: what is about to be done is on disk before the first effect, its end before the reply.

A driver that died in between finds the intent open when it starts and finishes or undoes it; whoever asked gets that
verdict when the call is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from actors.runtime.call_log import CallLog, OpenIntent
from actors.runtime.context import CurrentCall, find_call
from actors.runtime.mailbox import MailboxKey
from actors.runtime.store import InThread
from schema.body import pack_result
from schema.errors import CallUndone, VirtError, from_wire, to_wire
from schema.table import need_procedure


class Intent:
    """A change of several steps that is going on."""

    def __init__(self, intents: Intents, kind: str, data: dict[str, Any], key: MailboxKey | None) -> None:
        self.kind = kind
        self.data = data
        self._intents = intents
        self._key = key
        self._call: CurrentCall | None = None
        self._number = 0
        self._result: bytes | None = None

    async def note(self, **facts: object) -> None:
        """Adds facts that a successor needs to finish or undo it. Raises HostSystemError when they cannot be kept."""
        self.data.update(facts)
        await self._intents.note(self._number, facts)

    def result(self, value: object) -> None:
        """What the caller is told if this driver dies after the end. Needed where the procedure returns something."""
        if self._call is not None:
            self._result = self._call.pack(value)

    async def __aenter__(self) -> Intent:
        call = self._call = find_call()
        if call is not None and call.procedure.is_read:
            call = self._call = None
        # one that is part of another one answers to nobody: the caller gets the verdict on the whole
        asker = None if call is not None and call.open_intents else call
        self._number = await self._intents.begin(asker, self.kind, self.data, self._key)
        if call is not None:
            call.open_intents += 1
            if not call.procedure.ret:
                self._result = call.pack(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.open_intents -= 1
        if exc is None:
            await self._intents.close(self._number, done=True, result=self._result, error=None)
        elif isinstance(exc, Exception | asyncio.CancelledError):
            error = to_wire(exc) if isinstance(exc, VirtError) else None
            await self._intents.close(self._number, done=False, result=None, error=error)


class UnfinishedIntent:
    """A change that the last process began and did not end."""

    def __init__(self, intents: Intents, intent: OpenIntent) -> None:
        origin = intent.begun.origin
        self.kind = intent.begun.kind
        self.data = intent.data
        self.key = intent.begun.key
        self.began = intent.begun.wall
        self.call = None if origin is None else origin.call
        self.procedure = "" if origin is None else origin.procedure
        self._intents = intents
        self.number = intent.begun.number

    def take_over(self) -> None:
        """It is carried on after the start: it stays open until it is finished or undone, whoever does that."""
        self._intents.carried.add(self.number)

    async def note(self, **facts: object) -> None:
        """Adds facts that a successor needs. Raises HostSystemError when they cannot be kept."""
        self.data.update(facts)
        await self._intents.note(self.number, facts)

    async def finish(self, result: object = None) -> None:
        """Its steps are all done now: whoever asked is told `result`. Raises HostSystemError."""
        packed = pack_result(need_procedure(self.procedure), result) if self.procedure else None
        await self._intents.close(self.number, done=True, result=packed, error=None)

    async def undo(self, error: VirtError | None = None) -> None:
        """Nothing is left of it now: whoever asked is told CallUndone, with the text of `error`.

        Raises HostSystemError.
        """
        await self._intents.close(self.number, done=False, result=None, error=None if error is None else to_wire(error))


class Intents:
    """The intents of one actor."""

    def __init__(self, calls: CallLog, in_thread: InThread) -> None:
        self._calls = calls
        self._in_thread = in_thread
        self.carried: set[int] = set()
        """Intents of the last process that are carried on after the start."""
        self.watch: Callable[[str], None] | None = None
        """Told of each step of each change, just before and just after it: a test ends the process there."""

    @property
    def open(self) -> list[UnfinishedIntent]:
        """What the last process left unfinished, oldest first. To be asked while the actor starts."""
        inherited = self._calls.inherited
        return [UnfinishedIntent(self, intent) for n, intent in sorted(self._calls.open.items()) if n in inherited]

    def change(self, kind: str, data: dict[str, Any] | None = None, *, key: MailboxKey | None = None) -> Intent:
        """A change of several steps, as an async context manager: leaving it normally means done, an error undone.

        Entering it raises HostSystemError when it cannot be written down; then nothing may be done.
        """
        call = find_call()
        return Intent(self, kind, dict(data or {}), key or (None if call is None else call.key))

    def check_verdict(self) -> bool:
        """Whether the current call, which was sent again, has been carried on to its end by this process.

        To be asked in the lane of the object that it changes. Raises CallUndone when it was undone instead.
        """
        call = find_call()
        found = None if call is None or not call.is_resend else self._calls.closed.get(call.id)
        if found is None:
            return False
        closed = found[1]
        if not closed.done:
            text = "the driver ended meanwhile, and what had been done was undone"
            raise CallUndone(text if closed.error is None else f"{text}: {from_wire(closed.error).message}")
        return True

    def step(self, what: str) -> None:
        """A change is about to do something, or has just done it."""
        if self.watch is not None:
            self.watch(what)

    async def begin(self, call: CurrentCall | None, kind: str, data: dict[str, Any], key: MailboxKey | None) -> int:
        """Writes an intent down. Raises HostSystemError."""
        self.step(f"begin {kind}")
        number = self._calls.open_intent(call, kind, data, key)
        await self._in_thread(self._calls.sync)
        self.step(f"begun {kind}")
        return number

    async def note(self, number: int, facts: dict[str, Any]) -> None:
        """Writes facts down. Raises HostSystemError."""
        self.step("note")
        self._calls.note(number, facts)
        await self._in_thread(self._calls.sync)
        self.step("noted")

    async def close(self, number: int, *, done: bool, result: bytes | None, error: list[Any] | None) -> None:
        """Writes an end down. Raises HostSystemError."""
        self.step("close")
        self._calls.close_intent(number, done=done, result=result, error=error)
        await self._in_thread(self._calls.sync)
        self.carried.discard(number)
        self.step("closed")

    async def undo_open(self) -> None:
        """Closes what the driver left open as undone. Raises HostSystemError."""
        for intent in self.open:
            if intent.number not in self.carried:
                await intent.undo()
