"""What a connection tells of this host and its emulators."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from actors.qemu.capabilities.document import write_capabilities
from actors.qemu.capabilities.domain_document import HostFacts, read_host_facts, write_domain_capabilities
from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.capabilities.store import host_arch
from actors.qemu.definitions import emulator_named_in
from actors.qemu.firmware import default_folders, load_descriptors
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from conf.cpu.names import check_architecture
from schema.errors import ConfigUnsupported, InvalidArguments, NoConnection, VirtError

calls: Calls[QemuHost] = Calls()

_READ_ONLY: Final = 1
_NO_ALIASES: Final = 2
_X86: Final = frozenset(("x86_64", "i686"))
_FEATURES: Final = frozenset({4, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16})
"""libvirt's numbers of driver features: remote, close callbacks, program keepalive, typed parameters and the like."""


@calls.handles()
async def connect_open(host: QemuHost, name: str | None, flags: int) -> None:
    """Checks that the URI means this driver on this host. Raises NoConnection, InvalidArguments."""
    check_flags(flags, _READ_ONLY | _NO_ALIASES, "qemuConnectOpen")
    scope = name or current_call().scope
    path = scope.partition("://")[2].partition("?")[0].partition("/")[2]
    if f"qemu:///{path}" != host.scope:
        user = "root" if os.geteuid() == 0 else "an ordinary user"
        raise NoConnection(f"'{scope}': an agent that runs as {user} serves {host.scope}")


@calls.handles()
async def connect_close(host: QemuHost) -> None:
    """The last of libvirt's clients has left. Guests that end with a connection are looked after in `binding.py`."""


@calls.handles()
def connect_get_type(host: QemuHost) -> str:
    """The driver's name as libvirt writes it."""
    return "QEMU"


@calls.handles()
async def connect_get_version(host: QemuHost) -> int:
    """The version of the host's own emulator. Raises ConfigUnsupported when there is none."""
    return (await host.emulator_for(None, None)).number


@calls.handles()
async def connect_get_capabilities(host: QemuHost) -> str:
    """What this host and its emulators can run."""
    paths = list(host.emulators.emulators().values())
    results = await asyncio.gather(*(host.emulators.capabilities(path) for path in paths), return_exceptions=True)
    found = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, VirtError):
            host.log.warning("an emulator cannot be used", emulator=str(path), error=result.message)
        elif isinstance(result, BaseException):
            raise result
        else:
            found.append(result)
    await host.runtime.in_thread(host.emulators.processors)
    return write_capabilities(found, host.emulators.host_processor)


@calls.handles()
async def connect_get_domain_capabilities(
    host: QemuHost, emulatorbin: str | None, arch: str | None, machine: str | None, virttype: str | None, flags: int
) -> str:
    """What a guest on an emulator and machine can have.

    Raises InvalidArguments and ConfigUnsupported for what this host does not have.
    """
    check_flags(flags, 0, "qemuConnectGetDomainCapabilities")
    caps, found, virt = await find_emulation(host, emulatorbin, arch, machine, virttype)
    facts = await host.runtime.in_thread(_facts_of, host)
    return write_domain_capabilities(caps, found, virt, facts)


def _facts_of(host: QemuHost) -> HostFacts:
    firmwares, versions = load_descriptors(default_folders()), host.tpm_programs.versions or ()
    return read_host_facts(host_arch(), firmwares, host.emulators.processors(), versions)


async def find_emulation(
    host: QemuHost, emulator: str | None, arch: str | None, machine: str | None, virt: str | None
) -> tuple[Capabilities, Machine, str]:
    """What a caller who asks of guests means: the emulator, the machine and the type of guests.

    Raises InvalidArguments and ConfigUnsupported for what this host does not have.
    """
    if arch:
        check_architecture(arch)
        if not emulator and host.emulators.find_emulator(arch) is None:
            raise ConfigUnsupported(f"unable to find any emulator to serve '{arch}' architecture")
    caps = await host.emulator_for(arch, emulator)
    if arch and arch != caps.arch and not {arch, caps.arch} <= _X86:
        raise InvalidArguments(f"architecture from emulator '{caps.arch}' doesn't match given architecture '{arch}'")
    virt = virt or ("kvm" if caps.kvm else "qemu")
    if virt not in ("kvm", "qemu"):
        raise InvalidArguments(f"unknown virttype: {virt}")
    if virt == "kvm" and not caps.kvm:
        raise InvalidArguments(f"KVM is not supported by '{caps.emulator}' on this host")
    wanted = machine or caps.default_machine() or ""
    found = caps.find_machine(wanted)
    if found is None:
        raise InvalidArguments(f"the machine '{wanted}' is not supported by emulator '{caps.emulator}'")
    return caps, found, virt


@calls.handles()
async def connect_get_max_vcpus(host: QemuHost, type: str | None) -> int:
    """The most processors that a guest can have. Raises InvalidArguments for an unknown type of guests."""
    virt = (type or "qemu").lower()
    if virt not in ("qemu", "kvm"):
        raise InvalidArguments(f"unknown type '{virt}'")
    caps = await host.emulator_for(None, None)
    machine = caps.find_machine(caps.default_machine() or "")
    return 16 if machine is None else machine.max_cpus


@calls.handles()
def connect_supports_feature(host: QemuHost, feature: int) -> int:
    """Whether a client may rely on a feature of the protocol."""
    return int(feature in _FEATURES)


@calls.handles()
async def connect_domain_xml_to_native(
    host: QemuHost,
    nativeFormat: str,  # noqa: N803  (the wire's own names)
    domainXml: str,  # noqa: N803
    flags: int,
) -> str:
    """The command line that a definition would be started with.

    Raises XmlError, ConfigUnsupported, InvalidArguments for another format.
    """
    from actors.qemu.preview import preview_command

    check_flags(flags, 0, "qemuConnectDomainXMLToNative")
    if nativeFormat != "qemu-argv":
        raise InvalidArguments(f"unsupported config type {nativeFormat}")
    arch, emulator = emulator_named_in(domainXml)
    caps = await host.emulator_for(arch, emulator)
    return preview_command(host, caps, domainXml)


@calls.handles()
def node_get_security_model(host: QemuHost) -> dict[str, bytes]:
    """There is no security driver yet."""
    return {"model": b"none\0", "doi": b"0\0"}
