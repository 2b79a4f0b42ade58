"""What guests do when they power off, reboot or crash, changed while they run."""

from __future__ import annotations

from typing import Final

from actors.qemu.flags import AFFECT, check_flags, impact
from actors.qemu.host import QemuHost
from actors.qemu.live import reboot_command
from actors.qemu.tuning.draft import Draft
from actors.runtime.calls import Calls
from conf.domain.clock import LifecycleAction
from schema.enums.domain import DomainLifecycle as Occasion
from schema.enums.domain import DomainLifecycleAction as Number
from schema.errors import ConfigUnsupported, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_ACTIONS: Final = {
    Number.DESTROY: LifecycleAction.DESTROY,
    Number.RESTART: LifecycleAction.RESTART,
    Number.RESTART_RENAME: LifecycleAction.RENAME_RESTART,
    Number.PRESERVE: LifecycleAction.PRESERVE,
    Number.COREDUMP_DESTROY: LifecycleAction.COREDUMP_DESTROY,
    Number.COREDUMP_RESTART: LifecycleAction.COREDUMP_RESTART,
}
_FIELDS: Final = {Occasion.POWEROFF: "on_poweroff", Occasion.REBOOT: "on_reboot", Occasion.CRASH: "on_crash"}


@calls.handles(key="dom")
async def domain_set_lifecycle_action(host: QemuHost, dom: DomainRef, type: int, action: int, flags: int) -> None:
    """Says what a guest does on an occasion.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, ConfigUnsupported for what this driver cannot do then.
    """
    check_flags(flags, AFFECT, "qemuDomainSetLifecycleAction")
    guest = host.guest(dom)
    if type not in _FIELDS or action not in _ACTIONS:
        raise InvalidArguments("unknown lifecycle type or action")
    wanted = _ACTIONS[Number(action)]
    draft = Draft(guest, impact(guest, flags))
    if wanted is LifecycleAction.RENAME_RESTART:
        raise ConfigUnsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
        )
    if type != Occasion.CRASH and wanted in (LifecycleAction.COREDUMP_DESTROY, LifecycleAction.COREDUMP_RESTART):
        occasion = Occasion(type).name.lower()
        raise ConfigUnsupported(f"Lifecycle event '{occasion}' doesn't support '{wanted.value}' action")
    if type != Occasion.CRASH and wanted not in (LifecycleAction.DESTROY, LifecycleAction.RESTART):
        raise ConfigUnsupported(
            f"qemu driver doesn't support the '{wanted.value}' action for 'on_reboot'/'on_poweroff'"
        )
    if type == Occasion.REBOOT and guest.is_active and draft.live is not None:
        caps = await host.emulator_for(None, guest.need_run().emulator)
        if caps.has("set-action"):
            name, arguments = reboot_command(wanted)
            await guest.ask(name, dict(arguments or {}))
    for definition in draft.definitions:
        setattr(definition, _FIELDS[Occasion(type)], wanted)
    await draft.commit(host)
