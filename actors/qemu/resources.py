"""What a start takes from the host: sockets, files, tap devices, ports.

Everything is opened before the guest's process is made, which inherits the descriptors; ours are closed afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from actors.qemu.command.launch import MASTER_KEY, Launch
from actors.qemu.command.nets import is_virtio, network_of
from actors.qemu.fd_groups import FdGroups
from actors.qemu.helpers.ends import Ends
from actors.qemu.linking.bridge_ports import isolate_port
from actors.qemu.linking.macvtap import open_device, open_macvtap
from actors.qemu.linking.netlink import find_macvtap, has_link
from actors.qemu.monitor.link import listening_socket
from actors.qemu.needs import Needs
from actors.qemu.taps import connect_tap, open_tap
from conf.domain.interface import BridgeSource, Interface, InterfaceTarget, InterfaceType
from conf.domain.interface import NetworkSource as NetworkEnd
from conf.domain.secrets import SecretRef
from conf.domain.storage_source import StorageSource, VolumeSource
from schema.errors import ConfigUnsupported, HostSystemError, NoSuchNetwork
from settings.paths import check_socket_length

_GENERATED_NAMES: Final = ("vnet", "vif", "macvtap", "macvlan")
BridgeOf = Callable[[str], str]


class StartResources:
    """Opens what one start needs; `close` gives our descriptors back, `inherited` are the guest's."""

    def __init__(self, folder: Path, lent: FdGroups | None = None, needs: Needs | None = None) -> None:
        self.folder = folder
        self._needs = Needs(folder / MASTER_KEY) if needs is None else needs
        self._lent = FdGroups() if lent is None else lent
        self.inherited: list[int] = []
        self.sockets: list[Path] = []
        self.made: list[Path] = []
        """Other files that a start, or a device, brings along."""
        self.launch: Launch | None = None
        self.ends = Ends()
        """Of the helpers that run beside the guest."""

    def take(self, needs: Needs) -> None:
        """More that ports have answered: secrets and volumes of a device that comes later."""
        self._needs.secrets.update(needs.secrets)
        self._needs.volumes.update(needs.volumes)

    def close(self) -> None:
        """Closes our descriptors; those that the guest inherited live on in it."""
        for descriptor in self.inherited:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.inherited.clear()

    def undo(self) -> None:
        """The guest does not start: what was made goes."""
        self.close()
        for path in (*self.sockets, *self.made):
            with contextlib.suppress(OSError):
                path.unlink()

    def listen(self, path: str) -> int:
        """A listening unix socket. Raises HostSystemError, ConfigUnsupported for a path that is too long."""
        target = Path(path)
        try:
            check_socket_length(target)
        except ValueError as exc:
            raise ConfigUnsupported(str(exc)) from exc
        try:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = listening_socket(target).detach()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"Failed to bind socket to {path}") from exc
        self.sockets.append(target)
        return self._keep(descriptor)

    def connect(self, purpose: str) -> int:
        """The other end of a helper program. Raises ConfigUnsupported when none runs for it."""
        return self._keep(self.ends.take_card(purpose.removesuffix("-vhost-user")))

    def open_file(self, path: str, *, append: bool) -> int:
        """A file that the guest writes. Raises HostSystemError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        return self._open(path, flags)

    def open_log(self, path: str, *, append: bool) -> int:
        """A file that takes a copy of what the guest writes. Raises HostSystemError."""
        return self.open_file(path, append=append)

    def open_device(self, path: str, what: str) -> int:
        """A device node. Raises HostSystemError."""
        return self._open(path, os.O_RDWR | os.O_CLOEXEC)

    def taps(self, interface: Interface) -> Sequence[int]:
        """The queues of a tap, which is joined to its bridge; the guest's definition then names it.

        Raises NoSuchNetwork for a network without a bridge of this host, and HostSystemError.
        """
        queues = (interface.driver.queues if interface.driver is not None else None) or 1
        if interface.type is InterfaceType.DIRECT:
            opened = open_macvtap(self.folder, interface, queues=queues, vnet_header=is_virtio(interface))
            return [self._keep(descriptor) for descriptor in opened]
        bridge = self._bridge(interface)
        wanted = interface.target.dev if interface.target is not None else None
        if interface.target is not None and interface.target.managed is False:
            return self._unmanaged(interface, wanted, queues)
        if wanted is None or wanted.startswith(_GENERATED_NAMES):
            wanted = "vnet%d"
        name, descriptors = open_tap(wanted, queues=queues, vnet_header=is_virtio(interface))
        for descriptor in descriptors:
            self._keep(descriptor)
        connect_tap(name, bridge=bridge, mac=interface.mac.address if interface.mac else None, mtu=interface.mtu)
        if bridge is not None and interface.port_isolated:
            isolate_port(bridge, name)
        if interface.target is None:
            interface.target = InterfaceTarget()
        interface.target.dev = name
        return descriptors

    def _unmanaged(self, interface: Interface, name: str | None, queues: int) -> Sequence[int]:
        """The queues of a tap or macvtap device that somebody else has made and set up."""
        if name is None:
            raise ConfigUnsupported("target dev must be supplied when managed='no'")
        vnet_header = is_virtio(interface)
        number = find_macvtap(name)
        if number is not None:
            opened = open_device(number, queues=queues, vnet_header=vnet_header)
        elif has_link(name):
            _, opened = open_tap(name, queues=queues, vnet_header=vnet_header)
        else:
            raise ConfigUnsupported("target managed='no' but specified dev doesn't exist")
        return [self._keep(descriptor) for descriptor in opened]

    def _bridge(self, interface: Interface) -> str | None:
        source = interface.source
        if interface.virtualport is not None:
            kind = interface.virtualport.type or "none"
            raise ConfigUnsupported(f"interfaces with a virtualport of type '{kind}' are not supported yet")
        if isinstance(source, BridgeSource):
            return source.bridge
        if isinstance(source, NetworkEnd):
            if source.bridge is None:
                raise NoSuchNetwork(f"no network with matching name '{network_of(interface)}'")
            return source.bridge
        if interface.type is InterfaceType.ETHERNET:
            return None
        raise ConfigUnsupported(f"interfaces of type '{interface.type}' are not supported yet")

    def vhosts(self, interface: Interface, queues: int) -> Sequence[int]:
        """The vhost descriptors of an interface; none when the host has no vhost."""
        found: list[int] = []
        for _ in range(queues):
            try:
                found.append(os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC))
            except OSError:
                for descriptor in found:
                    os.close(descriptor)
                return ()
        return [self._keep(descriptor) for descriptor in found]

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        """Refuses an automatic number, which needs to be agreed with the kernel; a given one is taken as it is."""
        if cid is None:
            raise ConfigUnsupported("a vsock device needs a context id")
        try:
            return self._open("/dev/vhost-vsock", os.O_RDWR | os.O_CLOEXEC), cid
        except HostSystemError as exc:
            raise ConfigUnsupported("unable to open vhost-vsock device") from exc

    def vhost_scsi(self) -> int:
        """The descriptor of a vhost SCSI target. Raises HostSystemError."""
        return self._open("/dev/vhost-scsi", os.O_RDWR | os.O_CLOEXEC)

    def secret(self, ref: SecretRef) -> tuple[str, str]:
        """A secret, sealed with the guest's key. Raises ConfigUnsupported, HostSystemError."""
        return self._needs.sealed(ref)

    def seal(self, text: str) -> tuple[str, str]:
        """A text, sealed with the guest's key. Raises HostSystemError."""
        return self._needs.sealed_text(text)

    def passt_socket(self, alias: str) -> str:
        """The socket of an interface's other end. Raises ConfigUnsupported when none runs for it."""
        return self.ends.passt_socket(alias)

    def volume(self, source: VolumeSource) -> StorageSource:
        """Where a volume lies. Raises ConfigUnsupported."""
        return self._needs.volume(source)

    def is_optical(self, path: str) -> bool:
        """Whether a device is a drive for optical discs."""
        return is_optical_drive(path)

    def render_node(self) -> str:
        """The host's first render node. Raises ConfigUnsupported when there is none."""
        return find_render_node()

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        """The path of a logical unit's generic device. Raises ConfigUnsupported when there is none."""
        host = adapter.removeprefix("scsi_host")
        folder = Path(f"/sys/bus/scsi/devices/{host}:{bus}:{target}:{unit}/scsi_generic")
        names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
        if not names:
            raise ConfigUnsupported(f"no SCSI device {host}:{bus}:{target}:{unit} on this host")
        return f"/dev/{names[0]}"

    def fd_group(self, name: str) -> Sequence[int]:
        """Copies of what a client has lent the guest under a name. Raises InvalidArguments."""
        return [self._keep(os.dup(fd)) for fd in self._lent.find(name)]

    def tpm_socket(self, alias: str) -> str:
        """The socket of an emulated TPM. Raises ConfigUnsupported when none runs for it."""
        return self.ends.tpm_socket(alias)

    def _open(self, path: str, flags: int) -> int:
        try:
            return self._keep(os.open(path, flags, 0o600))
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"Unable to open '{path}'") from exc

    def _keep(self, descriptor: int) -> int:
        self.inherited.append(descriptor)
        return descriptor


def find_render_node() -> str:
    """The host's first render node. Raises ConfigUnsupported when there is none."""
    for path in sorted(Path("/dev/dri").glob("renderD*")):
        return str(path)
    raise ConfigUnsupported("no DRM render nodes available")


_DRIVE_STATUS: Final = 0x5326
"""`CDROM_DRIVE_STATUS`, which only drives for optical discs answer."""


def is_optical_drive(path: str) -> bool:
    """Whether a device of the host is a drive for optical discs; one that cannot be opened is not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(descriptor, _DRIVE_STATUS, 0x7FFFFFFF) >= 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


class HostPorts:
    """Hands out ports of displays: free on the host, and not promised to another guest that is starting."""

    def __init__(self, taken: set[int], address: str = "") -> None:
        self._taken = taken
        self._address = address
        self.given: list[int] = []

    def take(self, purpose: str, first: int, last: int) -> int:
        """A free port, which is promised from now on. Raises ConfigUnsupported when there is none."""
        for port in range(first, last + 1):
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                self.given.append(port)
                return port
        raise ConfigUnsupported(f"Unable to find an unused port in range '{purpose}' ({first}-{last})")

    def give_back(self) -> None:
        """The guest does not start."""
        self._taken.difference_update(self.given)


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "")):
        try:
            with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as exc:
            if family == socket.AF_INET6 and exc.errno not in (98,):
                continue  # a host without IPv6
            return False
    return True
