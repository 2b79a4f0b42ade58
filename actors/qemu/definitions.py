"""Guests come to be, are described and forgotten."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.qemu import records, states
from actors.qemu.capabilities.store import host_arch
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import check_flags_agree, config_of, drop_tpm, settle_nvram
from actors.qemu.host import QemuHost
from actors.qemu.live_processor import as_asked
from actors.qemu.migration.compatible import without_implied
from actors.qemu.moments.keeping import forget_moments
from actors.qemu.records import Record
from actors.qemu.traces import CHANNELS
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.domain.documents import parse_domain, write_domain
from conf.domain.domain import Domain, VirtType
from conf.domain.os import ARCHITECTURES
from conf.flags import ParseFlags
from conf.flags import XmlFlags as WriteFlags
from schema.enums.domain import DomainDefineFlags as DefineFlags
from schema.enums.domain import DomainUndefineFlags as UndefineFlags
from schema.enums.domain import DomainXMLFlags as XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_event import DomainEventUndefinedDetailType as Undefined
from schema.errors import ConfigUnsupported, DomainExists, DomainStateError, InvalidArguments, XmlError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_XML_FLAGS: Final = int(XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.UPDATE_CPU | XmlFlags.MIGRATABLE)
_UNDEFINE_FLAGS: Final = int(
    UndefineFlags.MANAGED_SAVE
    | UndefineFlags.SNAPSHOTS_METADATA
    | UndefineFlags.CHECKPOINTS_METADATA
    | UndefineFlags.NVRAM
    | UndefineFlags.KEEP_NVRAM
    | UndefineFlags.TPM
    | UndefineFlags.KEEP_TPM
)


async def read_definition(host: QemuHost, xml: str, *, validate: bool = False, ran: bool = False) -> Domain:
    """The definition that a caller sent, complete and checked by the rules of its emulator, and the schema if asked.

    One that `ran` is a running guest's as some driver wrote it: it says more than a caller may, and is not checked.

    Raises XmlError, XmlInvalidSchema and ConfigUnsupported for a document that cannot be used.
    """
    arch, emulator = emulator_named_in(xml)
    caps = await host.emulator_for(arch, emulator)
    flags = ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE
    if ran:
        flags |= ParseFlags.SKIP_VALIDATE
    definition = parse_domain(xml, host.rules(caps), flags | ParseFlags.VALIDATE if validate else flags)
    if definition.type is VirtType.KVM and not caps.kvm and not ran and names_no_machine(xml):
        raise InvalidArguments(f"could not get preferred machine for {caps.emulator} type=kvm")
    return definition


def emulator_named_in(xml: str) -> tuple[str, str | None]:
    """The architecture and emulator that a document names. Raises XmlError when it is none."""
    node = parse_document(xml, name="domain_definition", root="domain")
    kind = node.find("./os/type")
    arch = kind.get("arch") if kind is not None else None
    emulator = node.findtext("./devices/emulator")
    if arch and arch not in ARCHITECTURES:
        raise ConfigUnsupported(f"Unknown architecture {arch}")
    return arch or host_arch(), emulator.strip() if emulator and emulator.strip() else None


def names_no_machine(xml: str) -> bool:
    """Whether a document leaves the machine to the emulator. Raises XmlError when it is none."""
    kind = parse_document(xml, name="domain_definition", root="domain").find("./os/type")
    return kind is None or kind.get("machine") is None


def find_or_make(host: QemuHost, definition: Domain) -> Guest:
    """The guest that a definition means, or a new one, which nobody knows yet. Raises DomainExists."""
    guest = host.guests.get(definition.uuid.bytes)
    if guest is not None:
        if guest.name != definition.name:
            raise DomainExists(f"domain '{guest.name}' is already defined with uuid {definition.uuid}")
        return guest
    taken = host.names.get(definition.name)
    if taken is not None:
        raise DomainExists(f"domain '{taken.name}' already exists with uuid {taken.record.uuid}")
    record = Record(uuid=str(definition.uuid), name=definition.name, facts=records.facts_of(definition))
    return Guest(record, host.scope)


@calls.handles()
async def domain_define_xml_flags(host: QemuHost, xml: str, flags: int) -> DomainRef:
    """Makes a guest persistent with this definition, which a running one takes up at its next start.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, DomainExists when name and uuid belong to
    different guests.
    """
    check_flags(flags, int(DefineFlags.VALIDATE), "qemuDomainDefineXMLFlags")
    config = await read_definition(host, xml, validate=bool(flags & DefineFlags.VALIDATE))
    async with (
        host.runtime.mailbox(("name", config.name)).change(),
        host.runtime.mailbox(("domain", config.uuid.bytes)).change(),
    ):
        guest = find_or_make(host, config)
        detail = Defined.UPDATED if guest.is_persistent else Defined.ADDED
        text = write_domain(config, WriteFlags.INACTIVE | WriteFlags.SECURE)
        record = msgspec.structs.replace(guest.record, xml=text, facts=records.facts_of(config))
        await host.write(guest, record, result=guest.ref, config=config)
        host.add(guest)
        host.publish(guest, [states.lifecycle(guest, Event.DEFINED, detail)])
    return guest.ref


@calls.handles(key="dom")
async def domain_undefine_flags(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Forgets a guest's definition: a running one becomes transient, one that is off is gone.

    Raises NoSuchDomain, DomainStateError for a transient guest, and when a managed save image or snapshots would be
    lost.
    """
    check_flags(flags, _UNDEFINE_FLAGS, "qemuDomainUndefineFlags")
    check_flags_agree(flags)
    guest = host.guest(dom)
    if not guest.is_persistent:
        raise DomainStateError("cannot undefine transient domain")
    if guest.record.managed_save:
        if not flags & UndefineFlags.MANAGED_SAVE:
            raise DomainStateError("Refusing to undefine while domain managed save image exists")
        host.managed_save_path(guest).unlink(missing_ok=True)
    if not guest.is_active:
        _check_moments(guest, flags)
    settle_nvram(host, guest, flags)
    if not guest.is_active:
        await forget_moments(host, guest)
    told = [states.lifecycle(guest, Event.UNDEFINED, Undefined.REMOVED)]
    record = msgspec.structs.replace(guest.record, xml=None, autostart=False, managed_save=False)
    if guest.is_active:
        await host.write(guest, record)
        host.publish(guest, told)
        return
    config = config_of(guest)
    await host.store.remove(records.path_of(record.uuid))
    drop_tpm(host, record.uuid, config, flags)
    host.forget(guest)
    host.objects.drop("domain", guest.key, events=told, scope=host.scope)


def _check_moments(guest: Guest, flags: int) -> None:
    moments = guest.moments
    for what, known, flag in (
        ("snapshots", moments.snapshots, UndefineFlags.SNAPSHOTS_METADATA),
        ("checkpoints", moments.checkpoints, UndefineFlags.CHECKPOINTS_METADATA),
    ):
        if known and not flags & flag:
            raise DomainStateError(f"cannot delete inactive domain with {len(known)} {what}")


@calls.handles()
def domain_get_xml_desc(host: QemuHost, dom: DomainRef, flags: int) -> str:
    """A guest's definition. Raises NoSuchDomain."""
    check_flags(flags, _XML_FLAGS, "qemuDomainGetXMLDesc")
    guest = host.guest(dom)
    kept = WriteFlags(flags & (WriteFlags.SECURE | WriteFlags.MIGRATABLE | WriteFlags.UPDATE_CPU))
    if flags & XmlFlags.MIGRATABLE:
        kept |= WriteFlags.SECURE
    channels = host.run_folder / CHANNELS
    if guest.is_active and not (flags & XmlFlags.INACTIVE and guest.is_persistent):
        if flags & XmlFlags.MIGRATABLE:
            return write_domain(without_implied(as_asked(guest), channels), kept | WriteFlags.INACTIVE)
        if flags & XmlFlags.INACTIVE:
            return write_domain(guest.live, kept | WriteFlags.INACTIVE)
        return write_domain(guest.live, kept, id=guest.id)
    config = without_implied(guest.config, channels) if flags & XmlFlags.MIGRATABLE else guest.config
    return write_domain(config, kept | WriteFlags.INACTIVE)


@calls.handles(key="dom")
async def domain_set_autostart(host: QemuHost, dom: DomainRef, autostart: int) -> None:
    """Whether a guest is to start with the agent. Raises NoSuchDomain, DomainStateError for a transient guest."""
    guest = host.guest(dom)
    if not guest.is_persistent:
        raise DomainStateError("cannot set autostart for transient domain")
    if guest.record.autostart != bool(autostart):
        await host.write(guest, msgspec.structs.replace(guest.record, autostart=bool(autostart)))
        host.publish(guest)


@calls.handles()
async def domain_rename(host: QemuHost, dom: DomainRef, new_name: str | None, flags: int) -> int:
    """Gives a guest that is off another name.

    Raises NoSuchDomain, DomainStateError when the guest is active or transient, DomainExists when the name is taken.
    """
    check_flags(flags, 0, "qemuDomainRename")
    wanted = new_name or ""
    async with (
        host.runtime.mailbox(("name", wanted)).change(),
        host.runtime.mailbox(("domain", dom.uuid)).change(),
    ):
        guest = host.guest(dom)
        if not wanted or "/" in wanted:
            raise XmlError(f"name {wanted} cannot contain '/'" if wanted else "the new name must not be empty")
        if guest.is_active:
            raise DomainStateError("cannot rename active domain")
        if not guest.is_persistent:
            raise DomainStateError("cannot rename a transient domain")
        if guest.record.managed_save:
            raise DomainStateError("domain with a managed saved state can't be renamed")
        if guest.name == wanted:
            raise DomainStateError("Can't rename domain to itself")
        if wanted in host.names:
            raise DomainStateError(f"domain with name '{wanted}' already exists")
        old = guest.ref
        config = guest.config.copy()
        config.name = wanted
        text = write_domain(config, WriteFlags.INACTIVE | WriteFlags.SECURE)
        record = msgspec.structs.replace(guest.record, name=wanted, xml=text)
        await host.write(guest, record, result=0, config=config)
        host.names.pop(old.name, None)
        host.add(guest)
        undefined = {"dom": old, "event": int(Event.UNDEFINED), "detail": int(Undefined.RENAMED)}
        told = [
            ("domain_event_lifecycle", undefined),
            states.lifecycle(guest, Event.DEFINED, Defined.RENAMED),
        ]
        host.publish(guest, told)
    return 0
