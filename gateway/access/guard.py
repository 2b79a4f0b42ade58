"""A libvirt client under the access policy: calls are judged before they are made, lists and events before being told.

What can be refused without looking at the arguments is refused before they are parsed. Reads come from the read model
where the policy allows them (`reads`); who is judged pays for that, nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from gateway.access.lists import OLDER, fitted, list_field, older_result
from gateway.access.reads import GuardedReads, thing_of_known
from gateway.access.tags import MAKES_OTHER, Tags
from gateway.access.things import (
    NAMED_BY_UUID,
    reference_finder,
    result_reference,
    thing_in_arguments,
    thing_of,
)
from gateway.connection import Connection
from gateway.routes import Route
from rpc.session import CallReceived
from rpc.xdr import XdrError
from schema.access_policy import ABOVE, Judge, Thing
from schema.errors import AccessDenied, Busy, UnknownProcedure, UnsupportedCall, VirtError
from schema.model import Permission, Procedure
from schema.table import need_procedure

if TYPE_CHECKING:
    from gateway.access.access import Access

_BY_UUID: Final = 16


class GuardedConnection(Connection):
    """A connection whose caller may not do everything."""

    def __init__(self, *args: Any, access: Access, judge: Judge, **kwargs: Any) -> None:
        self._access = access
        self._judge = judge
        self._reads = GuardedReads(judge, kwargs["number"])
        self._tags = Tags(self)
        self.may_be_told = self._may_be_told
        super().__init__(*args, **kwargs)

    def prove(self, **more: str) -> None:
        """From now on it is known who the client is, so the policy can tell what it may do."""
        super().prove(**more)
        self._judge = self._access.judge_for(self.caller) or ABOVE
        self._reads = GuardedReads(self._judge, self.number)

    # --- what is answered at once ---

    def _received(self, data: bytes) -> None:
        self._now = self.heard_at = self.gateway.clock()
        self._session.feed(data)
        self._work()

    def _call(self, event: CallReceived) -> None:
        try:
            route = self.gateway.routes.need(event.program, event.procedure)
        except UnknownProcedure:
            super()._call(event)
        else:
            answer = self._read(route, event.payload)
            if answer is None:
                self._slow_call(event, route)
                return
            self.gateway.cached_reads += 1
            self.link.write(self._session.reply(event.program, event.procedure, event.serial, answer))

    def _read(self, route: Route, payload: bytes) -> bytes | None:
        scope = self.scope
        if route.reader is None or scope is None or self._access.log_allowed:
            return None
        replica = scope.view.replica
        if route.procedure.name not in replica.serves:
            return None
        if not replica.is_current(self._now, self.gateway.fresh_s) and not replica.is_unknown:
            return None
        try:
            return self._reads.answer(scope.view, route, payload, is_unknown=replica.is_unknown)
        except XdrError:
            return None  # what cannot be decoded is refused where all else is

    def _slow_call(self, event: CallReceived, route: Route) -> None:
        for permission in route.procedure.acl:
            if not permission.is_conditional and not self._judge.could(permission.object, permission.name):
                self._discard_fds(event.fds)
                self.fail(event, self._refusal(route.procedure, permission, None), route)
                return
        super()._slow_call(event, route)

    def _dispatch(self, event: CallReceived, route: Route, args: Any) -> None:
        if not route.procedure.acl:
            super()._dispatch(event, route, args)
            return
        gateway = self.gateway
        if gateway.calls_under_way >= gateway.settings.calls_in_flight:
            raise Busy(0.1)
        gateway.spawn(self._answer(event, route, args))

    async def _produce(self, event: CallReceived, route: Route, args: Any) -> None:
        procedure = route.procedure
        await self._check(procedure, args)
        if route.immediate is not None:
            self._reply(event, route, route.immediate(self, args))
        elif procedure.name in OLDER:
            how = OLDER[procedure.name]
            shared = {name: getattr(args, name) for name in _shared(procedure, need_procedure(how.call))}
            items = await self._visible(how.call, procedure, {**shared, **how.args})
            self._reply(event, route, older_result(procedure, how, args, items))
        elif procedure.aclfilter and route.awaited is None:
            wanted = {"need_results": 1} if hasattr(args, "need_results") else {}
            items = await self._visible(procedure.name, procedure, {**msgspec.structs.asdict(args), **wanted})
            self._reply(event, route, fitted(procedure, args, items))
        elif (found := self._lookup(procedure)) is not None:
            result = await self._ask(procedure.name, msgspec.structs.asdict(args))
            for permission in procedure.acl:
                thing = await self._tags.on(permission.object, thing_of(found(result)))
                if permission.object != "connect" and not self._may(procedure, permission, thing):
                    raise self._refusal(procedure, permission, thing)
            self.reply(event, route.result.encode(result))
        else:
            await super()._produce(event, route, args)

    def _reply(self, event: CallReceived, route: Route, values: Mapping[str, Any]) -> None:
        self.reply(event, route.result.encode(route.make_result(**values)))

    # --- judging ---

    @staticmethod
    def _lookup(procedure: Procedure) -> Any:
        kinds = [permission.object for permission in procedure.acl if permission.object != "connect"]
        return result_reference(procedure, kinds[0]) if kinds else None

    async def _check(self, procedure: Procedure, args: Any) -> None:
        """Raises AccessDenied for what the policy refuses."""
        values = msgspec.structs.asdict(args)
        flags = values.get("flags", 0)
        is_lookup = self._lookup(procedure) is not None
        things: dict[str, Thing] = {}
        for permission in procedure.acl:
            kind = permission.object
            if not permission.applies(flags, values) or (is_lookup and kind != "connect"):
                continue
            thing = None
            if kind != "connect" and self._judge.depends_on_thing(kind, permission.name):
                if kind not in things:
                    things[kind] = await self._thing(procedure, kind, args)
                thing = things[kind]
            if not self._may(procedure, permission, thing or Thing()):
                raise self._refusal(procedure, permission, thing)
        await self._check_becoming(procedure, args, things.get("domain"))

    async def _check_becoming(self, procedure: Procedure, args: object, thing: Thing | None) -> None:
        """Nobody makes a guest, by its tags or name, one with which more is allowed to it. Raises AccessDenied."""
        if procedure.name not in MAKES_OTHER or not self._judge.depends_on_any_thing():
            return
        before = thing
        if reference_finder(procedure, "domain") is None:
            before = await self._tags.described(procedure, args)
        elif before is None:
            before = await self._thing(procedure, "domain", args)
        if before is None:
            return
        needed = [p for p in procedure.acl if p.object == "domain" and not p.is_conditional]
        for permission in needed:
            if not self._may(procedure, permission, before):
                raise self._refusal(procedure, permission, before)
        for after in await self._tags.after(procedure, args, before):
            gained = self._judge.gained(before, after)
            if gained is not None:
                raise self._refusal(procedure, Permission("domain", gained), before)

    async def _thing(self, procedure: Procedure, kind: str, args: Any) -> Thing:
        """The object of a call, by what is known of it here and not by what the client says."""
        find = reference_finder(procedure, kind)
        if kind == "storage_vol" and procedure.name.startswith("storage_vol_create"):
            pool = await self._true("storage_pool", thing_of(args.pool))
            return Thing(f"{pool.name}/{thing_in_arguments(procedure, kind, args).name}")
        if find is None:
            # a new object has the tags that its document gives it
            return thing_in_arguments(procedure, kind, args)
        reference = find(args)
        if reference is None:
            return Thing()
        if kind == "storage_vol":
            return await self._true_volume(reference)
        if kind == "network_port":
            network = await self._true("network", thing_of(reference.net))
            return Thing(network.name, str(UUID(bytes=reference.uuid)))
        return await self._tags.on(kind, await self._true(kind, thing_of(reference)))

    async def _true(self, kind: str, thing: Thing) -> Thing:
        """The thing with the name that it has; without one when there is no such thing."""
        if kind not in NAMED_BY_UUID or not thing.uuid:
            return thing
        view = self.need_scope().view
        if view.replica.is_current(self.gateway.clock(), self.gateway.fresh_s):
            key = UUID(thing.uuid).bytes
            known = view.domains.by_uuid.get(key) if kind == "domain" else view.hosts[kind].by_key.get(key)
            if known is not None:
                return thing_of_known(kind, known)
        call, field, attribute = NAMED_BY_UUID[kind]
        try:
            found = await self._ask(call, {"uuid": UUID(thing.uuid).bytes})
        except VirtError:
            return Thing("", thing.uuid)
        return Thing(getattr(getattr(found, field), attribute), thing.uuid)

    async def _true_volume(self, reference: Any) -> Thing:
        try:
            found = await self._ask("storage_vol_lookup_by_key", {"key": reference.key})
        except VirtError:
            return Thing()
        told = (found.vol.pool, found.vol.name)
        return thing_of(found.vol) if told == (reference.pool, reference.name) else Thing()

    def _may(self, procedure: Procedure, permission: Permission, thing: Thing) -> bool:
        allowed = self._judge.may(permission.object, permission.name, thing)
        if allowed:
            self._access.allowed(self.caller, procedure, permission, thing)
        return allowed

    def _refusal(self, procedure: Procedure, permission: Permission, thing: Thing | None) -> AccessDenied:
        self._access.refused(self.caller, procedure, permission, thing)
        return AccessDenied()

    # --- lists and events ---

    async def ask(self, call: str, args: Mapping[str, object]) -> Any:
        """Asks the driver in the caller's name. Raises what it answers."""
        return await self._ask(call, args)

    @property
    def needs_tags(self) -> bool:
        """Whether it matters here which tags guests have."""
        return self._judge.asks_for_tags()

    async def _visible(self, call: str, procedure: Procedure, args: Mapping[str, Any]) -> list[Any]:
        """The objects of a list that the caller may see."""
        row = need_procedure(call)
        try:
            result = await self._ask(call, args)
        except UnsupportedCall:
            if not self.need_scope().lacks(row.served_by):
                raise
            return []
        judge = self._judge
        (rule,) = procedure.aclfilter
        items = getattr(result, list_field(row))
        things = await self._tags.on_all(rule.object, [_listed(item) for item in items])
        return [item for item, thing in zip(items, things, strict=True) if judge.may(rule.object, rule.name, thing)]

    async def _ask(self, call: str, args: Mapping[str, object]) -> Any:
        row = need_procedure(call)
        route = self.gateway.routes.route_of(row)
        made = route.make_args(**args)
        result, _ = await self.gateway.forwarder.ask(self, self.need_scope(), route, made, route.args.encode(made))
        return result

    def _may_be_told(self, record: Mapping[str, Any]) -> bool:
        changed = record["object"]
        if changed is None:
            return True
        kind, key, name = changed
        uuid = str(UUID(bytes=key)) if isinstance(key, bytes) and len(key) == _BY_UUID else ""
        tags = self._tags.told(record) if kind == "domain" else ()
        return self._judge.may(kind, "getattr", Thing(str(name), uuid, tags))


def _listed(item: Any) -> Thing:
    if isinstance(item, str):
        return Thing(item)
    return thing_of(getattr(item, "dom", item))


def _shared(older: Procedure, newer: Procedure) -> list[str]:
    """The arguments that both calls have."""
    names = {item.name for item in newer.args}
    return [item.name for item in older.args if item.name in names]
