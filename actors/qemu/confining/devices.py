"""A `/dev` of a guest's own: in it are the nodes that every guest needs, and those of its devices.

It is made in mounts that only the guest's process has, so the host's nodes keep their owners, and the guest cannot even
name the devices that are not its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.confining.kernel import (
    MS_BIND,
    MS_MOVE,
    MS_NOSUID,
    MS_REC,
    enter_mounts,
    in_own_thread,
    mount,
    unshare_mounts,
)
from actors.qemu.owning.files import files_of_device, files_of_guest
from actors.qemu.owning.identity import Owner
from conf.domain.chardev_users import Rng
from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev, MdevSource, PciHostSource
from conf.domain.interface import HostdevSource, Interface
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.storage_source import NvmeSource
from conf.element import Element

ROOT: Final = "/dev/"
ALWAYS: Final = ("null", "full", "zero", "random", "urandom", "ptmx", "kvm", "userfaultfd")
_LINKS: Final = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"))
_VFIO: Final = "/dev/vfio/vfio"
_SEV: Final = "/dev/sev"
_SGX: Final = ("/dev/sgx_vepc", "/dev/sgx_provision")
_MARK: Final = ".virtroupe"
_DEPTH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Node:
    """A node that a guest gets; `owner`: whose it is there, None as on the host."""

    path: str
    owner: Owner | None = None


def nodes_of_guest(domain: Domain, owner: Owner | None) -> list[Node]:
    """The nodes of all devices of a guest."""
    paths = [one.path for one in files_of_guest(domain)]
    for device in domain.devices.all():
        paths += _more(device)
    if domain.launch_security is not None:
        paths.append(_SEV)
    return [Node(path, owner) for path in paths if path.startswith(ROOT)]


def is_node(path: str) -> bool:
    """The path is that of a device of the host."""
    if not path.startswith(ROOT):
        return False
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def nodes_of_device(device: Element, owner: Owner | None) -> list[Node]:
    """The nodes of one device."""
    paths = [one.path for one in files_of_device(device)]
    return [Node(path, owner) for path in (*paths, *_more(device)) if path.startswith(ROOT)]


def _more(device: Element) -> Sequence[str]:
    match device:
        case Rng() if device.backend.model == "random":
            return [device.backend.path or "/dev/urandom"]
        case Hostdev() if isinstance(device.source, PciHostSource | MdevSource):
            return [_VFIO]
        case Interface() if isinstance(device.source, HostdevSource):
            return [_VFIO]
        case MemoryDevice() if device.model is MemoryModel.SGX_EPC:
            return _SGX
        case _ if isinstance(getattr(device, "source", None), NvmeSource):
            return [_VFIO]
    return ()


# --- a start ---------------------------------------------------------------------------------------------------------


def make_private_devices(staging: Path, nodes: Sequence[Node]) -> None:
    """This thread, and what it starts, sees a `/dev` with these nodes alone. Raises OSError."""
    unshare_mounts()
    staging.mkdir(mode=0o755, exist_ok=True)
    mount("devfs", str(staging), "tmpfs", MS_NOSUID, "mode=755,size=65536")
    for name in ALWAYS:
        _copy(Node(ROOT + name), staging)
    for node in nodes:
        _copy(node, staging)
    (staging / _MARK).touch()
    for name, target in _LINKS:
        (staging / name).symlink_to(target)
    for place in _mounts_below():
        inside = staging / place.removeprefix(ROOT)
        if Path(place).is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        mount(place, str(inside), None, MS_BIND | MS_REC)
    mount(str(staging), "/dev", None, MS_MOVE)


def _mounts_below() -> list[str]:
    """What is mounted below `/dev`, but for what is inside of that again."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        if place.startswith(ROOT) and not any(place.startswith(f"{one}/") for one in found):
            found.append(place)
    return found


def _copy(node: Node, root: Path) -> None:
    """A node of the host under all the names by which its own name leads to it; one that is not there is left out."""
    for path in _names(node.path):
        inside = root / path.removeprefix(ROOT)
        if path != node.path and not path.startswith(ROOT):
            continue
        try:
            facts = Path(path).lstat()
        except OSError:
            return
        inside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            if stat.S_ISLNK(facts.st_mode):
                inside.symlink_to(Path(path).readlink())
            elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
                os.mknod(inside, facts.st_mode, facts.st_rdev)
                inside.chmod(stat.S_IMODE(facts.st_mode))
                owner = node.owner or Owner(facts.st_uid, facts.st_gid)
                os.chown(inside, owner.uid, owner.gid)


def _names(path: str) -> Iterator[str]:
    for _ in range(_DEPTH_MAX):
        yield path
        place = Path(path)
        if not place.is_symlink():
            return
        path = os.path.normpath(place.parent / place.readlink())


# --- while it runs ---------------------------------------------------------------------------------------------------


def has_private_devices(pid: int) -> bool:
    """Whether a process has a `/dev` of our making; mounts of its own it may have for other reasons."""
    try:
        return Path(f"/proc/{pid}/root{ROOT}{_MARK}").exists()
    except OSError:
        return False


def add_nodes(pid: int, nodes: Sequence[Node]) -> None:
    """A running guest gets more nodes. Raises OSError."""
    plans = [(node, _facts(node.path)) for node in nodes]

    def make() -> None:
        enter_mounts(pid)
        if not Path(ROOT + _MARK).exists():
            return
        for node, facts in plans:
            for path, mode, number, owner in facts:
                place = Path(path)
                place.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.mknod(place, mode, number)
                    place.chmod(stat.S_IMODE(mode))
                    given = node.owner or owner
                    os.chown(place, given.uid, given.gid)

    in_own_thread(make)


def _facts(path: str) -> list[tuple[str, int, int, Owner]]:
    """What to make of a name, on the host's side: the node itself, under each name that leads to it."""
    try:
        facts = Path(path).stat()
    except OSError:
        return []
    if not (stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode)):
        return []
    owner = Owner(facts.st_uid, facts.st_gid)
    names = [name for name in _names(path) if name.startswith(ROOT)]
    return [(name, facts.st_mode, facts.st_rdev, owner) for name in (names[0], names[-1])]


def keep_nodes(pid: int, nodes: Iterable[Node]) -> None:
    """Nodes of devices that a running guest has no longer go. Raises OSError."""
    kept = {name for node in nodes for name in _names(node.path)} | {ROOT + name for name in ALWAYS}
    below = [*_mounts_below(), "/dev/pts", "/dev/shm", "/dev/mqueue"]

    def sweep() -> None:
        enter_mounts(pid)
        if not Path(ROOT + _MARK).exists():
            return  # never in the host's own
        for folder, _, files in os.walk(ROOT):
            for name in files:
                path = f"{folder.rstrip('/')}/{name}"
                if path in kept or any(path.startswith(f"{one}/") or path == one for one in below):
                    continue
                mode = Path(path).lstat().st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    Path(path).unlink()

    in_own_thread(sweep)
