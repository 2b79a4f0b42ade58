"""The helpers of one running guest: started before QEMU, watched, and ended with it.

What is to run follows from the definition; what runs is told by the files in the guest's folder. A driver that comes
after this one takes over whoever it finds there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from actors.qemu.guest import Guest
from actors.qemu.helpers import bus, gpu, passt, reservations, tpm, virtiofs
from actors.qemu.helpers.ends import Ends
from actors.qemu.helpers.logs import LogMark, log_of, trim
from actors.qemu.helpers.processes import (
    LEAVES_S,
    Helper,
    Role,
    end_helpers,
    find_helpers,
    forget_place,
    place_of,
    sweep_places,
)
from actors.qemu.host import QemuHost
from actors.qemu.records import Run
from actors.qemu.tuning.access import group_of
from actors.qemu.tuning.hierarchy import CONTROLLERS, host_hierarchy
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.interface import Interface
from conf.element import Element
from schema.errors import HostSystemError, VirtError

TRIM_EVERY_S: Final = 10.0
_SETTLES_S: Final = 1.0
"""Helpers leave when QEMU ends: that one is gone is no news before that would have been noticed."""

User = tuple[int, int] | None


def wanted_roles(live: Domain) -> set[Role]:
    """Who is to run beside a guest with that definition."""
    found = set()
    if (one := tpm.emulated_tpm(live)) is not None:
        found.add(Role(tpm.PROGRAM, one.alias or "tpm"))
    found |= {
        Role(virtiofs.PROGRAM, one.alias or "fs") for one in live.devices.filesystems if virtiofs.is_served_by_us(one)
    }
    found |= {Role(passt.PROGRAM, one.alias or "net") for one in live.devices.interfaces if passt.is_behind_passt(one)}
    found |= {Role(gpu.PROGRAM, one.alias or "video") for one in live.devices.videos if gpu.is_drawn_by_program(one)}
    if reservations.wants_reservations(live):
        found.add(Role(reservations.PROGRAM, reservations.ALIAS))
    return found


class Crew:
    """Who runs beside a guest."""

    def __init__(self, host: QemuHost, name: str, folder: Path, user: User) -> None:
        self.folder = folder
        self._host = host
        self._name = name
        self._user = user
        self._helpers: dict[Role, Helper] = {}
        self._guest: Guest | None = None
        self._trimming: asyncio.Task[None] | None = None
        self._is_ending = False
        self._ends = Ends()

    @property
    def pids(self) -> list[int]:
        """The processes of those that live."""
        return [one.process.pid for one in self._helpers.values() if one.process.is_alive]

    @property
    def roles(self) -> set[Role]:
        """What those that live do."""
        return {role for role, one in self._helpers.items() if one.process.is_alive}

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self, live: Domain, *, incoming: bool) -> Ends:
        """Starts all that the definition wants, and gives what is for QEMU.

        The caller ends the crew when this, or what follows, fails. Raises what the programs' modules raise.
        """
        ends, devices = self._ends, live.devices
        if bus.place_on_bus(live, self.folder):
            self.add(await bus.start_bus(self._host, live, self.folder, user=self._user))
        if reservations.wants_reservations(live):
            await self._start_reservations()
        for video in devices.videos:
            if gpu.is_drawn_by_program(video):
                helper, descriptor = await gpu.start_gpu(self._host, live, video, self.folder)
                ends.cards[video.alias or ""] = descriptor
                self.add(helper)
        one = tpm.emulated_tpm(live)
        if one is not None:
            self.add(await tpm.start_tpm(self._host, live, one, self.folder, incoming=incoming, user=self._user))
            ends.tpms[one.alias or ""] = str(self.folder / tpm.SOCKET)
        for interface in devices.interfaces:
            await self.start_for(live, interface, ends)
        for filesystem in devices.filesystems:
            await self.start_for(live, filesystem, ends)
        return ends

    async def start_for(self, live: Domain, device: Element, ends: Ends) -> None:
        """Starts what a device needs that comes to a running guest too; nothing for most."""
        match device:
            case Interface() if passt.is_behind_passt(device):
                helper, path = await passt.start_passt(self._host, live, device, self.folder, user=self._user)
                self.add(helper)
                ends.networks[device.alias or ""] = str(path)
            case Filesystem() if virtiofs.is_served_by_us(device):
                self.add(await virtiofs.start_virtiofs(self._host, live, device, self.folder, user=self._user))
            case Disk() if reservations.is_reserved_by_us(device):
                if Role(reservations.PROGRAM, reservations.ALIAS) not in self.roles:
                    await self._start_reservations()

    async def _start_reservations(self) -> None:
        self.add(await reservations.start_reservations(self._host, self._name, self.folder, user=self._user))

    def add(self, helper: Helper) -> None:
        """One more is here."""
        old = self._helpers.pop(helper.role, None)
        if old is not None:
            old.process.release()
        self._helpers[helper.role] = helper
        if self._guest is not None:
            self._watch(self._guest, helper)

    # --- while the guest runs ----------------------------------------------------------------------------------------

    def serve(self, guest: Guest) -> None:
        """The guest runs: the ends of helpers are noticed from now on, and their logs kept short."""
        self._guest = guest
        guest.crew = self
        for helper in self._helpers.values():
            self._watch(guest, helper)

    def _watch(self, guest: Guest, helper: Helper) -> None:
        helper.process.on_end(lambda: self._ended(guest, helper))
        if self._trimming is None:
            self._trimming = self._host.runtime.spawn(self._keep_short(), f"logs of the helpers of {guest.name}")

    async def _keep_short(self) -> None:
        while not self._is_ending:
            await asyncio.sleep(TRIM_EVERY_S)
            for helper in list(self._helpers.values()):
                await self._host.runtime.in_thread(trim, helper.log)

    def _ended(self, guest: Guest, helper: Helper) -> None:
        if not self._is_ending and self._helpers.get(helper.role) is helper:
            self._host.runtime.spawn(self._tell_end(guest, helper), f"end of a helper of {guest.name}")

    async def _tell_end(self, guest: Guest, helper: Helper) -> None:
        process = guest.process
        if process is None or await process.wait(_SETTLES_S):
            return
        if self._is_ending or self._helpers.get(helper.role) is not helper:
            return
        # as with libvirt the guest goes on without it: its device fails, nothing else
        said = await self._host.runtime.in_thread(LogMark(helper.log, 0).said)
        self._host.log.warning(
            "a helper of a guest has ended",
            guest=guest.name,
            helper=helper.role.program,
            device=helper.role.alias,
            said=said,
        )

    async def join_groups(self, run: Run) -> None:
        """Has them share the guest's control groups, where it has any."""
        if os.geteuid() == 0 and self._helpers:
            await self._host.runtime.in_thread(_join, group_of(self._host, run), self.pids)

    async def restart_reservations(self) -> None:
        """QEMU has lost the program that keeps reservations: another takes its place."""
        if self._is_ending or Role(reservations.PROGRAM, reservations.ALIAS) in self.roles:
            return
        try:
            await self._start_reservations()
        except VirtError as exc:
            self._host.log.warning("a helper could not be started again", guest=self._name, error=exc.message)

    # --- end ---------------------------------------------------------------------------------------------------------

    async def end_for(self, live: Domain) -> None:
        """Ends those that nothing of the definition needs any more."""
        wanted = wanted_roles(live)
        gone = [role for role in self._helpers if role not in wanted and role.program != bus.PROGRAM]
        helpers = [self._helpers.pop(role) for role in gone]
        await end_helpers(helpers, leaves_s=LEAVES_S)
        for role in gone:
            (place_of(self.folder) / role.file).unlink(missing_ok=True)
            if role.program == virtiofs.PROGRAM:
                virtiofs.socket_of(self.folder, role.alias).unlink(missing_ok=True)

    async def end(self) -> None:
        """Ends them all: QEMU never came."""
        self._close()
        for descriptor in self._ends.cards.values():
            os.close(descriptor)
        self._ends.cards.clear()
        helpers, self._helpers = list(self._helpers.values()), {}
        await end_helpers(helpers)
        forget_place(self.folder)

    async def leave(self) -> None:
        """QEMU has ended: they have a moment to notice that themselves."""
        self._close()
        helpers, self._helpers = list(self._helpers.values()), {}
        leaving = [one for one in helpers if one.role.program in _LEAVE]
        await asyncio.gather(
            end_helpers(leaving, leaves_s=LEAVES_S), end_helpers([one for one in helpers if one not in leaving])
        )
        forget_place(self.folder)

    def release(self) -> None:
        """Stops watching them; they are left as they are."""
        self._close()
        for helper in self._helpers.values():
            helper.process.release()

    def _close(self) -> None:
        self._is_ending = True
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None


def _join(group: str, pids: list[int]) -> None:
    hierarchy = host_hierarchy()
    for controller in CONTROLLERS:
        if not hierarchy.has(controller) or not hierarchy.folder(controller, group).is_dir():
            continue
        for pid in pids:
            with contextlib.suppress(HostSystemError):  # it has ended
                hierarchy.join(controller, group, pid)


async def take_over(host: QemuHost, guest: Guest) -> None:
    """Finds the helpers of a guest that outlived the last process of this driver."""
    helpers = find_helpers(guest.folder)
    if not helpers:
        return
    crew = Crew(host, guest.name, guest.folder, user_of(guest.need_run().pid))
    for helper in helpers:
        role = helper.role
        words = role.program if role.program in _ALONE else f"{role.alias}-{role.program}"
        helper.log = log_of(host, guest.name, words)
        crew.add(helper)
    crew.serve(guest)


async def settle_crews(host: QemuHost) -> None:
    """Ends the helpers of devices that guests do not have after all, and of guests that are no more."""
    alive = {Path(guest.run.folder).name for guest in host.guests.values() if guest.run is not None}
    await sweep_places(host.run_folder, alive)
    for guest in host.guests.values():
        if guest.crew is not None and guest.run is not None:
            with contextlib.suppress(VirtError):
                await guest.crew.end_for(guest.live)


_LEAVE: Final = (tpm.PROGRAM, virtiofs.PROGRAM, passt.PROGRAM)
"""Those that end when QEMU closes their socket."""
_ALONE: Final = (tpm.PROGRAM, bus.PROGRAM, reservations.PROGRAM)
"""Those of which a guest has one at most."""


def user_of(pid: int) -> User:
    """Whom a process runs as, where that is somebody else than we are."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    ids = {name: int(_field(text.splitlines(), name)) for name in ("Uid", "Gid")}
    return None if ids["Uid"] == os.geteuid() else (ids["Uid"], ids["Gid"])


def _field(lines: Iterable[str], name: str) -> str:
    return next((line.split()[2] for line in lines if line.startswith(f"{name}:")), "0")
