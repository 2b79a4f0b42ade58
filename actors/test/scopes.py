"""Scopes come to be when they are opened, are found again at a start, and go back to their beginnings.

A scope's own document is written last when its objects are made, and marked as not whole before they are made anew:
what a crash left half made is therefore made again.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from actors.runtime.objects import digest_of
from actors.test.blueprint import Blueprint, default_blueprint
from actors.test.guest import Guest
from actors.test.host import TestHost
from actors.test.kinds import KINDS
from actors.test.nodefile import read_node_file
from actors.test.records import DomainRecord, WorldRecord, decode, encode
from actors.test.world import DOMAINS, SUFFIX, WORLDS, World

R = TypeVar("R", bound=msgspec.Struct)


async def start_scopes(host: TestHost) -> None:
    """Finds every scope that is on disk, and makes `test:///default` if it is not."""
    for path in host.store.list(WORLDS, SUFFIX):
        data = host.store.read(path)
        if data is None:
            continue
        world = World(decode(WorldRecord, data, path))
        if not world.record.whole:
            await _write_all(host, world, await _blueprint(host, world.scope))
        else:
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
            data = encode(guest.record)
            host.objects.restore("domain", guest.uuid, guest.name, guest.summary(), digest=digest_of(data))
        for kind in KINDS:
            for key, record in world.shelf(kind).items():
                summary = kind.summary(record, world.scope)
                host.objects.restore(kind.type, key, record.name, summary, digest=digest_of(encode(record)))


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
    """Brings back what the scope began with, unless a native client changed it or it is to be kept."""
    world = host.worlds.get(scope)
    if world is None:
        return
    async with host.runtime.mailbox(("world", scope)).change():
        if world.record.kept or host.config.test.keep or not world.changed:
            return
        blueprint = await _blueprint(host, scope)
        await host.write_world(world, whole=False)
        fresh = World(WorldRecord(scope=scope))
        await _write_all(host, fresh, blueprint)
        _read_all(host, fresh)
        host.worlds[scope] = fresh
        _publish_all(host, fresh)
        for uuid in world.guests.keys() - fresh.guests.keys():
            host.objects.drop("domain", uuid, scope=scope)
        for kind in KINDS:
            for key in world.shelf(kind).keys() - fresh.shelf(kind).keys():
                host.objects.drop(kind.type, key, scope=scope)


async def _blueprint(host: TestHost, scope: str) -> Blueprint:
    if scope == World.DEFAULT:
        return default_blueprint()
    return await host.runtime.in_thread(read_node_file, scope.partition("://")[2].partition("?")[0])


async def _write_all(host: TestHost, world: World, blueprint: Blueprint) -> None:
    """Writes every document of a scope anew, its own last."""
    documents: dict[str, msgspec.Struct] = {}
    for domain in blueprint.domains:
        documents[world.path(DOMAINS, domain.uuid)] = domain
    for kind, record in blueprint.others():
        documents[world.path(kind.folder, kind.file_key(record))] = record
    for folder in (DOMAINS, *(kind.folder for kind in KINDS)):
        for path in host.store.list(f"{world.folder}/{folder}"):
            if path not in documents:
                await host.store.remove(path, completes=False)
    for path, document in documents.items():
        await host.store.write(path, encode(document), completes=False)
    await host.write_world(world, whole=True, node=blueprint.node)


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
        data = host.store.read(path)
        if data is not None:
            found.append(decode(record, data, path))
    return found


def _publish_all(host: TestHost, world: World) -> None:
    for guest in world.guests.values():
        host.publish(guest, (), encode(guest.record))
    for kind in KINDS:
        for record in world.shelf(kind).values():
            host.publish_record(world, kind, record, encode(record))
