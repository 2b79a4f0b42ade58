"""What outlives a guest's runs, and becomes nobody's when the guest is undefined: its firmware's variables, its TPM."""

from __future__ import annotations

from pathlib import Path

from actors.qemu.firmware import complete_nvram
from actors.qemu.guest import Guest
from actors.qemu.helpers.tpm import emulated_tpm, remove_state, state_folder
from actors.qemu.host import QemuHost
from actors.qemu.migration.checks import filesystem_of
from conf.domain.domain import Domain
from conf.domain.os import LoaderType, NvramStore
from schema.enums.domain import DomainUndefineFlags as UndefineFlags
from schema.errors import DomainStateError, HostSystemError, UnsupportedCall, VirtError


def check_flags_agree(flags: int) -> None:
    """Raises DomainStateError when the same thing is to be kept and removed."""
    if flags & UndefineFlags.NVRAM and flags & UndefineFlags.KEEP_NVRAM:
        raise DomainStateError("cannot both keep and delete nvram")
    if flags & UndefineFlags.TPM and flags & UndefineFlags.KEEP_TPM:
        raise DomainStateError("cannot both keep and delete TPM")


def nvram_of(host: QemuHost, config: Domain) -> Path | None:
    """The file with the firmware's variables of a guest; None when it has none on this host."""
    wanted = config
    if config.os.firmware == "efi" and (config.os.nvram is None or not config.os.nvram.path):
        # a guest that only wants a kind of firmware gets its variables at its first start, under its name
        wanted = config.copy()
        wanted.os.nvram = wanted.os.nvram or NvramStore()
        if wanted.os.nvram.source is None:
            return host.state_folder / "nvram" / f"{config.name}_VARS.fd"
        return None
    if wanted.os.loader is None or wanted.os.loader.type is not LoaderType.PFLASH or wanted.os.nvram is None:
        return None
    if not wanted.os.nvram.path:
        wanted = config.copy()
        complete_nvram(wanted, host.state_folder / "nvram")
    path = wanted.os.nvram.path if wanted.os.nvram is not None else None
    return Path(path) if path else None


def settle_nvram(host: QemuHost, guest: Guest, flags: int) -> None:
    """The firmware's variables go, or stay if that was said.

    Raises DomainStateError when nothing was said, HostSystemError.
    """
    try:
        path = nvram_of(host, guest.config)
    except VirtError:
        return  # a definition that cannot be read any more is forgotten all the same
    if path is None or not path.exists():
        return
    if flags & UndefineFlags.NVRAM:
        try:
            path.unlink()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"failed to remove nvram: {path}") from exc
    elif not flags & UndefineFlags.KEEP_NVRAM:
        raise DomainStateError("cannot undefine domain with nvram")


def config_of(guest: Guest) -> Domain | None:
    """The definition of a guest that is off; None where it has none, or it cannot be read any more."""
    if not guest.is_persistent:
        return None
    try:
        return guest.config
    except VirtError:
        return None


def check_tpm_can_leave(host: QemuHost, definition: Domain) -> None:
    """Raises UnsupportedCall when a guest's TPM cannot let go of what it keeps where another host sees it too."""
    tpm = emulated_tpm(definition)
    if tpm is None or "cmdarg-migration" in host.tpm_programs.emulates:
        return
    if _is_shared(host, str(definition.uuid)):
        raise UnsupportedCall("the running swtpm does not support migration with shared storage")


def _is_shared(host: QemuHost, uuid: str) -> bool:
    return filesystem_of(str(state_folder(host, uuid))) is not None


def drop_tpm_of_moved(host: QemuHost, uuid: str, definition: Domain | None) -> None:
    """As `drop_tpm`, of a guest that runs elsewhere now: what its TPM keeps there may be what lies here."""
    if not _is_shared(host, uuid):
        drop_tpm(host, uuid, definition)


def loses_tpm(host: QemuHost, guest: Guest, definition: Domain, *, arrives: bool) -> bool:
    """Whether what a guest's TPM keeps goes when its start fails: it does with a guest of which nothing is kept.

    One that arrives may have it where the other host has it too.
    """
    if guest.is_persistent or (arrives and _is_shared(host, guest.record.uuid)):
        return False
    tpm = emulated_tpm(definition)
    return tpm is not None and not tpm.backend.persistent_state


def drop_tpm(host: QemuHost, uuid: str, definition: Domain | None, flags: int = 0) -> None:
    """What the guest's TPM kept goes, unless it is persistent, or was to be kept. Never fails: it is told in the log.

    A guest without definition has no TPM.
    """
    tpm = emulated_tpm(definition) if definition is not None else None
    if tpm is None:
        return
    stays = not flags & UndefineFlags.TPM if tpm.backend.persistent_state else flags & UndefineFlags.KEEP_TPM
    if not stays:
        lose_tpm(host, uuid)


def lose_tpm(host: QemuHost, uuid: str) -> None:
    """What a guest's TPM kept goes. Never fails: it is told in the log."""
    try:
        remove_state(host, uuid)
    except HostSystemError as exc:
        host.log.warning("what a guest's TPM kept could not be removed", guest=uuid, error=exc.message)
