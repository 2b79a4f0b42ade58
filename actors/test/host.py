"""The state of this driver's process: its scopes, and the one way in which a change becomes real.

A change is on disk before anybody is told of it: one document is written, then the guest in memory is the new one, then
lists and subscribers know, in one step without a pause. Then the reply goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from actors.runtime.context import current_call, find_call
from actors.runtime.moments import KeepsMoments, Kept
from actors.runtime.runtime import Runtime
from actors.test.digests import digest_of_record
from actors.test.guest import Draft, Guest
from actors.test.kinds import Kind, Record
from actors.test.records import WorldRecord, encode
from actors.test.states import Move
from actors.test.world import DOMAINS, World
from schema.errors import Busy, NoConnection
from schema.objects import DomainRef

VIA_LIBVIRT: Final = "libvirt"
ANEW_RETRY_S: Final = 0.1
Events: TypeAlias = Sequence[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a guest before it is known under which id it happens; `name` when it is told of another name."""

    kind: str
    data: dict[str, Any]
    name: str | None = None

    @classmethod
    def lifecycle(cls, event: int, detail: int, name: str | None = None) -> Told:
        """libvirt's lifecycle event."""
        return cls("domain_event_lifecycle", {"event": int(event), "detail": int(detail)}, name)

    @classmethod
    def of(cls, move: Move) -> tuple[Told, ...]:
        """What is told of a change of state: one event or none."""
        return () if move.event is None else (cls.lifecycle(move.event, move.detail),)

    def about(self, dom: DomainRef) -> tuple[str, dict[str, Any]]:
        """The event as it is published."""
        name = dom.name if self.name is None else self.name
        return self.kind, {"dom": DomainRef(name, dom.uuid, dom.id), **self.data}


class TestHost(KeepsMoments):
    """Given to every handler as its first argument."""

    __test__ = False

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.worlds: dict[str, World] = {}

    @property
    def world(self) -> World:
        """What the current call's connection is about. Raises NoConnection when nobody opened it."""
        scope = current_call().scope
        world = self.worlds.get(scope)
        if world is None:
            raise NoConnection(f"'{scope}': it has not been opened")
        return world

    def guest(self, dom: DomainRef) -> Guest:
        """The guest that a reference means. Raises NoSuchDomain."""
        return self.world.need(dom)

    def snapshots_of(self, dom: DomainRef) -> Kept:
        """The guest's snapshots. Raises NoSuchDomain."""
        guest = self.guest(dom)
        return Kept(guest.ref, guest.record.snapshots, guest.record.current_snapshot)

    def checkpoints_of(self, dom: DomainRef) -> Kept:
        """The guest's checkpoints. Raises NoSuchDomain."""
        guest = self.guest(dom)
        return Kept(guest.ref, guest.record.checkpoints, guest.record.current_checkpoint)

    async def commit(self, draft: Draft, told: Sequence[Told] = (), *, result: Any = None) -> None:
        """Makes a draft real and tells it. `result` is what the call answers, should this process die right after.

        Raises HostSystemError when the disk refuses, Busy when the scope was made anew meanwhile; nothing changed then.
        """
        guest = draft.guest
        await self.touch(self.worlds[guest.scope])
        world = self.worlds[guest.scope]
        if world.guests.get(guest.uuid) is not (guest if guest.is_known else None):
            raise _made_anew(world)
        if draft.gone:
            await self._drop(world, draft, told, result)
            return
        record = draft.record()
        data = encode(record)
        await self.store.write(world.path(DOMAINS, record.uuid), data, result=result)
        old_name = guest.name
        guest.adopt(draft, record)
        if guest.uuid in world.guests:
            world.renamed(guest, old_name)
        else:
            world.add(guest)
        self.publish(guest, told, data)

    def publish(self, guest: Guest, told: Sequence[Told], data: bytes) -> None:
        """Lists and subscribers learn what the guest is now."""
        events = [one.about(guest.ref) for one in told]
        mark = digest_of_record(guest.record, data)
        self.objects.put("domain", guest.uuid, guest.name, guest.summary(), events=events, digest=mark)

    async def commit_record(
        self, kind: Kind, record: Record, events: Events = (), *, result: Any = None, completes: bool = True
    ) -> None:
        """Makes the new state of a network, pool, interface or device real and tells it.

        Raises HostSystemError when the disk refuses; nothing changed then.
        """
        world = self.world
        await self.touch(world)
        if self.world is not world:
            raise _made_anew(world)
        data = encode(record)
        path = world.path(kind.folder, kind.file_key(record))
        await self.store.write(path, data, result=result, completes=completes)
        world.shelf(kind)[kind.key_of(record)] = record
        self.publish_record(world, kind, record, data, events)

    async def drop_record(self, kind: Kind, record: Record, events: Events = (), *, completes: bool = True) -> None:
        """Such an object is gone. Raises HostSystemError when the disk refuses; nothing changed then."""
        world = self.world
        await self.touch(world)
        if self.world is not world:
            raise _made_anew(world)
        await self.store.remove(world.path(kind.folder, kind.file_key(record)), completes=completes)
        key = kind.key_of(record)
        world.shelf(kind).pop(key, None)
        self.objects.drop(kind.type, key, events=list(events), scope=world.scope)

    def publish_record(self, world: World, kind: Kind, record: Record, data: bytes, events: Events = ()) -> None:
        """Lists and subscribers learn what such an object is now."""
        summary = kind.summary(record, world.scope)
        mark = digest_of_record(record, data)
        self.objects.put(kind.type, kind.key_of(record), record.name, summary, events=list(events), digest=mark)

    async def touch(self, world: World) -> None:
        """Marks a scope as changed, and for ever as changed by a native client if one is calling."""
        while not world.record.whole:  # it is being made anew
            async with self.runtime.mailbox(("world", world.scope)).change():
                pass
        world.changed = True
        call = find_call()
        if call is not None and call.caller.get("via") != VIA_LIBVIRT and not world.record.kept:
            await self.write_world(world, kept=True)

    async def write_world(self, world: World, **values: Any) -> None:
        """Changes what is known of the whole scope. Says nothing about the current call."""
        record: WorldRecord = msgspec.structs.replace(world.record, **values)
        await self.store.write(world.own_path, encode(record), completes=False)
        world.record = record

    async def _drop(self, world: World, draft: Draft, told: Sequence[Told], result: Any) -> None:
        guest = draft.guest
        if guest.record.last_id > world.record.last_id:  # its id is not given again after a restart either
            await self.write_world(world, last_id=guest.record.last_id)
        await self.store.remove(world.path(DOMAINS, guest.record.uuid), result=result)
        events = [one.about(guest.ref) for one in told]
        world.remove(guest)
        self.objects.drop("domain", guest.uuid, events=events, scope=world.scope)


def _made_anew(world: World) -> Busy:
    return Busy(ANEW_RETRY_S, f"'{world.scope}' went back to its beginning during the call")
