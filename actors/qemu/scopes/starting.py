"""The scope of a guest that is being started."""

from __future__ import annotations

from pathlib import Path

from actors.qemu.helpers.processes import pids_of_helpers
from actors.qemu.host import QemuHost
from actors.qemu.scopes.bus import NobodyThere
from actors.qemu.scopes.placing import are_wanted, place_guest
from conf.domain.domain import Domain
from schema.errors import HostSystemError


async def scope_for_start(host: QemuHost, live: Domain, number: int, pid: int, folder: Path) -> str:
    """Gives a new guest a scope where systemd runs the host; the path of its groups.

    Where that fails, for which the log has the reason, the guest runs nevertheless, and has groups of our making.
    """
    if not host.config.qemu.scopes or not are_wanted():
        return ""
    try:
        return await host.runtime.in_thread(place_guest, live, host.run_folder, number, pid, pids_of_helpers(folder))
    except NobodyThere as exc:
        host.log.warning("a guest has no scope: systemd cannot be asked", guest=live.name, error=str(exc))
    except HostSystemError as exc:
        host.log.warning("a guest has no scope", guest=live.name, error=exc.message)
    return ""
