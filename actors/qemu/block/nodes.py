"""Images that come to a running guest and leave it: QEMU's nodes, files of the host, and the jobs that make them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from actors.qemu.block.chain import Image, put_images
from actors.qemu.block.create import format_options
from actors.qemu.block.places import backing_text
from actors.qemu.command.blockdev import Node, disk_nodes
from actors.qemu.command.launch import Launch
from actors.qemu.command.line import Properties, without_none
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.host_options import options_of
from actors.qemu.hotplug.chardev_words import read_words
from actors.qemu.hotplug.steps import with_sets
from actors.qemu.monitor.link import Command, CommandRefused, MonitorGone
from actors.qemu.needs import ask_ports
from actors.qemu.owning.identity import Owner
from actors.qemu.resources import StartResources
from conf.domain.disk import Disk
from conf.domain.storage_source import FileSource, NetworkSource, Protocol
from conf.element import Element
from schema.errors import HostSystemError, HypervisorGone, InternalError, OperationFailed, VirtError

_ENDED: Final = "concluded"
_LOOKS: Final = 100
_LOOK_S: Final = 0.05


async def launch_of(host: QemuHost, guest: Guest, *parts: Element) -> Launch:
    """What nodes of a running guest are made from, with the secrets and volumes that disks and images name.

    Raises what asking for them raises: NoSuchSecret, NoSuchStoragePool, NoSuchStorageVol.
    """
    live = guest.live
    caps = await host.emulator_for(live.os.kind.arch, guest.need_run().emulator)
    resources = StartResources(guest.folder, guest.fd_groups)
    options = options_of(host)
    for part in parts:
        resources.take(await ask_ports(part, host.needed, guest.folder, options))
    return Launch(live, caps, options, guest.folder, resources, -1, guest_id=guest.id)


def nodes_for(launch: Launch, disk: Disk, images: Sequence[Image], *, writable: bool = True) -> list[Node]:
    """The nodes of images that are to be opened as those of a disk are, the deepest first; the last is the top one.

    Raises ConfigUnsupported for what QEMU cannot open.
    """
    draft = disk.copy()
    put_images(draft, images)
    if images[0].source is not disk.source:
        # what opens the disk's own image, where its document names that beside the image, opens no other one
        draft.encryption = draft.auth = None
    if draft.driver is not None:
        draft.driver.copy_on_read = None
    draft.readonly = not writable
    draft.transient = None
    return disk_nodes(launch, draft)


def storage_properties(launch: Launch, disk: Disk, image: Image) -> Properties:
    """The storage node of an image, as QEMU is told. Raises ConfigUnsupported for a place that QEMU cannot open."""
    source = image.source
    if isinstance(source, NetworkSource) and source.protocol in _FORGOTTEN:
        return _forgotten(source)
    draft = disk.copy()
    draft.source = source
    for _, properties in nodes_for(launch, draft, [Image(source, "raw", image.index)])[-1].steps:
        if properties.get("node-name") == image.storage_node:
            return without_none(properties)
    return {}


_FORGOTTEN: Final = {Protocol.VXHS: ("vxhs", "vdisk-id"), Protocol.SHEEPDOG: ("sheepdog", "vdi")}
"""Servers that QEMU knew once, and which old images may still name."""


def _forgotten(source: NetworkSource) -> Properties:
    driver, key = _FORGOTTEN[source.protocol]
    host = source.hosts[0]
    server = {"host": host.name, "port": str(host.port or 0)}
    if source.protocol is Protocol.SHEEPDOG:
        server = {"type": "inet", **server}
    return {"driver": driver, key: source.name, "server": server}


async def name_for(host: QemuHost, guest: Guest, disk: Disk, image: Image) -> str:
    """How an image above this one names it. Raises ConfigUnsupported."""
    if image.path is not None:
        return backing_text(image.source)
    return backing_text(image.source, storage_properties(await launch_of(host, guest), disk, image))


def adding(node: Node, *, backing: str | None = None) -> list[Command]:
    """What makes QEMU open an image; `backing` is the node it stands on, if not the one it says itself."""
    commands: list[Command] = []
    for option, properties in node.steps:
        given = without_none(properties)
        if option == "-object":
            commands.append(("object-add", given))
            continue
        if backing is not None and given.get("node-name") == node.name:
            given["backing"] = backing
        commands.append(("blockdev-add", given))
    return commands


async def open_images(guest: Guest, nodes: Sequence[Node], *, backing: str | None = None) -> None:
    """Makes QEMU open images; none of them stays open when one fails. Raises as `Guest.ask` does."""
    done: list[Command] = []
    try:
        for place, node in enumerate(nodes):
            sets = await _hand_over(guest, node)
            for name, arguments in adding(node, backing=backing if place == 0 else None):
                await guest.ask(name, with_sets(dict(arguments or {}), sets))
                done.append((name, arguments))
    except BaseException:
        for name, arguments in reversed(done):
            with contextlib.suppress(VirtError):
                await asyncio.shield(asyncio.ensure_future(_take_back(guest, name, dict(arguments or {}))))
        raise


async def _hand_over(guest: Guest, node: Node) -> dict[int, int]:
    """Gives QEMU the descriptors of an image that a client has opened; the numbers of its sets by ours.

    Raises InternalError when QEMU refuses, HypervisorGone.
    """
    sets: dict[int, int] = {}
    for words in node.descriptors:
        _, parts = read_words(f"add-fd,{words}")
        local, descriptor = int(parts["set"]), int(parts["fd"])
        try:
            sets[local] = await guest.need_monitor().hand_over_set(descriptor, parts["opaque"], sets.get(local))
        except CommandRefused as exc:
            raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
        except MonitorGone as exc:
            raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
        finally:
            os.close(descriptor)
    return sets


async def _take_back(guest: Guest, name: str, arguments: dict[str, Any]) -> None:
    if name == "object-add":
        await guest.ask("object-del", {"id": arguments["id"]})
    else:
        await guest.ask("blockdev-del", {"node-name": arguments["node-name"]})


async def forget_making(guest: Guest, images: Sequence[Image]) -> None:
    """Makes QEMU forget that it has made images, when nobody waits for that any more. Raises as `Guest.ask` does."""
    names = {_making(node) for image in images for node in (image.format_node, image.storage_node)}
    for _ in range(_LOOKS):
        left = {str(one["id"]): one.get("status") for one in await guest.ask("query-jobs") if one.get("id") in names}
        for name, status in left.items():
            if status == _ENDED:
                await dismiss_job(guest, name)
        if all(status == _ENDED for status in left.values()):
            return
        await asyncio.sleep(_LOOK_S)


def _making(node: str) -> str:
    return f"create-{node}"


async def close_images(guest: Guest, images: Sequence[Image]) -> None:
    """Makes QEMU let go of images, the top one first; one that it keeps is left."""
    monitor = guest.monitor
    if monitor is None or not monitor.is_open:
        return
    commands: list[Command] = []
    for image in images:
        commands.append(("blockdev-del", {"node-name": image.format_node}))
        commands.append(("blockdev-del", {"node-name": image.storage_node}))
        if getattr(image.source, "encryption", None) is not None:
            commands.append(("object-del", {"id": f"{image.format_node}-encryption-secret0"}))
    for future in monitor.submit(commands):
        with contextlib.suppress(CommandRefused, MonitorGone):
            await future


# --- jobs that somebody waits for ------------------------------------------------------------------------------------


async def run_job(guest: Guest, job: str, command: str, arguments: dict[str, Any]) -> None:
    """Lets QEMU do a job and waits for its end; a caller that is cancelled cancels the job.

    Raises OperationFailed with QEMU's words when it failed, and as `Guest.ask` does.
    """
    waits = guest.waiters.expect(job)
    try:
        await guest.ask(command, {"job-id": job, **arguments})
    except BaseException:
        guest.waiters.leave(job)
        raise
    try:
        while await next_status(guest, waits) != _ENDED:
            waits = guest.waiters.expect(job)
    except asyncio.CancelledError:
        guest.waiters.leave(job)
        await asyncio.shield(asyncio.ensure_future(_cancel(guest, job)))
        raise
    error = await job_error(guest, job)
    await dismiss_job(guest, job)
    if error is not None:
        raise OperationFailed(error)


async def next_status(guest: Guest, waits: asyncio.Future[str]) -> str:
    """The status that is waited for. Raises HypervisorGone when the guest ends before."""
    gone = guest.need_monitor().gone
    await asyncio.wait({waits, gone}, return_when=asyncio.FIRST_COMPLETED)
    if waits.done():
        return waits.result()
    raise HypervisorGone(f"the guest '{guest.name}' ended: {gone.result()}")


async def job_error(guest: Guest, job: str) -> str | None:
    """Why a job that has ended failed, None if it did not. Raises as `Guest.ask` does."""
    for one in await guest.ask("query-jobs"):
        if one.get("id") == job:
            error = one.get("error")
            return None if error is None else str(error)
    return None


async def dismiss_job(guest: Guest, job: str) -> None:
    """QEMU forgets a job that has ended. Raises HypervisorGone."""
    with contextlib.suppress(InternalError):
        await guest.ask("job-dismiss", {"id": job})


async def _cancel(guest: Guest, job: str) -> None:
    with contextlib.suppress(VirtError):
        await guest.ask("job-cancel", {"id": job})
        for _ in range(200):
            for one in await guest.ask("query-jobs"):
                if one.get("id") == job and one.get("status") == _ENDED:
                    await guest.ask("job-dismiss", {"id": job})
                    return
            await asyncio.sleep(0.05)


# --- new images ------------------------------------------------------------------------------------------------------


async def create_image(
    host: QemuHost,
    guest: Guest,
    node: Node,
    image: Image,
    size: int,
    below: Image | None = None,
    *,
    backing: str | None = None,
) -> None:
    """Makes a new, empty image and opens it; `below` is what it says it stands on, `backing` the node to stand on.

    The file exists already (`make_file`). Nothing stays open when this fails. Raises OperationFailed with QEMU's words.
    """
    storage = image.storage_node
    commands = adding(node, backing=backing)
    opened: list[str] = []
    try:
        if isinstance(image.source, FileSource):
            wanted = size if image.format == "raw" else 0
            made: dict[str, Any] = {"driver": "file", "filename": image.source.file, "size": wanted}
            await run_job(guest, _making(str(storage)), "blockdev-create", {"options": made})
        for name, arguments in commands[:-1]:
            await guest.ask(name, dict(arguments or {}))
            if name == "blockdev-add" and arguments is not None:
                opened.append(str(arguments["node-name"]))
        lower = opened[-1] if opened else storage
        encryption = getattr(image.source, "encryption", None)
        secret = None if encryption is None else f"{image.format_node}-encryption-secret0"
        options = format_options(image.format, lower, size, below, encryption=encryption, secret=secret)
        if options is not None:
            await run_job(guest, _making(image.format_node), "blockdev-create", {"options": options})
        name, arguments = commands[-1]
        await guest.ask(name, dict(arguments or {}))
    except BaseException:
        for one in reversed(opened):
            with contextlib.suppress(VirtError):
                await asyncio.shield(asyncio.ensure_future(guest.ask("blockdev-del", {"node-name": one})))
        raise


def make_file(path: str, owner: Owner | None) -> bool:
    """Makes an empty file that the guest's process may write: its `owner`'s. Whether it was not there before.

    Raises HostSystemError.
    """
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"failed to create image file '{path}'") from exc
    return True


def remove_file(path: str) -> None:
    """A file goes, if it is there."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


async def size_of(guest: Guest, node: str) -> int:
    """The bytes that a guest sees in an image. Raises as `Guest.ask` does, InternalError for an unknown node."""
    for one in await guest.ask("query-named-block-nodes", {"flat": True}):
        if one.get("node-name") == node:
            return int(one["image"]["virtual-size"])
    raise InternalError(f"failed to get details of image node '{node}'")
