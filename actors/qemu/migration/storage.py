"""Disks that are sent along, because both sides do not see the same ones: mirrored to the other side over NBD."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job
from actors.qemu.migration.checks import copies
from actors.qemu.migration.cookie_document import MigrationCookie
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.tls import tls_of
from actors.qemu.notices import source_path
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import InternalError, OperationFailed, VirtError

_POLL_S: Final = 0.05
_READY_S: Final = 0.1
_IMAGE_S: Final = 60.0


def node_of(disk: Disk) -> str:
    """The name of a disk's top image in QEMU."""
    index = disk.source.index if disk.source is not None else None
    return f"libvirt-{index}-format"


def export_of(disk: Disk) -> str:
    """The name that a disk's content is sent under."""
    return f"drive-{disk.alias}"


def node_there(disk: Disk) -> str:
    """The name of the copy over there in the QEMU that sends."""
    return f"migration-{disk.target.dev}-storage"


def disks_to_copy(definition: Domain, params: MigrationParameters, flags: int) -> list[Disk]:
    """The disks that are sent along."""
    return [disk for disk in definition.devices.disks if copies(disk, params, flags)]


async def capacities(guest: Guest, params: MigrationParameters, flags: int) -> dict[str, int]:
    """The sizes of the disks that are sent along, by target. Raises as `Guest.ask` does."""
    nodes = {str(one.get("node-name")): one for one in await guest.ask("query-named-block-nodes", {"flat": True})}
    found = {}
    for disk in disks_to_copy(guest.live, params, flags):
        image = nodes.get(node_of(disk), {}).get("image") or {}
        found[disk.target.dev] = int(image.get("virtual-size", 0))
    return found


class StorageCopy:
    """The side that sends. Nothing happens where no disk is to be sent along."""

    def __init__(
        self,
        host: QemuHost,
        guest: Guest,
        params: MigrationParameters,
        flags: int,
        peer: MigrationCookie | None,
        uri: str,
    ) -> None:
        self._guest = guest
        self._log = host.log
        self._tls = tls_of(params, flags)
        self._mode = "write-blocking" if flags & Flags.NON_SHARED_SYNCHRONOUS_WRITES else "background"
        self._sync = "top" if flags & Flags.NON_SHARED_INC else "full"
        self._disks = disks_to_copy(guest.live, params, flags) if guest.is_active else []
        self._peer = peer
        self._place = self._server(params, uri) if self._disks else {}
        self._jobs: list[str] = []
        self._nodes: list[str] = []

    def _server(self, params: MigrationParameters, uri: str) -> dict[str, Any]:
        place = params.disks_uri or ""
        if place.startswith("unix:"):
            return {"type": "unix", "path": place.removeprefix("unix:").removeprefix("//")}
        nbd = self._peer.nbd if self._peer is not None else None
        port = nbd.port if nbd is not None else None
        if port is None:
            raise InternalError("the other side offers no way to send disks along")
        address = place or uri
        host = address.partition("://")[2] or address.partition(":")[2]
        return {"type": "inet", "host": host.rpartition(":")[0].strip("[]"), "port": str(port)}

    async def copy(self, job: Job) -> None:
        """Mirrors all of them until both sides are alike; from then on writes go to both.

        Raises InternalError, OperationFailed when a mirror fails.
        """
        for disk in self._disks:
            name, node = export_of(disk), node_there(disk)
            storage = {"driver": "nbd", "server": self._place, "export": name, "node-name": node}
            if self._tls is not None:
                storage["tls-creds"] = self._tls[0]
                if self._tls[1]:
                    storage["tls-hostname"] = self._tls[1]
            await self._guest.ask("blockdev-add", storage)
            self._nodes.append(node)
            self._jobs.append(name)
            mirror = {"job-id": name, "device": node_of(disk), "target": node, "sync": self._sync}
            await self._guest.ask("blockdev-mirror", mirror | {"auto-dismiss": True, "copy-mode": self._mode})
        while self._jobs:
            job.check()
            known = await self._measure(job)
            if all(known[name].get("ready") for name in self._jobs):
                return
            await asyncio.sleep(_READY_S)

    async def _measure(self, job: Job) -> dict[str, Any]:
        known = {str(one["device"]): one for one in await self._guest.ask("query-block-jobs")}
        for name in self._jobs:
            if name not in known:
                raise OperationFailed(f"migration of disk {name.removeprefix('drive-')} failed")
        done = sum(int(known[name]["offset"]) for name in self._jobs)
        total = sum(int(known[name]["len"]) for name in self._jobs)
        job.status = {"disk": {"total": total, "transferred": done, "remaining": total - done}}
        return known

    async def finish(self) -> None:
        """Ends the mirrors while nobody writes: both sides are alike. Raises OperationFailed."""
        jobs, self._jobs = self._jobs, []
        for name in jobs:
            await self._guest.ask("block-job-cancel", {"device": name})
        await _wait_for_end(self._guest, jobs)
        await self._drop_nodes()

    async def give_up(self) -> None:
        """Ends them because the migration did not come to it."""
        jobs, self._jobs = self._jobs, []
        try:
            for name in jobs:
                await self._guest.ask("block-job-cancel", {"device": name, "force": True})
            await _wait_for_end(self._guest, jobs)
            await self._drop_nodes()
        except VirtError as exc:
            self._log.warning("a mirror was not ended", guest=self._guest.name, error=exc.message)

    async def _drop_nodes(self) -> None:
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            await self._guest.ask("blockdev-del", {"node-name": node})


async def give_up_mirrors(guest: Guest) -> None:
    """Ends what a driver that is no more had begun to send. Raises as `Guest.ask` does."""
    ends = {export_of(disk): node_there(disk) for disk in guest.live.devices.disks}
    jobs = [str(one["device"]) for one in await guest.ask("query-block-jobs") if one["device"] in ends]
    for name in jobs:
        await guest.ask("block-job-cancel", {"device": name, "force": True})
    await _wait_for_end(guest, jobs)
    nodes = {str(one.get("node-name")) for one in await guest.ask("query-named-block-nodes", {"flat": True})}
    for node in nodes.intersection(ends.values()):
        await guest.ask("blockdev-del", {"node-name": node})


async def _wait_for_end(guest: Guest, jobs: list[str]) -> None:
    while jobs:
        known = {str(one["device"]) for one in await guest.ask("query-block-jobs")}
        if not known.intersection(jobs):
            return
        await asyncio.sleep(_POLL_S)


# --- the side that receives ------------------------------------------------------------------------------------------


async def make_images(host: QemuHost, definition: Domain, sizes: dict[str, int]) -> None:
    """Makes the images that are to be filled and are not there yet. Raises OperationFailed."""
    for disk in definition.devices.disks:
        path, size = source_path(disk), sizes.get(disk.target.dev)
        if not path or not size or await host.runtime.in_thread(_exists, path):
            continue
        kind = (disk.driver.type if disk.driver is not None else None) or "raw"
        process = await asyncio.create_subprocess_exec(
            "qemu-img",
            *("create", "-q", "-f", kind, path, str(size)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_IMAGE_S):
                _, said = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise OperationFailed(f"cannot create '{path}': {said.decode(errors='replace').strip()}")


def _exists(path: str) -> bool:
    import os

    return os.path.lexists(path)


async def offer_disks(guest: Guest, sizes: dict[str, int], place: Mapping[str, object], tls: str | None) -> None:
    """Lets the other side write the disks that it sends along, inside TLS where there are credentials.

    Raises as `Guest.ask` does.
    """
    await guest.ask("nbd-server-start", {"addr": place} if tls is None else {"addr": place, "tls-creds": tls})
    for disk in guest.live.devices.disks:
        if disk.target.dev in sizes:
            arguments = {"type": "nbd", "id": f"libvirt-nbd-{node_of(disk)}", "node-name": node_of(disk)}
            await guest.ask("block-export-add", arguments | {"writable": True, "name": export_of(disk)})


async def withdraw_disks(guest: Guest) -> None:
    """Nobody else writes them from now on. Raises as `Guest.ask` does."""
    await guest.ask("nbd-server-stop")
