"""Tap devices: the host ends of guests' network interfaces, made for a start and gone with the guest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_MULTI_QUEUE: Final = 0x0100
_SIOCGIFINDEX: Final = 0x8933
_SIOCBRADDIF: Final = 0x89A2
_SIOCBRDELIF: Final = 0x89A3
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_IFF_UP: Final = 0x1
_ARPHRD_ETHER: Final = 1
_NAME_MAX: Final = 15


def open_tap(name: str, *, queues: int = 1, vnet_header: bool = False) -> tuple[str, list[int]]:
    """Makes a tap device (`vnet%d`: the kernel chooses the number); gives its name and a descriptor per queue.

    It exists as long as one of the descriptors is open. Raises HostSystemError.
    """
    flags = _IFF_TAP | _IFF_NO_PI
    if vnet_header:
        flags |= _IFF_VNET_HDR
    if queues > 1:
        flags |= _IFF_MULTI_QUEUE
    descriptors: list[int] = []
    try:
        for _ in range(queues):
            descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
            descriptors.append(descriptor)
            request = struct.pack("16sH22x", name.encode()[:_NAME_MAX], flags)
            answer = fcntl.ioctl(descriptor, _TUNSETIFF, request)
            name = answer[:16].split(b"\0")[0].decode()
    except OSError as exc:
        for descriptor in descriptors:
            os.close(descriptor)
        raise HostSystemError(exc.errno or 0, f"Unable to create tap device {name}") from exc
    return name, descriptors


def connect_tap(name: str, *, bridge: str | None, mac: str | None, mtu: int | None) -> None:
    """Gives a tap its address and size, joins it to a bridge and sets it up. Raises HostSystemError."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as control:
        raw = name.encode()
        try:
            if mac is not None:
                # the highest address of a bridge's ports must not be a guest's, or the bridge takes it on
                address = bytes.fromhex("fe" + mac.replace(":", "")[2:])
                fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", raw, _ARPHRD_ETHER, address))
            size = mtu if mtu is not None or bridge is None else _mtu_of(bridge, control)
            if size is not None:
                fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", raw, size))
            if bridge is not None:
                index = struct.unpack("16si20x", fcntl.ioctl(control, _SIOCGIFINDEX, struct.pack("16s24x", raw)))[1]
                fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), index))
            flags = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", raw)))[1]
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", raw, flags | _IFF_UP))
        except OSError as exc:
            what = f"Unable to add bridge {bridge} port {name}" if bridge is not None else f"Unable to set up {name}"
            raise HostSystemError(exc.errno or 0, what) from exc


def move_tap(name: str, old: str, new: str) -> None:
    """Takes a tap from one bridge to another; it stays where it was when that fails. Raises HostSystemError."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as control:
        try:
            answer = fcntl.ioctl(control, _SIOCGIFINDEX, struct.pack("16s24x", name.encode()))
            index = struct.unpack("16si20x", answer)[1]
            fcntl.ioctl(control, _SIOCBRDELIF, struct.pack("16si20x", old.encode(), index))
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"Unable to remove bridge {old} port {name}") from exc
        try:
            fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", new.encode(), index))
        except OSError as exc:
            with contextlib.suppress(OSError):
                fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", old.encode(), index))
            raise HostSystemError(exc.errno or 0, f"Unable to add bridge {new} port {name}") from exc


def _mtu_of(link: str, control: socket.socket) -> int:
    """Asked of the kernel: the tree of files may show another network than the one in which this process is."""
    try:
        answer = fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16s24x", link.encode()))
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Cannot get interface MTU on '{link}'") from exc
    return int(struct.unpack("16si20x", answer)[1])


def link_counters(name: str) -> dict[str, int]:
    """The kernel's counters of a link. Raises HostSystemError when there is no such link."""
    folder = Path(f"/sys/class/net/{name}/statistics")
    names = ("bytes", "packets", "errors", "dropped")
    try:
        return {
            f"{way}_{one}": int((folder / f"{way}_{one}").read_text(encoding="ascii"))
            for way in ("rx", "tx")
            for one in names
        }
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot read the counters of '{name}'") from exc
