"""What a connection needs of its peer, and how the peer is made.

Whether an agent is there at all is asked before waiting for one: a user who forgot to start it wants to be told so at
once, while one whose broker is just being restarted wants to wait.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from broker.wire import Cursor
from client.errors import AgentUnreachable, DeadlinePassed
from client.events import Live
from settings.paths import Paths

WAIT_S: Final = 10.0
"""How long a connection waits for a broker that is being restarted."""

UNATTENDED_WAIT_S: Final = 2.0
"""The same, where no supervisord is there to restart it."""


class Answer(Protocol):
    """The reply to a call (`broker.peer.Reply`)."""

    @property
    def source(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def ticket(self) -> dict[str, Any] | None: ...


class Link(Protocol):
    """The connection to the broker (`broker.peer.Peer`)."""

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        key: bytes | str | None = None,
        deadline_s: float | None = 60.0,
        idempotency_key: str | None = None,
        trace: str | None = None,
    ) -> Answer: ...

    def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]: ...

    async def head(self) -> Cursor: ...

    def listen(self, sources: Sequence[str] | None) -> AbstractAsyncContextManager[Live]: ...

    async def aclose(self) -> None: ...


async def open_link(paths: Paths, *, read_only: bool, program: str, wait_s: float) -> Link:
    """A peer of the agent's broker.

    Raises AgentUnreachable when no agent runs or it does not answer within `wait_s`, AccessDenied when it does not let
    this user in.
    """
    from broker.peer import Peer

    door = paths.clients_door_read_only if read_only else paths.clients_door
    if not _is_there(door) and not is_agent_starting(paths):
        raise AgentUnreachable(f"No agent runs here: there is no socket '{door}'")
    # without supervisord nobody starts the broker again, unless somebody does it by hand
    wait_s = wait_s if is_agent_starting(paths) else min(wait_s, UNATTENDED_WAIT_S)
    try:
        return await Peer.connect_client(paths, read_only=read_only, program=program, wait_s=wait_s)
    except DeadlinePassed as exc:
        raise AgentUnreachable(f"No agent answers at the socket '{door}'") from exc


def is_agent_starting(paths: Paths) -> bool:
    """Whether a supervisord of this agent lives, so that a missing socket will be there soon."""
    try:
        pid = int(paths.supervisor_pid.read_text(encoding="ascii"))
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except (OSError, ValueError):
        return False
    return True


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError as exc:
        raise AgentUnreachable(f"The agent's socket '{path}' is in a folder that this user may not enter") from exc
