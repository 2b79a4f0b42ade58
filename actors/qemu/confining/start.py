"""What the thread that starts a guest does to itself first, so that the guest inherits it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from actors.qemu.confining.devices import make_private_devices, nodes_of_guest
from actors.qemu.confining.kernel import drop_rights
from actors.qemu.owning.identity import Identity
from conf.domain.domain import Domain
from schema.errors import HostSystemError
from settings.qemu import QemuSettings

_MOUNTS = "mount"


def wants_private_devices(settings: QemuSettings) -> bool:
    """Guests have a `/dev` of their own."""
    return _MOUNTS in settings.namespaces and os.geteuid() == 0


def confinement(
    settings: QemuSettings, live: Domain, folder: Path, identity: Identity | None
) -> Callable[[], None] | None:
    """What is done in the thread that starts a guest; None: nothing. It raises HostSystemError."""
    is_other = identity is not None and identity.process.uid != 0
    is_private = wants_private_devices(settings)
    if not is_other and not is_private:
        return None
    nodes = nodes_of_guest(live, None if identity is None else identity.files) if is_private else []

    def confine() -> None:
        try:
            if is_private:
                make_private_devices(folder / "dev", nodes)
            if is_other:
                drop_rights()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, "cannot confine the guest's process") from exc

    return confine
