"""Small answers about guests: their labels, messages and jobs, and QEMU's own monitor for those who know it."""

from __future__ import annotations

import os
from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_HMP: Final = 1


@calls.handles()
def domain_get_security_label(host: QemuHost, dom: DomainRef) -> dict[str, Any]:
    """There is no security driver yet, so no guest has a label. Raises NoSuchDomain."""
    host.guest(dom)
    return {"label": b"\0", "enforcing": 0}


@calls.handles()
def domain_get_messages(host: QemuHost, dom: DomainRef, flags: int) -> list[str]:
    """What is unusual about a running guest. Raises NoSuchDomain."""
    check_flags(flags, 3, "qemuDomainGetMessages")
    guest = host.guest(dom)
    found = []
    if guest.run is not None:
        if guest.live.qemu_commandline is not None:
            found.append("tainted: use of custom QEMU command line arguments")
        if guest.run.commanded:
            found.append("tainted: custom monitor control commands issued")
        if os.geteuid() == 0 and not host.config.qemu.user:
            found.append("tainted: running with undesirable elevated privileges")
        cpu = guest.live.cpu
        if cpu is not None and cpu.mode is not None and cpu.mode.value == "host-passthrough":
            found.append("tainted: use of host cpu passthrough")
    return found
