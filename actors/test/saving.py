"""Guests that are saved to a file and come back: save, managed save, restore, and core dumps."""

from __future__ import annotations

import errno
from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules, states
from actors.test.definitions import find_or_make
from actors.test.flags import check_flags, check_one_of
from actors.test.host import TestHost, Told
from actors.test.image import read_image, write_core, write_image
from schema.enums.domain import DomainCoreDumpFlags as DumpFlags
from schema.enums.domain import DomainCoreDumpFormat as DumpFormat
from schema.enums.domain import DomainSaveImageXMLFlags as ImageFlags
from schema.enums.domain import DomainSaveRestoreFlags as SaveFlags
from schema.errors import ArgumentUnsupported, DomainStateError, ErrorDomain, HostSystemError, OperationUnsupported
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()

_SAVE_FLAGS: Final = int(SaveFlags.BYPASS_CACHE | SaveFlags.RUNNING | SaveFlags.PAUSED)
_RUNNING: Final = (int(SaveFlags.RUNNING), "VIR_DOMAIN_SAVE_RUNNING")
_PAUSED: Final = (int(SaveFlags.PAUSED), "VIR_DOMAIN_SAVE_PAUSED")


@calls.handles(key="dom")
async def domain_save_flags(host: TestHost, dom: DomainRef, to: str, dxml: str | None, flags: int) -> None:
    """Saves a guest to a file and ends it. If the file cannot be written the guest runs on.

    Raises NoSuchDomain, DomainStateError, HostSystemError, and ArgumentUnsupported for another definition.
    """
    check_flags(flags, 0, "testDomainSaveFlags")
    if dxml is not None:
        raise ArgumentUnsupported("xml modification unsupported")
    guest = host.guest(dom)
    guest.check_active()
    definition = rules.write_live(guest.live, guest.record.id)
    try:
        await host.runtime.in_thread(write_image, to, definition)
    except OSError as exc:
        raise HostSystemError(exc.errno or errno.EIO, f"saving domain '{guest.name}' to '{to}': open failed") from exc
    draft = guest.draft()
    draft.move(states.SAVE)
    await host.commit(draft, Told.of(states.SAVE))


@calls.handles()
async def domain_restore_flags(host: TestHost, from_: str, dxml: str | None, flags: int) -> None:
    """Starts the guest that a file holds.

    Raises HostSystemError and InternalError for a file that cannot be used, XmlError, DomainExists, DomainStateError
    when the guest is active, and ArgumentUnsupported for another definition.
    """
    check_flags(flags, 0, "testDomainRestoreFlags")
    if dxml is not None:
        raise ArgumentUnsupported("xml modification unsupported")
    live = rules.parse_definition(await host.runtime.in_thread(read_image, from_))
    world = host.world
    async with (
        host.runtime.mailbox(("name", live.name)).change(),
        host.runtime.mailbox(("domain", live.uuid.bytes)).change(),
    ):
        guest = find_or_make(world, live)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active", domain=ErrorDomain.DOMAIN)
        draft = guest.draft()
        draft.run(rules.started(live), world.next_id(), states.RESTORE)
        await host.commit(draft, Told.of(states.RESTORE))


@calls.handles(key="dom")
async def domain_managed_save(host: TestHost, dom: DomainRef, flags: int) -> None:
    """Saves a guest where its next start finds it. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, _SAVE_FLAGS, "testDomainManagedSave")
    check_one_of(flags, *_RUNNING, *_PAUSED)
    guest = host.guest(dom)
    guest.check_active()
    if not guest.is_persistent:
        raise DomainStateError("cannot do managed save for transient domain")
    draft = guest.draft()
    draft.set(managed_save=True)
    draft.move(states.SAVE)
    await host.commit(draft, Told.of(states.SAVE))


@calls.handles(key="dom")
async def domain_managed_save_remove(host: TestHost, dom: DomainRef, flags: int) -> None:
    """The next start is a boot. Raises NoSuchDomain."""
    check_flags(flags, 0, "testDomainManagedSaveRemove")
    guest = host.guest(dom)
    if guest.record.managed_save:
        draft = guest.draft()
        draft.set(managed_save=False)
        await host.commit(draft)


@calls.handles()
async def domain_save_image_get_xml_desc(host: TestHost, file: str, flags: int) -> str:
    """The definition in a saved guest's file.

    Raises HostSystemError and InternalError for a file that cannot be used, XmlError.
    """
    check_flags(flags, int(ImageFlags.SECURE), "testDomainSaveImageGetXMLDesc")
    definition = rules.parse_definition(await host.runtime.in_thread(read_image, file))
    return rules.describe(definition, flags, -1)


@calls.handles()
async def domain_save_image_define_xml(host: TestHost, file: str, dxml: str, flags: int) -> None:
    """Puts another definition into a saved guest's file.

    Raises HostSystemError and InternalError for a file that cannot be used, XmlError.
    """
    check_flags(flags, int(SaveFlags.RUNNING | SaveFlags.PAUSED), "testDomainSaveImageDefineXML")
    check_one_of(flags, *_RUNNING, *_PAUSED)
    await host.runtime.in_thread(read_image, file)
    definition = rules.parse_definition(dxml)
    try:
        await host.runtime.in_thread(write_image, file, rules.write_config(definition))
    except OSError as exc:
        raise HostSystemError(exc.errno or errno.EIO, f"cannot write domain image '{file}'") from exc


@calls.handles(key="dom")
async def domain_core_dump_with_format(host: TestHost, dom: DomainRef, to: str, dumpformat: int, flags: int) -> None:
    """Writes a guest's memory to a file, or what stands for it here; with CRASH the guest ends.

    Raises NoSuchDomain, DomainStateError, HostSystemError, OperationUnsupported for a format.
    """
    check_flags(flags, int(DumpFlags.CRASH), "testDomainCoreDumpWithFormat")
    guest = host.guest(dom)
    guest.check_active()
    try:
        await host.runtime.in_thread(write_core, to)
    except OSError as exc:
        raise HostSystemError(exc.errno or errno.EIO, f"domain '{guest.name}' coredump: failed to open {to}") from exc
    if dumpformat != DumpFormat.RAW:
        raise OperationUnsupported("kdump-compressed format is not supported here")
    if flags & DumpFlags.CRASH:
        draft = guest.draft()
        draft.move(states.CRASH)
        await host.commit(draft, Told.of(states.CRASH))
