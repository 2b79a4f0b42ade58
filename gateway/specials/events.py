"""Registering for events, of every family and of the older kinds.

All of it is the gateway's: drivers publish anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.routes import Immediate, Specials
from gateway.subscriptions import LEGACY_EVENT_ID_MAX, Registration, monitor_pattern
from schema.errors import InternalError
from schema.model import Event
from schema.table import find_event_by_id, need_event

if TYPE_CHECKING:
    from gateway.connection import Connection

# family, argument that names the object, attribute that is its key, who serves it, words in errors
_FAMILIES: Final = (
    ("network", "net", "uuid", "network", "network"),
    ("storage_pool", "pool", "uuid", "storage", "storage pool"),
    ("node_device", "dev", "name", "nodedev", "node device"),
    ("secret", "secret", "uuid", "secret", "secret"),
)
_LIFECYCLE: Final = 0


def add_to(specials: Specials) -> None:
    """Adds these answers to the table."""
    specials.answers("connect_domain_event_callback_register_any")(
        _register("domain", "dom", "uuid", "hypervisor", "domain")
    )
    specials.answers("connect_domain_event_callback_deregister_any")(_deregister("domain"))
    for family, argument, attribute, served_by, words in _FAMILIES:
        register = _register(family, argument, attribute, served_by, words)
        specials.answers(f"connect_{family}_event_register_any")(register)
        specials.answers(f"connect_{family}_event_deregister_any")(_deregister(words))
    specials.answers("qemu_connect_domain_monitor_event_register")(_register_monitor)
    specials.answers("qemu_connect_domain_monitor_event_deregister")(_deregister("qemu monitor"))
    specials.answers("connect_domain_event_register")(_register_lifecycle)
    specials.answers("connect_domain_event_deregister")(_deregister_lifecycle)
    specials.answers("connect_domain_event_register_any")(_register_legacy)
    specials.answers("connect_domain_event_deregister_any")(_deregister_legacy)


def registration(connection: Connection, event: Event, served_by: str, key: bytes | str | None = None) -> Registration:
    """A registration for what happens from now on."""
    scope = connection.need_scope()
    source = scope.destination(served_by)
    replica = connection.gateway.feed.view(source, scope.uri).replica
    after = max(replica.seq, replica.mark)
    return Registration(connection, source, scope.uri, event, -1, after, key, may=connection.may_be_told)


def _register(family: str, argument: str, attribute: str, served_by: str, words: str) -> Immediate:
    def answer(connection: Connection, args: Any) -> Mapping[str, Any]:
        event = find_event_by_id(family, args.eventID)
        if event is None:
            raise InternalError(f"unsupported {words} event ID {args.eventID}")
        wanted = getattr(args, argument)
        key = getattr(wanted, attribute) if wanted is not None else None
        added = registration(connection, event, served_by, key)
        return {"callbackID": connection.gateway.subscriptions.add(connection.subscriptions, added)}

    return answer


def _deregister(words: str) -> Immediate:
    def answer(connection: Connection, args: Any) -> Mapping[str, Any]:
        connection.gateway.subscriptions.remove(connection.subscriptions, args.callbackID, words)
        return {}

    return answer


def _register_monitor(connection: Connection, args: Any) -> Mapping[str, Any]:
    key = args.dom.uuid if args.dom is not None else None
    added = registration(connection, need_event("qemu_domain_monitor_event"), "hypervisor", key)
    added.pattern = monitor_pattern(args.event, args.flags)
    return {"callbackID": connection.gateway.subscriptions.add(connection.subscriptions, added)}


def _legacy_event(event_id: int) -> Event:
    event = find_event_by_id("domain", event_id) if event_id <= LEGACY_EVENT_ID_MAX else None
    if event is None:
        raise InternalError(f"unsupported event ID {event_id}")
    return event


def _add_legacy(connection: Connection, event_id: int) -> None:
    added = registration(connection, _legacy_event(event_id), "hypervisor")
    connection.gateway.subscriptions.add_legacy(connection.subscriptions, added)


def _register_lifecycle(connection: Connection, args: Any) -> Mapping[str, Any]:
    _add_legacy(connection, _LIFECYCLE)
    return {"cb_registered": 0}


def _deregister_lifecycle(connection: Connection, args: Any) -> Mapping[str, Any]:
    connection.gateway.subscriptions.remove_legacy(connection.subscriptions, _LIFECYCLE)
    return {"cb_registered": 0}


def _register_legacy(connection: Connection, args: Any) -> Mapping[str, Any]:
    _add_legacy(connection, args.eventID)
    return {}


def _deregister_legacy(connection: Connection, args: Any) -> Mapping[str, Any]:
    _legacy_event(args.eventID)
    connection.gateway.subscriptions.remove_legacy(connection.subscriptions, args.eventID)
    return {}
