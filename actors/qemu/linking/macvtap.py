"""Host ends of guests' interfaces that sit on a link of the host: macvtap devices.

Such a device stays until somebody removes it. Its name is written into the running guest's folder before it is made, so
that it goes with the guest, or with the folder of a guest that never came to run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from actors.qemu.linking.netlink import make_macvtap, remove_macvtap
from conf.domain.domain import Domain
from conf.domain.interface import DirectMode, DirectSource, Interface, InterfaceTarget, InterfaceType
from schema.errors import ConfigUnsupported, HostSystemError

_LIST: Final = "links"
_GENERATED: Final = ("macvtap", "macvlan", "vnet", "vif")
_MOST: Final = 8192
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
_NODE_TRIES: Final = 50
_NODE_WAIT_S: Final = 0.01


def open_macvtap(folder: Path, interface: Interface, *, queues: int, vnet_header: bool) -> list[int]:
    """Makes the host end of an interface, which then names it; a descriptor per queue.

    Nothing is left when this fails. Raises ConfigUnsupported, HostSystemError.
    """
    source = interface.source
    if not isinstance(source, DirectSource) or source.dev is None:
        raise ConfigUnsupported("an interface of type 'direct' needs a device of the host")
    if interface.virtualport is not None:
        raise ConfigUnsupported("an interface of type 'direct' cannot have a <virtualport> here")
    wanted = interface.target.dev if interface.target is not None else None
    if wanted is not None and wanted.startswith(_GENERATED):
        wanted = None
    mac = interface.mac.address if interface.mac is not None else None
    mode = source.mode or DirectMode.VEPA
    name, index = _make(folder, wanted, source.dev, mode, mac, interface.mtu, queues)
    try:
        descriptors = open_device(index, queues=queues, vnet_header=vnet_header)
    except HostSystemError:
        drop_links(folder, [name])
        raise
    if interface.target is None:
        interface.target = InterfaceTarget()
    interface.target.dev = name
    return descriptors


def open_device(index: int, *, queues: int, vnet_header: bool) -> list[int]:
    """A descriptor for each queue of a macvtap device. Raises HostSystemError."""
    descriptors: list[int] = []
    try:
        for _ in range(queues):
            descriptors.append(_open(index))
            _set_up(descriptors[-1], many=queues > 1, vnet_header=vnet_header)
    except OSError as exc:
        for descriptor in descriptors:
            os.close(descriptor)
        raise HostSystemError(exc.errno or 0, f"cannot open macvtap tap device /dev/tap{index}") from exc
    return descriptors


def _make(
    folder: Path, wanted: str | None, link: str, mode: DirectMode, mac: str | None, mtu: int | None, queues: int
) -> tuple[str, int]:
    for number in range(1 if wanted is not None else _MOST):
        name = wanted or f"macvtap{number}"
        if wanted is None and Path(f"/proc/sys/net/ipv4/conf/{name}").exists():
            continue
        _note(folder, [*listed(folder), name])
        try:
            return name, make_macvtap(name, link, mode, mac=mac, mtu=mtu, queues=queues)
        except OSError as exc:
            _note(folder, [one for one in listed(folder) if one != name])
            if exc.errno == errno.EEXIST and wanted is None:
                continue
            if exc.errno == errno.EBUSY:
                what = f"error creating macvtap interface {name}@{link}: the link is used in another way"
            else:
                what = f"error creating macvtap interface {name}@{link}"
            raise HostSystemError(exc.errno or 0, what) from exc
    raise HostSystemError(errno.ENFILE, "no unused macvtap names available")


def _open(index: int) -> int:
    path = f"/dev/tap{index}"
    for _ in range(_NODE_TRIES):
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # its node is made by somebody else, who takes a moment
            time.sleep(_NODE_WAIT_S)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _set_up(descriptor: int, *, many: bool, vnet_header: bool) -> None:
    flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_header else 0) | (_IFF_MULTI_QUEUE if many else 0)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"", flags))


# --- which there are -------------------------------------------------------------------------------------------------


def listed(folder: Path) -> list[str]:
    """The devices of a guest's folder, those included that are about to be made."""
    try:
        return (folder / _LIST).read_text(encoding="utf-8").split()
    except OSError:
        return []


def _note(folder: Path, names: Iterable[str]) -> None:
    path = folder / _LIST
    new = folder / f"{_LIST}.new"
    try:
        new.write_text("\n".join(names), encoding="utf-8")
        new.replace(path)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot write '{path}'") from exc


def drop_links(folder: Path, names: Iterable[str] | None = None) -> None:
    """Removes devices of a guest's folder, all by default; what cannot be removed stays listed. Never raises."""
    known = listed(folder)
    if not known:
        return
    gone = set(known if names is None else names)
    for name in list(gone):
        try:
            remove_macvtap(name)
        except OSError:
            gone.discard(name)
    with contextlib.suppress(HostSystemError):
        _note(folder, [one for one in known if one not in gone])


def keep_links(folder: Path, domain: Domain) -> None:
    """Removes the devices that no interface of the running definition has. Never raises."""
    known = listed(folder)
    if known:
        used = {
            one.target.dev
            for one in domain.devices.interfaces
            if one.type is InterfaceType.DIRECT and one.target is not None
        }
        drop_links(folder, [name for name in known if name not in used])
