"""Which devices of the host are lent to which guests, and how they were before: on disk before anything is touched.

The file lies in the run folder, so that it goes with the host's next boot, as the state that it speaks of does. It is
what a driver that starts after a crash gives devices back by.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from schema.errors import HostSystemError

_FILE: Final = "lent.json"


class User(msgspec.Struct, frozen=True):
    """One run of one guest that has a device."""

    holder: str
    domain: str


class Loan(msgspec.Struct, frozen=True):
    """One device that is lent."""

    users: tuple[User, ...]
    shared: bool = False
    """Several guests may have it."""
    returns: bool = False
    """We took it from the host, and give it back."""
    driver: str | None = None
    """Which driver of the host had it."""
    override: str = ""
    """Which driver it was reserved for."""
    group: str | None = None
    """What is lent together with it, if at all."""
    addresses: tuple[str, int, str, int] | None = None
    """The link above a card's function, the function's number there, and the address and tag it had."""


_Loans = dict[str, Loan]


class Ledger:
    """All loans of this host's guests, by the device's name."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self.loans: _Loans = {}

    def read(self) -> None:
        """What the last process knew. Raises HostSystemError for a file that cannot be read."""
        try:
            self.loans = msgspec.json.decode(self._path.read_bytes(), type=_Loans)
        except FileNotFoundError:
            self.loans = {}
        except (OSError, msgspec.DecodeError) as exc:
            raise HostSystemError(getattr(exc, "errno", 0) or 0, f"cannot read '{self._path}'") from exc

    def put(self, key: str, loan: Loan) -> None:
        """A loan is known, also to the next process. Raises HostSystemError; nothing changed then."""
        self._write({**self.loans, key: loan})

    def drop(self, key: str) -> None:
        """A device is the host's again. Raises HostSystemError."""
        if key in self.loans:
            self._write({name: loan for name, loan in self.loans.items() if name != key})

    def held_by(self, holder: str) -> list[str]:
        """The devices that one run of a guest has."""
        return [key for key, loan in self.loans.items() if any(user.holder == holder for user in loan.users)]

    def holders(self) -> set[str]:
        """Who has devices."""
        return {user.holder for loan in self.loans.values() for user in loan.users}

    def find_in_group(self, group: str, but: Iterable[str]) -> tuple[str, Loan] | None:
        """A device of a group that is lent, leaving out some."""
        left_out = set(but)
        return next(
            ((key, loan) for key, loan in self.loans.items() if loan.group == group and key not in left_out), None
        )

    def _write(self, loans: _Loans) -> None:
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(loans))
            new.replace(self._path)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot write '{self._path}'") from exc
        self.loans = loans
