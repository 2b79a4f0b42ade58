"""Lending devices of the host to guests, and taking them back.

A device is written down as lent before anything is done with it, by the one loop of this driver, so that two guests
can never have it; what is written down is what gives it back: after the guest, after a start that failed, or when a
driver that died is followed by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from actors.qemu.lending.cards import read_card, restore_card, set_card, wanted_state
from actors.qemu.lending.ledger import Ledger, Loan, User
from actors.qemu.lending.pci import NO_OVERRIDE, STUB, PciBefore, PciBus
from actors.qemu.lending.wanted import Kind, Wanted
from actors.qemu.linking.functions import FunctionState
from schema.errors import ConfigUnsupported, DeviceMissing, DomainStateError, HostSystemError, VirtError

_MDEV: Final = "bus/mdev/devices"
T = TypeVar("T")
Tell = Callable[[str, str], None]


class InThread(Protocol):
    """Runs work that waits for the kernel beside the loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Lending:
    """The loans of one driver."""

    def __init__(self, folder: Path, in_thread: InThread, tell: Tell, system: Path = Path("/sys")) -> None:
        self.ledger = Ledger(folder)
        self._system = system
        self._bus = PciBus(system)
        self._in_thread = in_thread
        self._tell = tell

    # --- taking ------------------------------------------------------------------------------------------------------

    async def lend(self, user: User, wanted: Sequence[Wanted], driver: str = "QEMU") -> None:
        """Gives devices to a guest; nothing is lent when this fails.

        Raises DomainStateError for one that another guest has or that is not `vfio-pci`'s, DeviceMissing,
        HostSystemError, InternalError.
        """
        new = [one for one in wanted if not self._has(user, one)]
        if any(one.kind is Kind.PCI for one in new) and self._bus.has_groups():
            await self._in_thread(self._bus.load)
        for one in new:
            self._check(one, user, driver, new)
        kept = {one.key for one in wanted if one not in new}
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._keep_shielded, user.holder, kept)
            for one in new:
                self._reserve(one, user)
            for one in new:
                if one.card is not None:
                    await self._set_up_card(one, wanted_state(one.card))
            await self._in_thread(lambda: self._take_all(new))
            undo.pop_all()

    async def _keep_shielded(self, holder: str, kept: Collection[str]) -> None:
        await asyncio.shield(self.keep(holder, kept))

    def _has(self, user: User, one: Wanted) -> bool:
        loan = self.ledger.loans.get(one.key)
        return loan is not None and any(known.holder == user.holder for known in loan.users)

    def _check(self, one: Wanted, user: User, driver: str, new: Sequence[Wanted]) -> None:
        loan = self.ledger.loans.get(one.key)
        if one.kind is Kind.PCI:
            if not (self._bus.has_groups() and self._vfio_is_there()):
                raise ConfigUnsupported("host doesn't support passthrough of host PCI devices")
            self._bus.check_exists(one.name)
            group = self._bus.group_of(one.name)
            if loan is None and group is not None:
                found = self.ledger.find_in_group(group, [other.key for other in new])
                if found is not None and all(known.holder != user.holder for known in found[1].users):
                    raise DomainStateError(_in_use("PCI device", found[0].partition(" ")[2], found[1], driver))
        elif one.kind is Kind.MDEV:
            self._check_mediated(one)
        if loan is None or (loan.shared and one.shared):
            return
        if one.kind is Kind.SCSI:
            way = "shareable" if loan.shared else "non-shareable"
            raise DomainStateError(f"SCSI device {one.name} is already in use by other domain(s) as '{way}'")
        raise DomainStateError(_in_use(_NOUNS[one.kind], one.name, loan, driver))

    def _vfio_is_there(self) -> bool:
        return self._system != Path("/sys") or Path("/dev/vfio/vfio").exists()

    def _check_mediated(self, one: Wanted) -> None:
        folder = self._system / _MDEV / one.name
        if not folder.exists():
            raise DeviceMissing(f"mediated device '{one.name}' not found")
        interface = (folder / "mdev_type/device_api").read_text(encoding="ascii").strip()
        model = one.model or "vfio-pci"
        if interface != model:
            raise ConfigUnsupported(
                f"invalid device API '{model}' for device {folder}: device only supports '{interface}'"
            )

    def _reserve(self, one: Wanted, user: User) -> None:
        loan = self.ledger.loans.get(one.key)
        if loan is not None:
            self.ledger.put(one.key, msgspec.structs.replace(loan, users=(*loan.users, user)))
            return
        if one.kind is not Kind.PCI:
            self.ledger.put(one.key, Loan((user,), shared=one.shared))
            return
        before = self._bus.before(one.name)
        if not one.managed and before.driver != STUB:
            raise DomainStateError(f"Unmanaged PCI device {one.name} must be manually detached from the host")
        self.ledger.put(
            one.key,
            Loan(
                (user,),
                returns=one.managed,
                driver=before.driver,
                override=before.override,
                group=self._bus.group_of(one.name),
            ),
        )

    async def _set_up_card(self, one: Wanted, state: FunctionState) -> None:
        """While the host still has the function: the card above it then changes it in an orderly way."""
        folder = self._system / "bus/pci/devices" / one.name
        known = await self._in_thread(lambda: read_card(folder))
        loan = self.ledger.loans[one.key]
        self.ledger.put(one.key, msgspec.structs.replace(loan, addresses=known))
        await self._in_thread(lambda: set_card(known, state))

    def _take_all(self, wanted: Sequence[Wanted]) -> None:
        for one in wanted:
            if one.kind is Kind.PCI and one.managed:
                self._bus.take(one.name)

    # --- giving back -------------------------------------------------------------------------------------------------

    async def keep(self, holder: str, keys: Collection[str] = ()) -> None:
        """A guest has these devices and no other. Never fails: what the host refuses is tried at the next start."""
        for key in self.ledger.held_by(holder):
            if key not in keys:
                await self._give_back(key, holder)

    async def _give_back(self, key: str, holder: str) -> None:
        loan = self.ledger.loans[key]
        others = tuple(user for user in loan.users if user.holder != holder)
        try:
            if others:
                self.ledger.put(key, msgspec.structs.replace(loan, users=others))
                return
            await self._in_thread(lambda: self._restore(key, loan))
            self.ledger.drop(key)
        except VirtError as exc:
            self._tell(key, exc.message)

    def _restore(self, key: str, loan: Loan) -> None:
        kind, _, name = key.partition(" ")
        if loan.addresses is not None:
            restore_card(loan.addresses)
        if kind == Kind.PCI and loan.returns:
            self._bus.give_back(name, PciBefore(loan.driver, loan.override))

    # --- a new driver ------------------------------------------------------------------------------------------------

    async def take_up(self, running: Collection[str]) -> None:
        """What guests had that ended meanwhile goes back. Never fails."""
        for holder in self.ledger.holders().difference(running):
            await self.keep(holder)

    def know(self, user: User, wanted: Sequence[Wanted]) -> None:
        """A guest has devices that somebody else has given it. Never fails."""
        for one in wanted:
            loan = self.ledger.loans.get(one.key)
            if loan is not None and self._has(user, one):
                continue
            try:
                if loan is not None:
                    self.ledger.put(one.key, msgspec.structs.replace(loan, users=(*loan.users, user)))
                else:
                    group = self._bus.group_of(one.name) if one.kind is Kind.PCI else None
                    more = Loan((user,), one.shared, one.managed, override=NO_OVERRIDE, group=group)
                    self.ledger.put(one.key, more)
            except HostSystemError as exc:
                self._tell(one.key, exc.message)


_NOUNS: Final = {Kind.PCI: "PCI device", Kind.USB: "USB device", Kind.MDEV: "mediated device"}


def _in_use(noun: str, name: str, loan: Loan, driver: str) -> str:
    return f"{noun} {name} is in use by driver {driver}, domain {loan.users[0].domain}"
