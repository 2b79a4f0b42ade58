"""The first step of a migration: whether a guest can go, and what the other side is told of it."""

from __future__ import annotations

from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import check_tpm_can_leave
from actors.qemu.host import QemuHost
from actors.qemu.live_processor import as_asked
from actors.qemu.migration.checks import (
    KNOWN_FLAGS,
    check_addresses,
    check_can_leave,
    check_flags_together,
    check_is_safe,
    check_qemu_lets_go,
)
from actors.qemu.migration.cookie import nbd_part, our_cookie, write_cookie
from actors.qemu.migration.leaving import keep
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.postcopy import (
    check_resumable,
)
from actors.qemu.migration.settings import check_settings
from actors.qemu.migration.storage import capacities
from actors.qemu.migration.tls import check_is_encrypted
from actors.qemu.rules import QemuRules
from conf.domain.compat import check_compatible
from conf.domain.documents import parse_domain, write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import ConfigUnsupported, DomainStateError, InvalidArguments


async def begin(host: QemuHost, guest: Guest, params: MigrationParameters, flags: int) -> tuple[bytes, str]:
    """The first step: whether the guest can go, and the definition that the other side starts it with.

    Raises DomainStateError, InvalidArguments, ArgumentUnsupported, MigrateUnsafe, ConfigUnsupported for a definition of
    the caller's that the guest would not recognise itself in.
    """
    if flags & Flags.POSTCOPY_RESUME:
        check_flags_together(flags)
        check_resumable(guest, "out")
        return write_cookie(our_cookie(host, guest)), await _definition_for(host, as_asked(guest), params)
    check_begin(guest, params, flags)
    if guest.is_active and not flags & Flags.OFFLINE:
        await check_qemu_lets_go(guest)
    check_is_encrypted(host, flags)
    definition = guest.config if flags & Flags.OFFLINE and not guest.is_active else as_asked(guest)
    check_tpm_can_leave(host, definition)
    xml = await _definition_for(host, definition, params)
    cookie = our_cookie(host, guest)
    if flags & Flags.PERSIST_DEST and guest.is_persistent:
        cookie.persistent = await _persistent_for(host, guest, params)
    if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC) and guest.is_active:
        cookie.nbd = nbd_part(None, await capacities(guest, params, flags))
    if flags & Flags.CHANGE_PROTECTION:
        await keep(host, guest)
    return write_cookie(cookie), xml


def check_begin(guest: Guest, params: MigrationParameters, flags: int) -> None:
    """Raises as `begin` does."""
    if unknown := flags & ~KNOWN_FLAGS:
        raise InvalidArguments(f"unsupported flags (0x{unknown:x}) in function qemuDomainMigrateBegin3Params")
    check_flags_together(flags)
    check_addresses(params, flags)
    check_settings(params, flags)
    if not guest.is_active:
        if not flags & Flags.OFFLINE:
            raise DomainStateError("domain is not running")
    elif flags & Flags.OFFLINE:
        flags &= ~Flags.OFFLINE
    if flags & Flags.UNDEFINE_SOURCE and flags & Flags.OFFLINE and not guest.is_persistent:
        raise DomainStateError("cannot undefine transient domain")
    definition = guest.live if guest.is_active else guest.config
    check_can_leave(guest, definition, flags)
    check_is_safe(definition, params, flags)
    known = {disk.target.dev for disk in definition.devices.disks}
    for name in params.disks:
        if name not in known:
            raise InvalidArguments(f"disk {name} not found")


async def _rules(host: QemuHost, definition: Domain) -> QemuRules:
    return host.rules(await host.emulator_for(definition.os.kind.arch, definition.devices.emulator))


async def _definition_for(host: QemuHost, definition: Domain, params: MigrationParameters) -> str:
    target = definition
    if params.dest_xml is not None:
        rules = await _rules(host, definition)
        target = parse_domain(params.dest_xml, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
        check_compatible(definition, target, with_current_memory=False)
        if target.name != definition.name:
            raise ConfigUnsupported(f"Target domain name '{target.name}' does not match source '{definition.name}'")
    return write_domain(target, XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.MIGRATABLE)


async def _persistent_for(host: QemuHost, guest: Guest, params: MigrationParameters) -> Domain:
    config = guest.config
    if params.persist_xml is not None:
        rules = await _rules(host, config)
        target = parse_domain(params.persist_xml, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
        check_compatible(config, target, with_current_memory=False)
        config = target
    return config
