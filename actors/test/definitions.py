"""Guests come to be, are described, renamed and forgotten."""

from __future__ import annotations

from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules, states
from actors.test.flags import check_flags, find_member
from actors.test.guest import Guest
from actors.test.host import TestHost, Told
from actors.test.records import DomainRecord
from actors.test.world import World, uuid_text
from conf.domain.domain import Domain
from schema.enums.domain import DomainCreateFlags, DomainLifecycle, DomainLifecycleAction
from schema.enums.domain import DomainDefineFlags as DefineFlags
from schema.enums.domain import DomainUndefineFlags as UndefineFlags
from schema.enums.domain import DomainXMLFlags as XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_event import DomainEventUndefinedDetailType as Undefined
from schema.errors import DomainExists, DomainStateError, ErrorDomain, InvalidArguments, XmlError
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()

_XML_FLAGS: Final = int(XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.MIGRATABLE)
_AFFECT: Final = 3


@calls.handles()
async def domain_define_xml_flags(host: TestHost, xml: str, flags: int) -> DomainRef:
    """Makes a guest persistent with this definition, which a running one takes up at its next start.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, DomainExists when name and uuid belong to
    different guests.
    """
    check_flags(flags, int(DefineFlags.VALIDATE), "testDomainDefineXMLFlags")
    config = rules.parse_definition(xml, validate=bool(flags & DefineFlags.VALIDATE))
    world = host.world
    async with (
        host.runtime.mailbox(("name", config.name)).change(),
        host.runtime.mailbox(("domain", config.uuid.bytes)).change(),
    ):
        guest = find_or_make(world, config)
        draft = guest.draft()
        draft.define(config)
        ref = guest.ref
        detail = Defined.UPDATED if guest.is_persistent else Defined.ADDED
        await host.commit(draft, [Told.lifecycle(Event.DEFINED, detail)], result=ref)
    return ref


@calls.handles()
async def domain_create_xml(host: TestHost, xml_desc: str, flags: int) -> DomainRef:
    """Starts a guest with this definition; one that was persistent stays so, with its own configuration.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, DomainExists when name and uuid belong to
    different guests, DomainStateError when it is active already.
    """
    check_flags(flags, int(DomainCreateFlags.START_VALIDATE), "testDomainCreateXML")
    live = rules.parse_definition(xml_desc, validate=bool(flags & DomainCreateFlags.START_VALIDATE))
    world = host.world
    async with (
        host.runtime.mailbox(("name", live.name)).change(),
        host.runtime.mailbox(("domain", live.uuid.bytes)).change(),
    ):
        guest = find_or_make(world, live)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active", domain=ErrorDomain.DOMAIN)
        draft = guest.draft()
        ref = DomainRef(live.name, guest.uuid, world.next_id())
        draft.run(rules.started(live), ref.id, states.BOOT)
        await host.commit(draft, Told.of(states.BOOT), result=ref)
    return ref


@calls.handles(key="dom")
async def domain_undefine_flags(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Forgets a guest's configuration: a running one becomes transient, one that is off is gone.

    Raises NoSuchDomain, and DomainStateError when a managed save image or snapshots would be lost.
    """
    check_flags(flags, int(UndefineFlags.MANAGED_SAVE | UndefineFlags.SNAPSHOTS_METADATA), "testDomainUndefineFlags")
    guest = host.guest(dom)
    record = guest.record
    if record.managed_save and not flags & UndefineFlags.MANAGED_SAVE:
        raise DomainStateError("Refusing to undefine while domain managed save image exists")
    if record.snapshots and not guest.is_active and not flags & UndefineFlags.SNAPSHOTS_METADATA:
        raise DomainStateError(f"cannot delete inactive domain with {len(record.snapshots)} snapshots")
    draft = guest.draft()
    draft.forget_config()
    await host.commit(draft, [Told.lifecycle(Event.UNDEFINED, Undefined.REMOVED)])


@calls.handles()
async def domain_rename(host: TestHost, dom: DomainRef, new_name: str | None, flags: int) -> int:
    """Gives a guest that is off another name.

    Raises NoSuchDomain, XmlError for a name that cannot be, DomainStateError when it is active or the name taken.
    """
    check_flags(flags, 0, "testDomainRename")
    if not new_name:
        raise _bad_argument("string new_name in virDomainRename must not be empty")
    world = host.world
    async with (
        host.runtime.mailbox(("name", new_name)).change(),
        host.runtime.mailbox(("domain", dom.uuid)).change(),
    ):
        guest = host.guest(dom)
        if guest.is_active:
            raise DomainStateError("cannot rename active domain")
        if "/" in new_name:
            raise XmlError(f"name {new_name} cannot contain '/'")
        if guest.name == new_name:
            raise DomainStateError("Can't rename domain to itself", domain=ErrorDomain.DOMAIN)
        if world.find(new_name) is not None:
            raise DomainStateError(f"domain with name '{new_name}' already exists", domain=ErrorDomain.DOMAIN)
        draft = guest.draft()
        draft.config.name = new_name
        told = [
            Told.lifecycle(Event.UNDEFINED, Undefined.RENAMED, guest.name),
            Told.lifecycle(Event.DEFINED, Defined.RENAMED),
        ]
        await host.commit(draft, told, result=0)
    return 0


@calls.handles()
def domain_get_xml_desc(host: TestHost, dom: DomainRef, flags: int) -> str:
    """A guest's definition. Raises NoSuchDomain."""
    check_flags(flags, _XML_FLAGS, "testDomainGetXMLDesc")
    guest = host.guest(dom)
    inactive = bool(flags & XmlFlags.INACTIVE) and guest.is_persistent
    definition = guest.config if inactive or not guest.is_active else guest.live
    return rules.describe(definition, flags, guest.record.id)


@calls.handles(key="dom")
async def domain_set_autostart(host: TestHost, dom: DomainRef, autostart: int) -> None:
    """Whether a guest is to start with the host. Raises NoSuchDomain."""
    guest = host.guest(dom)
    if guest.record.autostart != bool(autostart):
        draft = guest.draft()
        draft.set(autostart=bool(autostart))
        await host.commit(draft)


@calls.handles(key="dom")
async def domain_set_lifecycle_action(host: TestHost, dom: DomainRef, type: int, action: int, flags: int) -> None:
    """What follows when a guest powers off, reboots or crashes.

    Raises NoSuchDomain, InvalidArguments and ConfigUnsupported for what cannot be asked, DomainStateError.
    """
    check_flags(flags, _AFFECT, "testDomainSetLifecycleAction")
    event = find_member(DomainLifecycle, type)
    if event is None:
        raise InvalidArguments(f"invalid lifecycle type '{type}'")
    what = find_member(DomainLifecycleAction, action)
    if what is None:
        raise InvalidArguments(f"invalid lifecycle action '{action}'")
    rules.check_lifecycle_action(event, what)
    draft = host.guest(dom).draft()
    for definition in draft.definitions(flags):
        rules.set_lifecycle_action(definition, event, what)
    await host.commit(draft)


def find_or_make(world: World, definition: Domain) -> Guest:
    """The guest that a definition means, or a new one, which is not in the world yet. Raises DomainExists."""
    guest = world.guests.get(definition.uuid.bytes)
    if guest is not None:
        if guest.name != definition.name:
            raise DomainExists(
                f"domain '{guest.name}' is already defined with uuid {definition.uuid}", domain=ErrorDomain.DOMAIN
            )
        return guest
    taken = world.find(definition.name)
    if taken is not None:
        raise DomainExists(
            f"domain '{taken.name}' already exists with uuid {uuid_text(taken.uuid)}", domain=ErrorDomain.DOMAIN
        )
    record = DomainRecord(uuid=str(definition.uuid), name=definition.name, facts=rules.facts_of(definition))
    return Guest(world.scope, record)


def _bad_argument(message: str) -> InvalidArguments:
    error = InvalidArguments(message)
    error.message = message
    return error
