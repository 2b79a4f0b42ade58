"""Displays for clients that bring the connection themselves: a socket is handed to QEMU, which serves it at once."""

from __future__ import annotations

import contextlib
from typing import Final

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import CommandRefused, MonitorGone
from actors.runtime.calls import Calls
from actors.runtime.files import call_file
from conf.domain.graphics import GraphicsType
from schema.enums.domain import DomainOpenGraphicsFlags
from schema.errors import HypervisorGone, InternalError
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_FD_NAME: Final = "graphicsfd"
_KINDS: Final = (GraphicsType.VNC, GraphicsType.SPICE)


@calls.handles(key="dom")
async def domain_open_graphics(host: QemuHost, dom: DomainRef, idx: int, flags: int) -> None:
    """Serves a display on the client's socket.

    Raises NoSuchDomain, DomainStateError when the guest is off, InternalError without a socket or such a display and
    with QEMU's reason when it refuses.
    """
    check_flags(flags, int(DomainOpenGraphicsFlags.SKIPAUTH), "qemuDomainOpenGraphics")
    await _open(host.guest(dom), idx, flags)


@calls.handles(key="dom")
async def domain_open_graphics_fd(host: QemuHost, dom: DomainRef, idx: int, flags: int) -> None:
    """Serves a display on one end of a connection whose other end the client gets. Raises as the other call does."""
    check_flags(flags, int(DomainOpenGraphicsFlags.SKIPAUTH), "qemuDomainOpenGraphicsFD")
    await _open(host.guest(dom), idx, flags)


async def _open(guest: Guest, index: int, flags: int) -> None:
    guest.need_run()
    displays = guest.live.devices.graphics
    if index >= len(displays):
        raise InternalError(f"No graphics backend with index {index}")
    kind = displays[index].type
    if kind not in _KINDS:
        raise InternalError(f"Can only open VNC or SPICE graphics backends, not {kind.value}")
    async with call_file() as fds:
        monitor = guest.need_monitor()
        try:
            await monitor.hand_over(_FD_NAME, fds[0])
            try:
                await monitor.execute(
                    "add_client",
                    {
                        "protocol": kind.value,
                        "fdname": _FD_NAME,
                        "skipauth": bool(flags & DomainOpenGraphicsFlags.SKIPAUTH),
                    },
                )
            except CommandRefused:
                with contextlib.suppress(CommandRefused):
                    await monitor.execute("closefd", {"fdname": _FD_NAME})
                raise
        except CommandRefused as exc:
            raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
        except MonitorGone as exc:
            raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
