"""What a connection tells of this host and its emulators."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from actors.qemu.capabilities.document import write_capabilities
from actors.qemu.capabilities.domain_document import HostFacts, read_host_facts, write_domain_capabilities
from actors.qemu.capabilities.store import host_arch
from actors.qemu.definitions import emulator_named_in
from actors.qemu.firmware import default_folders, load_descriptors
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from schema.errors import InvalidArguments, NoConnection, VirtError

calls: Calls[QemuHost] = Calls()

_READ_ONLY: Final = 1
_NO_ALIASES: Final = 2
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
    """The last of libvirt's clients has left: guests that were started for as long as somebody watches end."""
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.run.ends_on_close:
            host.runtime.spawn(_end_unwatched(host, guest), f"end of {guest.name}")


async def _end_unwatched(host: QemuHost, guest: Guest) -> None:
    from actors.qemu.ending import end_process
    from schema.enums.domain_state import DomainShutoffReason

    guest.destroys = True
    try:
        await end_process(guest, force=True)
        await host.end(guest, DomainShutoffReason.DESTROYED)
    except VirtError as exc:
        host.log.warning("a guest that nobody watches did not end", guest=guest.name, error=exc.message)


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
    return write_capabilities(found)


@calls.handles()
async def connect_get_domain_capabilities(
    host: QemuHost, emulatorbin: str | None, arch: str | None, machine: str | None, virttype: str | None, flags: int
) -> str:
    """What a guest on an emulator and machine can have.

    Raises InvalidArguments and ConfigUnsupported for what this host does not have.
    """
    check_flags(flags, 0, "qemuConnectGetDomainCapabilities")
    caps = await host.emulator_for(arch, emulatorbin)
    if arch and arch != caps.arch:
        raise _refused(f"architecture from emulator '{caps.arch}' doesn't match given architecture '{arch}'")
    wanted = machine or caps.default_machine() or ""
    found = caps.find_machine(wanted)
    if found is None:
        raise _refused(f"the machine '{wanted}' is not supported by emulator '{caps.emulator}'")
    virt = virttype or ("kvm" if caps.kvm else "qemu")
    if virt not in ("kvm", "qemu"):
        raise _refused(f"unknown virttype: {virt}")
    if virt == "kvm" and not caps.kvm:
        raise _refused(f"KVM is not supported by '{caps.emulator}' on this host")
    facts = await host.runtime.in_thread(_facts_of, host)
    return write_domain_capabilities(caps, found, virt, facts)


def _facts_of(host: QemuHost) -> HostFacts:
    return read_host_facts(host_arch(), load_descriptors(default_folders()), host.emulators.processors())


def _refused(detail: str) -> InvalidArguments:
    error = InvalidArguments()
    error.message = f"invalid argument: {detail}"
    return error


@calls.handles()
async def connect_get_max_vcpus(host: QemuHost, type: str | None) -> int:
    """The most processors that a guest can have. Raises InvalidArguments for an unknown type of guests."""
    virt = (type or "qemu").lower()
    if virt not in ("qemu", "kvm"):
        error = InvalidArguments()
        error.message = f"invalid argument: unknown type '{virt}'"
        raise error
    caps = await host.emulator_for(None, None)
    machine = caps.find_machine(caps.default_machine() or "")
    return 16 if machine is None else machine.max_cpus


@calls.handles()
def connect_supports_feature(host: QemuHost, feature: int) -> int:
    """Whether a client may rely on a feature of the protocol."""
    return int(feature in _FEATURES)


@calls.handles()
async def connect_get_cpu_model_names(host: QemuHost, arch: str, need_results: int, flags: int) -> dict[str, object]:
    """The processor models that an emulator knows. Raises UnsupportedFlags, ConfigUnsupported."""
    check_flags(flags, 0, "qemuConnectGetCPUModelNames")
    caps = await host.emulator_for(arch, None)
    names = sorted({model.name for virt in caps.cpus for model in caps.cpus[virt] if model.is_plain})
    return {"models": names if need_results else [], "ret": len(names)}


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
        error = InvalidArguments()
        error.message = f"invalid argument: unsupported config type {nativeFormat}"
        raise error
    arch, emulator = emulator_named_in(domainXml)
    caps = await host.emulator_for(arch, emulator)
    return preview_command(host, caps, domainXml)


@calls.handles()
def node_get_security_model(host: QemuHost) -> dict[str, bytes]:
    """There is no security driver yet."""
    return {"model": b"none\0", "doi": b"0\0"}
