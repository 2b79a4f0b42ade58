"""The list of devices of a running guest's control group, kept to what the guest has."""

from __future__ import annotations

import os
from collections.abc import Iterable

from actors.qemu.confining.allowed import device_rules
from actors.qemu.confining.devices import Node, nodes_of_guest
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.tuning.access import groups_of


def lists_devices(host: QemuHost) -> bool:
    """Whether guests are kept to their devices by control groups."""
    return host.config.qemu.cgroup_devices and os.geteuid() == 0


async def allow_nodes(host: QemuHost, guest: Guest, more: Iterable[Node] = ()) -> None:
    """The guest may open its devices and these; those that it does not have any more it may not.

    Raises HostSystemError when the kernel refuses, DomainStateError without such a controller, and as `Guest.ask` does.
    """
    if lists_devices(host):
        rules = device_rules([*nodes_of_guest(guest.live, None), *more])
        groups = await groups_of(host, guest)
        await host.runtime.in_thread(groups.restrict_devices, rules)
