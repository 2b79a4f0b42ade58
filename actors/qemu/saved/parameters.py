"""Saving and restoring with parameters: the newer form of the same calls."""

from __future__ import annotations

from typing import Final

from actors.qemu import saving
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.tuning.parameters import read_parameters
from actors.runtime.calls import Calls
from schema.enums.domain import DomainSaveRestoreFlags as SaveFlags
from schema.errors import InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_FILE: Final = "file"
_XML: Final = "dxml"
_KNOWN: Final = {_FILE: "string", _XML: "string"}
_SAVE: Final = int(SaveFlags.BYPASS_CACHE | SaveFlags.RUNNING | SaveFlags.PAUSED)
_RESTORE: Final = _SAVE | int(SaveFlags.RESET_NVRAM)


@calls.handles(key="dom")
async def domain_save_params(host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Writes a guest's memory to a file and ends it; without a file it is put to sleep.

    Raises as the calls do that have no parameters.
    """
    check_flags(flags, _SAVE, "qemuDomainSaveParams")
    given = read_parameters(params, _KNOWN)
    path, xml = given.get(_FILE), given.get(_XML)
    if path is not None:
        await saving.domain_save_flags(host, dom, path, xml, flags)
        return
    if xml is not None:
        raise InvalidArguments("xml modification of a managed save is not supported")
    await saving.domain_managed_save(host, dom, flags)


@calls.handles()
async def domain_restore_params(host: QemuHost, params: list[TypedParam], flags: int) -> None:
    """Starts a guest from a file that holds its memory. Raises as the call does that has no parameters."""
    check_flags(flags, _RESTORE, "qemuDomainRestoreInternal")
    given = read_parameters(params, _KNOWN)
    path = given.get(_FILE)
    if path is None:
        raise InvalidArguments("missing path to restore from")
    await saving.domain_restore_flags(host, path, given.get(_XML), flags)
