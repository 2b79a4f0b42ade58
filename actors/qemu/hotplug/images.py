"""The nodes that stand for a disk's images in a running QEMU, and what takes them out."""

from __future__ import annotations

from actors.qemu.command.blockdev import is_empty
from actors.qemu.monitor.link import Command
from conf.domain.disk import BackingStore, Disk
from conf.domain.storage_source import StorageSource, VhostUserSource


def image_parts(disk: Disk) -> list[Command]:
    """What takes a disk's images out, the topmost first; images without a number never were there by name."""
    if isinstance(disk.source, VhostUserSource):
        return [("chardev-remove", {"id": f"chr-vu-{disk.alias}"})]
    commands: list[Command] = []
    if disk.driver is not None and disk.driver.copy_on_read:
        commands.append(_node(f"libvirt-CoR-{disk.target.dev}"))
    source = None if disk.source is None or is_empty(disk.source) else disk.source
    number = source.index if source is not None else None
    is_encrypted = disk.encryption is not None
    below: BackingStore | None = disk.backing_store
    while source is not None:
        if number is not None:
            commands += _image(source, number, is_encrypted=is_encrypted)
        if below is None or below.source is None:
            break
        source, number, is_encrypted, below = below.source, below.index, False, below.backing_store
    return commands


def _image(source: StorageSource, number: int, *, is_encrypted: bool) -> list[Command]:
    name = f"libvirt-{number}"
    commands: list[Command] = [_node(f"{name}-format")]
    if getattr(source, "slices", None):
        commands.append(_node(f"{name}-slice-sto"))
    commands.append(_node(f"{name}-storage"))
    if is_encrypted or getattr(source, "encryption", None) is not None:
        commands.append(_object(f"{name}-format-encryption-secret0"))
    if getattr(source, "auth", None) is not None:
        commands.append(_object(f"{name}-storage-auth-secret0"))
    if getattr(source, "cookies", None):
        commands.append(_object(f"{name}-storage-httpcookie-secret0"))
    if getattr(source, "tls", None):
        tls = f"obj{name}-storage_tls0"
        commands += [_object(tls), _object(f"{tls}-secret0")]
    reservations = getattr(source, "reservations", None)
    if reservations is not None and not reservations.managed:
        commands.append(_object(f"pr-helper-{name}-storage"))
    return commands


def _object(name: str) -> Command:
    return "object-del", {"id": name}


def _node(name: str) -> Command:
    return "blockdev-del", {"node-name": name}
