"""The emulators of this host and what is known of them, kept on disk by what makes a binary that very binary.

A binary is known by path, size and both times; when KVM comes or goes it is asked anew. Two calls that need the same
unknown binary wait for one probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu.capabilities.host_processor import HostProcessor, read_host_processor
from actors.qemu.capabilities.model import OLDEST, Capabilities
from actors.qemu.capabilities.probe import probe_emulator
from actors.qemu.capabilities.processor_files import load_processors
from actors.qemu.processors import Processors
from conf.domain.os import ARCHITECTURES
from schema.errors import ConfigUnsupported, InternalError

FORMAT: Final = 4
_CHECK_EVERY_S: Final = 1.0
_AT_ONCE: Final = 4  # binaries that are asked; a host may have thirty of them
_KVM: Final = Path("/dev/kvm")
_ARCH_OF_HOST: Final = {"i386": "i686", "i586": "i686", "arm": "armv7l"}
_PROGRAM_OF_ARCH: Final = {"i686": "i386", "armv7l": "arm", "ppc64le": "ppc64"}

Probe = Callable[[Path], Awaitable[Capabilities]]


class Binary(msgspec.Struct, frozen=True):
    """What tells whether a binary, or the host below it, is still the one that was asked."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    kvm: bool


class Kept(msgspec.Struct, frozen=True):
    """The file of one binary."""

    format: int
    binary: Binary
    capabilities: Capabilities


class CapabilityStore:
    """Answers what an emulator can do."""

    def __init__(self, folder: Path, emulator_folders: Sequence[str], probe: Probe = probe_emulator) -> None:
        self._folder = folder
        self._emulator_folders = tuple(Path(one) for one in emulator_folders)
        self._probe = probe
        self._known: dict[str, Kept] = {}
        self._checked: dict[str, float] = {}
        self._processors: Processors | None = None
        self.host_processor: HostProcessor | None = None
        self._running: dict[str, asyncio.Future[Capabilities]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def find_emulator(self, arch: str) -> Path | None:
        """The binary that emulates an architecture; the first folder that has one counts."""
        program = f"qemu-system-{_PROGRAM_OF_ARCH.get(arch, arch)}"
        for folder in self._emulator_folders:
            path = folder / program
            if os.access(path, os.X_OK):
                return path
        if arch == host_arch():
            for path in (folder / name for folder in self._emulator_folders for name in ("qemu-kvm", "kvm")):
                if os.access(path, os.X_OK):
                    return path
        return None

    def emulators(self) -> dict[str, Path]:
        """The emulators of this host by architecture, of those that libvirt has a name for."""
        found: dict[str, Path] = {}
        own = self.find_emulator(host_arch())
        if own is not None:
            found[host_arch()] = own
        for folder in self._emulator_folders:
            for path in sorted(folder.glob("qemu-system-*")):
                name = path.name.removeprefix("qemu-system-")
                arch = _ARCH_OF_HOST.get(name, name)
                if arch in ARCHITECTURES and os.access(path, os.X_OK):
                    found.setdefault(arch, path)
        return dict(sorted(found.items()))

    def processors(self) -> Processors:
        """What libvirt's tables say of processors, the host's among them."""
        if self._processors is None:
            found = load_processors(host_arch=host_arch())
            own = self.host_processor = read_host_processor(found.x86) if found.x86 is not None else None
            self._processors = replace(found, host=own.cpu) if own is not None else found
        return self._processors

    async def capabilities(self, emulator: str | Path) -> Capabilities:
        """What a binary can do.

        Raises ConfigUnsupported when it is not there or too old, InternalError when it cannot be asked.
        """
        path = str(emulator)
        known = self._known.get(path)
        if known is not None and time.monotonic() - self._checked[path] < _CHECK_EVERY_S:
            return known.capabilities
        binary = _identify(path)
        if known is None:
            known = self._load(path)
        if known is not None and known.binary == binary:
            self._remember(known)
            return known.capabilities
        running = self._running.get(path)
        if running is None:
            running = asyncio.ensure_future(self._learn(binary))
            self._running[path] = running
            running.add_done_callback(lambda done: self._learned(path, done))
        return await asyncio.shield(running)

    def known(self, emulator: str | Path) -> Capabilities | None:
        """What is known of a binary without asking it."""
        kept = self._known.get(str(emulator)) or self._load(str(emulator))
        return None if kept is None else kept.capabilities

    async def _learn(self, binary: Binary) -> Capabilities:
        async with self._turns:
            found = await self._probe(Path(binary.path))
        if found.version < OLDEST:
            wanted, has = (".".join(str(n) for n in version) for version in (OLDEST, found.version))
            raise ConfigUnsupported(f"QEMU version >= {wanted} is required, but {has} found")
        kept = Kept(FORMAT, binary, found)
        self._remember(kept)
        self._save(kept)
        return found

    def _learned(self, path: str, done: asyncio.Future[Capabilities]) -> None:
        self._running.pop(path, None)
        if not done.cancelled():
            done.exception()  # told to those who wait, if any still do

    def _remember(self, kept: Kept) -> None:
        self._known[kept.binary.path] = kept
        self._checked[kept.binary.path] = time.monotonic()

    def _file(self, path: str) -> Path:
        return self._folder / f"{path.strip('/').replace('/', '-')}.msgpack"

    def _load(self, path: str) -> Kept | None:
        try:
            kept = msgspec.msgpack.decode(self._file(path).read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return None
        return kept if kept.format == FORMAT and kept.binary.path == path else None

    def _save(self, kept: Kept) -> None:
        # a cache: without it the next start asks again
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = self._file(kept.binary.path)
            temporary = target.with_suffix(".new")
            temporary.write_bytes(msgspec.msgpack.encode(kept))
            temporary.replace(target)


def host_arch() -> str:
    """The host's architecture in libvirt's words."""
    machine = os.uname().machine
    return _ARCH_OF_HOST.get(machine, machine)


def _identify(path: str) -> Binary:
    try:
        stat = Path(path).stat()
    except FileNotFoundError as exc:
        raise ConfigUnsupported(f"Emulator '{path}' does not exist") from exc
    except OSError as exc:
        raise InternalError(f"Cannot check QEMU binary {path}: {exc.strerror}") from exc
    kvm = os.access(_KVM, os.R_OK | os.W_OK)
    return Binary(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, kvm)
