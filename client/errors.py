"""The errors a call can end in, one class per meaning.

They are the schema's own classes: what a driver raised is what the caller catches. `VirtError` is the root of all.
"""

from __future__ import annotations

from schema.errors import *  # noqa: F403
from schema.errors import ErrorCode
from schema.errors import VirtError as VirtError


class AgentUnreachable(VirtError):
    """No agent answers at the socket; it is not running, or this user may not talk to it."""

    code = ErrorCode.NO_CONNECT
    expected = True

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # libvirt's words for this code speak of a URI without a driver, which is another matter
        self.message = message
