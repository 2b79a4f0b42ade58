"""What a guest has of its host while it runs: files that are made its own, and leases of what it writes.

Both are taken before QEMU opens anything, and what a guest uses no longer goes back after each change of its running
definition. Files are remembered on disk, leases are held by QEMU itself, so neither depends on this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from actors.qemu.block.chain import Image
from actors.qemu.confining.devices import (
    Node,
    add_nodes,
    has_private_devices,
    is_node,
    keep_nodes,
    nodes_of_device,
    nodes_of_guest,
)
from actors.qemu.confining.start import wants_private_devices
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.lending.guests import give_devices_back, keep_devices, take_up_devices
from actors.qemu.linking.macvtap import keep_links
from actors.qemu.locking.leases import Resource, holder_of, leases_by_holder, sweep, take
from actors.qemu.locking.wanted import wanted_of_device, wanted_of_guest, wanted_of_source
from actors.qemu.monitor.link import Command, CommandRefused, Monitor, MonitorGone
from actors.qemu.owning.files import GuestFile, files_of_device, files_of_guest, files_of_image
from actors.qemu.owning.identity import Identity, Owner, identity_of, parse_label
from actors.qemu.process import boot_id
from actors.qemu.tuning.devices import allow_nodes
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.element import Element
from schema.errors import HostSystemError, HypervisorGone, InternalError, ResourceBusy, VirtError

_PATIENCE_S: Final = 2.0
_PASS: Final = stat.S_IXGRP | stat.S_IXOTH


@dataclass(slots=True)
class StartClaim:
    """What one start has taken; the leases are ours until QEMU has them."""

    holder: str
    identity: Identity | None
    leases: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Our descriptors go; what QEMU has, it keeps."""
        for descriptor in self.leases.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.leases.clear()


def holder_name(uuid: str, number: int) -> str:
    """One run of one guest, by which files and leases know who has them."""
    return f"{uuid}/{number}"


def folder_of_leases(host: QemuHost) -> Path | None:
    """Where leases are; None: there are none."""
    qemu = host.config.qemu
    if not qemu.leases:
        return None
    return Path(qemu.lease_folder) if qemu.lease_folder else host.state_folder / "leases"


# --- a start ---------------------------------------------------------------------------------------------------------


async def claim_for_start(
    host: QemuHost, guest: Guest, live: Domain, number: int, identity: Identity | None, *, locks: bool
) -> StartClaim:
    """Takes all that a guest needs; nothing stays taken when this fails.

    Raises ResourceBusy when another guest has it, OperationFailed when it belongs to another guest, HostSystemError.
    """
    claim = StartClaim(holder_name(guest.record.uuid, number), identity)
    folder = folder_of_leases(host) if locks else None

    def take_all() -> None:
        resources = [] if folder is None else list(wanted_of_guest(live, folder).values())
        files = [] if identity is None or identity.files is None else list(files_of_guest(live))
        if wants_private_devices(host.config.qemu):
            files = [one for one in files if not is_node(one.path)]  # they are the guest's in its own /dev alone
        _take_all(host, claim, resources, files)

    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(host.runtime.in_thread, host.owners.keep_only, claim.holder, ())
        undo.callback(claim.close)
        await host.runtime.in_thread(take_all)
        undo.pop_all()
    return claim


def said_by(host: QemuHost, holder: str) -> str:
    """What a lease says of who has it: a guest that moved has the same name on both hosts."""
    return f"{holder} {boot_id()} {host.run_folder}"


def _take_all(host: QemuHost, claim: StartClaim, resources: Sequence[Resource], files: Sequence[GuestFile]) -> None:
    for resource in resources:
        claim.leases[resource.handle] = take(resource, said_by(host, claim.holder))
    if claim.identity is not None:
        _open_ways(host, claim.identity, files)
        give_files(host, claim.identity, claim.holder, files)


async def hand_leases_over(guest: Guest, monitor: Monitor, claim: StartClaim) -> None:
    """QEMU gets the leases, before the guest runs. Raises InternalError, HypervisorGone."""
    try:
        await asyncio.gather(*(monitor.hand_over(name, fd) for name, fd in claim.leases.items()))
    except CommandRefused as exc:
        raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    guest.leases = set(claim.leases)
    claim.close()


def give_files(host: QemuHost, identity: Identity, holder: str, files: Iterable[GuestFile]) -> None:
    """Makes files the guest's. Raises OperationFailed, HostSystemError, InvalidArguments for a label that is none."""
    for one in files:
        owner = owner_for(identity, one)
        if owner is None or (one.may_be_absent and not Path(one.path).exists()):
            continue
        host.owners.give(one.path, owner, holder, returns=one.remembers, remembers=identity.remembers)


def owner_for(identity: Identity, file: GuestFile) -> Owner | None:
    """Whose a file is to be; None: it stays as it is. Raises InvalidArguments for a label that is none."""
    if identity.files is None:
        return None
    if file.label is not None:
        if file.label.relabel is False:
            return None
        if file.label.label is not None:
            return parse_label(file.label.label)
    return identity.files


def _open_ways(host: QemuHost, identity: Identity, files: Sequence[GuestFile]) -> None:
    """Our own folders let another user pass to what is its own, not look around."""
    if identity.process.uid == 0:
        return
    root = host.paths.state
    for one in files:
        for folder in Path(one.path).parents:
            if folder == root.parent or root not in (folder, *folder.parents):
                break
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(folder.stat().st_mode)
                if mode & _PASS != _PASS:
                    folder.chmod(mode | _PASS)


# --- while it runs ---------------------------------------------------------------------------------------------------


def running_identity(host: QemuHost, guest: Guest) -> Identity | None:
    """As whom a running guest runs. Raises as `identity_of` does."""
    return identity_of(guest.live, host.config.qemu)


def owner_of_new_file(host: QemuHost, guest: Guest) -> Owner | None:
    """Whose a file is that is made for a running guest; None: ours."""
    identity = running_identity(host, guest)
    return None if identity is None else identity.files or identity.process


async def leases_back(host: QemuHost, guest: Guest, device: Element) -> list[Command]:
    """What takes back the leases that a device is about to get."""
    folder = folder_of_leases(host)
    if folder is None:
        return []
    have = await held_leases(host, guest)
    wanted = [one.handle for one in await host.runtime.in_thread(lambda: list(wanted_of_device(device, folder)))]
    return [("closefd", {"fdname": name}) for name in wanted if name not in have]


async def claim_device(host: QemuHost, guest: Guest, device: Element) -> None:
    """A running guest gets what a device needs, before QEMU is told of the device.

    `settle_claims` gives the rest back when nothing comes of it. Raises as `claim_for_start` does.
    """
    folder = folder_of_leases(host)

    def needs() -> _Needs:
        return [] if folder is None else list(wanted_of_device(device, folder)), list(files_of_device(device))

    await _claim(host, guest, needs)
    run, identity = guest.need_run(), running_identity(host, guest)
    nodes = nodes_of_device(device, None if identity is None else identity.files)
    await allow_nodes(host, guest, nodes)
    if os.geteuid() == 0 and has_private_devices(run.pid):
        try:
            await host.runtime.in_thread(add_nodes, run.pid, nodes)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, "cannot give the guest the nodes of its device") from exc


async def claim_images(host: QemuHost, guest: Guest, disk: Disk, images: Sequence[Image]) -> None:
    """The same for images that a job writes for a disk: the first one is written, the others lie below it."""
    folder = folder_of_leases(host)
    top = images[0].source

    def needs() -> _Needs:
        resources = [] if folder is None else list(wanted_of_source(top, folder, shared=disk.shareable))
        return resources, [
            one for place, image in enumerate(images) for one in files_of_image(image.source, remembers=place == 0)
        ]

    await _claim(host, guest, needs)
    await allow_nodes(host, guest, [Node(one.path) for one in needs()[1]])


_Needs = tuple[list[Resource], list[GuestFile]]


async def _claim(host: QemuHost, guest: Guest, needs: Callable[[], _Needs]) -> None:
    run = guest.need_run()
    identity = running_identity(host, guest)
    claim = StartClaim(holder_name(guest.record.uuid, run.id), identity)
    have = await held_leases(host, guest)

    def take_all() -> None:
        resources, files = needs()
        if identity is None or identity.files is None:
            files = []
        if files and has_private_devices(run.pid):
            files = [one for one in files if not is_node(one.path)]
        _take_all(host, claim, [one for one in resources if one.handle not in have], files)

    try:
        await host.runtime.in_thread(take_all)
        if claim.leases:
            await _hand_over(guest, claim)
    finally:
        claim.close()


async def _hand_over(guest: Guest, claim: StartClaim) -> None:
    leases = dict(claim.leases)
    have = guest.leases
    await hand_leases_over(guest, guest.need_monitor(), claim)
    guest.leases = set(leases) | (have or set())


async def held_leases(host: QemuHost, guest: Guest) -> set[str]:
    """The leases that a running guest has, by name; those of its definition when only an earlier driver knew."""
    if guest.leases is None:
        folder = folder_of_leases(host)
        names = set() if folder is None else set(await host.runtime.in_thread(wanted_of_guest, guest.live, folder))
        if guest.leases is None:
            guest.leases = names
    return guest.leases


async def ensure_leases(host: QemuHost, guest: Guest, *, surely: bool = False) -> None:
    """A guest that is about to go on has its leases. `surely`: nothing is known of those it has.

    Raises ResourceBusy when another guest has one: this one must stay as it is then.
    """
    folder = folder_of_leases(host)
    if folder is None or guest.run is None or not (surely or guest.gave_leases):
        return
    have = guest.leases = set()
    wanted = await host.runtime.in_thread(wanted_of_guest, guest.live, folder)
    guest.gave_leases = True
    claim = StartClaim(holder_name(guest.record.uuid, guest.run.id), None)
    try:
        for one in wanted.values():
            try:
                fd = await host.runtime.in_thread(take, one, said_by(host, claim.holder))
            except ResourceBusy:
                said = await host.runtime.in_thread(holder_of, one)
                if said != said_by(host, claim.holder):
                    raise
                have.add(one.handle)
            else:
                claim.leases[one.handle] = fd
        await _hand_over(guest, claim)
    finally:
        claim.close()
    guest.gave_leases = False


async def release_leases(host: QemuHost, guest: Guest) -> None:
    """A guest that stands still lets others have what it writes. Raises HypervisorGone."""
    names = await held_leases(host, guest)
    guest.leases, guest.gave_leases = set(), True
    await _close(guest, names)


async def _close(guest: Guest, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(InternalError):
            await guest.ask("closefd", {"fdname": name})


async def settle_claims(host: QemuHost, guest: Guest) -> None:
    """What a running guest's definition does not name any more goes back. Never fails."""
    run = guest.run
    if run is None or run.backup is not None:
        return  # a backup has images that no definition names; its end comes here too
    try:
        holder = holder_name(guest.record.uuid, run.id)
        live = guest.live
        if host.owners.held_by(holder):

            def keep_files() -> None:
                host.owners.keep_only(holder, [one.path for one in files_of_guest(live)])

            await host.runtime.in_thread(keep_files)
        keep_links(Path(run.folder), guest.live)
        await keep_devices(host, guest)
        if os.geteuid() == 0 and has_private_devices(run.pid):
            await host.runtime.in_thread(keep_nodes, run.pid, nodes_of_guest(guest.live, None))
        await allow_nodes(host, guest)
        folder = folder_of_leases(host)
        if folder is not None and guest.leases:
            gone = guest.leases - set(await host.runtime.in_thread(wanted_of_guest, live, folder))
            guest.leases = guest.leases - gone
            await _close(guest, gone)
    except (OSError, VirtError) as exc:
        host.log.warning("what a guest uses no longer could not be given back", guest=guest.name, error=str(exc))


# --- after it --------------------------------------------------------------------------------------------------------


async def let_go(host: QemuHost, uuid: str, number: int) -> None:
    """A guest has ended: its files go back to whose they were, devices to the host. Never fails.

    Its leases went with its process.
    """
    holder = holder_name(uuid, number)
    await give_devices_back(host, holder)
    if host.owners.held_by(holder):
        await host.runtime.in_thread(host.owners.keep_only, holder, ())


async def take_up_claims(host: QemuHost) -> None:
    """A new driver: files of guests that ended meanwhile go back. What hangs delays the start little."""
    held = {holder_name(one.record.uuid, one.run.id) for one in host.guests.values() if one.run is not None}
    if host.owners.takings:
        work = host.runtime.spawn(host.runtime.in_thread(host.owners.finish_all, held.__contains__), "owners of files")
        await asyncio.wait([work], timeout=_PATIENCE_S)
    await take_up_devices(host)
    host.runtime.spawn(_look_after(host), "what guests use no longer")


async def _look_after(host: QemuHost) -> None:
    folder = folder_of_leases(host)
    said: dict[str, set[str]] = {}
    if folder is not None:
        await host.runtime.in_thread(sweep, folder)
        said = await host.runtime.in_thread(leases_by_holder, folder)
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            async with host.runtime.mailbox(("domain", guest.key)).change("what it uses"):
                await _learn_leases(host, guest, said)
                await settle_claims(host, guest)


async def _learn_leases(host: QemuHost, guest: Guest, said: dict[str, set[str]]) -> None:
    """What the last driver took for something that did not come about is known of again, and so can be given back."""
    run = guest.run
    if run is not None:
        left = said.get(said_by(host, holder_name(guest.record.uuid, run.id)), set())
        guest.leases = await held_leases(host, guest) | left
