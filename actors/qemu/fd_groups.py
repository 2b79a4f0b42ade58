"""Open files that a client lends a guest under a name, for disks whose source is such a group (`fdgroup`).

They are kept in this process: with it they are lost, and the client has to lend them again before the next start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from schema.errors import InvalidArguments, OperationFailed

GROUPS_MAX: Final = 64


class FdGroups:
    """What one guest was lent."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[int]] = {}

    def put(self, name: str, fds: list[int]) -> None:
        """Takes descriptors in place of those that were lent under this name before.

        Raises OperationFailed for too many groups.
        """
        if name not in self._by_name and len(self._by_name) >= GROUPS_MAX:
            raise OperationFailed(f"a guest can be lent {GROUPS_MAX} groups of files at most")
        self._close(name)
        self._by_name[name] = fds

    def find(self, name: str) -> Sequence[int]:
        """The descriptors of a group; whoever gives one away gives a copy. Raises InvalidArguments."""
        fds = self._by_name.get(name)
        if fds is None:
            raise InvalidArguments(f"file descriptor group '{name}' was not associated with the domain")
        return fds

    def close(self) -> None:
        """The guest is gone."""
        for name in tuple(self._by_name):
            self._close(name)

    def _close(self, name: str) -> None:
        for fd in self._by_name.pop(name, []):
            os.close(fd)
