"""Scopes come to be when they are opened, are found again at a start, and go back to their beginnings.

A scope's own document is written last when its objects are made, and marked as not whole before they are made anew:
what a crash left half made is therefore made again.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from actors.runtime.objects import Entry
from actors.test.blueprint import Blueprint, default_blueprint
from actors.test.digests import changes, digest_of_record
from actors.test.guest import Guest
from actors.test.host import TestHost
from actors.test.kinds import KINDS
from actors.test.nodefile import read_node_file
from actors.test.records import DomainRecord, UnreadableRecord, WorldRecord, decode, encode
from actors.test.world import DOMAINS, SUFFIX, WORLDS, World
from schema.errors import VirtError

R = TypeVar("R", bound=msgspec.Struct)


async def start_scopes(host: TestHost) -> None:
    """Finds every scope that is on disk, and makes `test:///default` if it is not."""
    for path in host.store.list(WORLDS, SUFFIX):
        try:
            world = _read_world(host, path)
            if not world.record.whole:
                await _write_all(host, world, await _blueprint(host, world.scope))
        except (VirtError, UnreadableRecord) as exc:
            host.log.error("a scope cannot be read and is left as it is", path=path, error=str(exc))
            continue
        world.changed = True  # nobody knows
        _read_all(host, world)
        host.worlds[world.scope] = world
    if World.DEFAULT not in host.worlds:
        world = World(WorldRecord(scope=World.DEFAULT))
        await _write_all(host, world, default_blueprint())
        _read_all(host, world)
        host.worlds[world.scope] = world
    for world in host.worlds.values():
        for guest in world.guests.values():
            mark = digest_of_record(guest.record, encode(guest.record))
            host.objects.restore("domain", guest.uuid, guest.name, guest.summary(), digest=mark)
        for kind in KINDS:
            for key, record in world.shelf(kind).items():
                summary = kind.summary(record, world.scope)
                mark = digest_of_record(record, encode(record))
                host.objects.restore(kind.type, key, record.name, summary, digest=mark)


async def open_scope(host: TestHost, scope: str) -> None:
    """Makes a scope that does not exist yet. Raises XmlError, InternalError and HostSystemError for a bad file."""
    async with host.runtime.mailbox(("world", scope)).change():
        if scope in host.worlds:
            return
        world = World(WorldRecord(scope=scope))
        await _write_all(host, world, await _blueprint(host, scope))
        _read_all(host, world)
        host.worlds[scope] = world
        _publish_all(host, world)


async def leave_scope(host: TestHost, scope: str) -> None:
    """Brings back what the scope began with, unless a native client changed it or it is to be kept.

    Whoever subscribes is told what that changes, as if it had happened to each object by itself.
    """
    async with host.runtime.mailbox(("world", scope)).change():
        world = host.worlds.get(scope)
        if world is None or world.record.kept or host.config.test.keep or not world.changed:
            return
        blueprint = await _blueprint(host, scope)
        await host.write_world(world, whole=False)
        fresh = World(WorldRecord(scope=scope))
        await _write_all(host, fresh, blueprint, world)
        _read_all(host, fresh)
        host.worlds[scope] = fresh
        _publish_all(host, fresh, world)


async def _blueprint(host: TestHost, scope: str) -> Blueprint:
    if scope == World.DEFAULT:
        return default_blueprint()
    return await host.runtime.in_thread(read_node_file, scope.partition("://")[2].partition("?")[0])


async def _write_all(host: TestHost, world: World, blueprint: Blueprint, old: World | None = None) -> None:
    """Writes every document of a scope that is not in the old one just like this, and its own last."""
    documents: dict[str, msgspec.Struct] = {}
    for domain in blueprint.domains:
        documents[world.path(DOMAINS, domain.uuid)] = domain
    for kind, record in blueprint.others():
        documents[world.path(kind.folder, kind.file_key(record))] = record
    known = {} if old is None else _documents(old)
    for folder in (DOMAINS, *(kind.folder for kind in KINDS)):
        for path in host.store.list(f"{world.folder}/{folder}"):
            if path not in documents:
                await host.store.remove(path, completes=False)
    for path, document in documents.items():
        if not _is_same(document, known.get(path)):
            await host.store.write(path, encode(document), completes=False)
    await host.write_world(world, whole=True, node=blueprint.node)


def _documents(world: World) -> dict[str, msgspec.Struct]:
    """What lies on disk of a scope, by path."""
    found: dict[str, msgspec.Struct] = {
        world.path(DOMAINS, guest.record.uuid): guest.record for guest in world.guests.values()
    }
    for kind in KINDS:
        for record in world.shelf(kind).values():
            found[world.path(kind.folder, kind.file_key(record))] = record
    return found


def _is_same(one: msgspec.Struct, other: msgspec.Struct | None) -> bool:
    """Whether two documents say the same, whenever it began."""
    if isinstance(one, DomainRecord) and isinstance(other, DomainRecord):
        return msgspec.structs.replace(one, since=0.0) == msgspec.structs.replace(other, since=0.0)
    return one == other


def _read_world(host: TestHost, path: str) -> World:
    data = host.store.read(path)
    if data is None:
        raise UnreadableRecord(f"'{path}' is gone")
    try:
        return World(decode(WorldRecord, data, path))
    except UnreadableRecord:
        default = World(WorldRecord(scope=World.DEFAULT, kept=True))
        if path != default.own_path:
            raise
        return default  # its objects are there, and are not given up for this


def _read_all(host: TestHost, world: World) -> None:
    """Takes in what is on disk."""
    for record in _read(host, world, DOMAINS, DomainRecord):
        world.add(Guest(world.scope, record))
    for kind in KINDS:
        for other in _read(host, world, kind.folder, kind.record_class):
            world.shelf(kind)[kind.key_of(other)] = other


def _read(host: TestHost, world: World, folder: str, record: type[R]) -> list[R]:
    found = []
    for path in host.store.list(f"{world.folder}/{folder}", SUFFIX):
        try:
            data = host.store.read(path)
            if data is not None:
                found.append(decode(record, data, path))
        except (VirtError, UnreadableRecord) as exc:
            host.log.error("an object cannot be read and is left as it is", path=path, error=str(exc))
    return found


def _publish_all(host: TestHost, world: World, old: World | None = None) -> None:
    """Tells of every object that is not as it was."""
    known = {} if old is None else _documents(old)
    for guest in world.guests.values():
        if not _is_same(guest.record, known.get(world.path(DOMAINS, guest.record.uuid))):
            _publish(host, "domain", guest.uuid, guest.name, dict(guest.summary()), guest.record)
    for kind in KINDS:
        for key, record in world.shelf(kind).items():
            if not _is_same(record, known.get(world.path(kind.folder, kind.file_key(record)))):
                summary = kind.summary(record, world.scope)
                _publish(host, kind.type, key, record.name, summary, record)
    if old is not None:
        for uuid in old.guests.keys() - world.guests.keys():
            _withdraw(host, "domain", uuid, world.scope)
        for kind in KINDS:
            for key in old.shelf(kind).keys() - world.shelf(kind).keys():
                _withdraw(host, kind.type, key, world.scope)


def _publish(
    host: TestHost, type: str, key: bytes | str, name: str, summary: dict[str, Any], record: msgspec.Struct
) -> None:
    digest = digest_of_record(record, encode(record))
    new = Entry(type, summary["scope"], key, name, summary, digest=digest)
    events = changes(host.objects.find(type, key, summary["scope"]), new)
    host.objects.put(type, key, name, summary, events=events, digest=digest)


def _withdraw(host: TestHost, type: str, key: bytes | str, scope: str) -> None:
    host.objects.drop(type, key, events=changes(host.objects.find(type, key, scope), None), scope=scope)
