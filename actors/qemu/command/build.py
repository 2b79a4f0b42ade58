"""Puts a guest's command line together, part after part in a fixed order.

The order is libvirt's, so that its users' tools and eyes find everything where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors.qemu.command import (
    controllers,
    cpu,
    disks,
    displays,
    firmware_info,
    machine,
    memory,
    nets,
    passthrough,
    ports,
    small,
    sounds,
)
from actors.qemu.command.blockdev import number_images
from actors.qemu.command.launch import MASTER_KEY, Launch
from actors.qemu.command.line import CommandLine, Properties, comma_doubled, json_text
from schema.errors import ConfigUnsupported

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def marker_of(folder: Path) -> str:
    """The word of a command line by which a guest's process is found when nothing else is known of it."""
    return json_text(_master_key(folder))


def _master_key(folder: Path) -> dict[str, str]:
    return {"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": str(folder / MASTER_KEY)}


def build_command(launch: Launch) -> CommandLine:
    """The command that starts the guest, paused before its first instruction.

    Whatever has to be opened or made on the host is, while this runs, through `launch.host`.
    Raises ConfigUnsupported for what QEMU cannot do.
    """
    domain = launch.domain
    line = CommandLine(domain.devices.emulator or launch.caps.emulator, launch.caps.json_options)
    line.overrides = _overrides(launch)
    _environment(launch, line)
    line.add("-name", _name_words(launch))
    _deprecations(launch, line)
    line.add("-S")
    line.add_json("-object", _master_key(launch.folder))
    if launch.options.fips and launch.caps.has("enable-fips"):
        line.add("-enable-fips")
    disks.add_reservations_helper(launch, line)
    flash = machine.pflash_nodes(launch)
    for node in flash:
        node.write(line)
    machine.add_machine(launch, line, flash)
    machine.add_accelerator(launch, line)
    machine.add_smm_memory(launch, line)
    cpu.add_cpu(launch, line)
    machine.add_firmware(launch, line)
    memory.add_memory(launch, line)
    cpu.add_smp(launch, line)
    for thread in _iothreads(launch):
        line.add_json("-object", thread)
    _main_loop(launch, line)
    memory.add_numa(launch, line)
    line.add("-uuid", str(domain.uuid))
    small.add_generation_id(launch, line)
    firmware_info.add_sysinfo(launch, line)
    firmware_info.add_fw_cfg(launch, line)
    displays.add_display(launch, line)
    line.add("-no-user-config", "-nodefaults")
    line.add("-chardev", f"socket,id=charmonitor,fd={launch.monitor_fd},server=on,wait=off")
    line.add("-mon", "chardev=charmonitor,id=monitor,mode=control")
    machine.add_clock(launch, line)
    machine.add_power(launch, line)
    machine.add_boot(launch, line)
    machine.add_holes(launch, line)
    machine.add_root_hotplug(launch, line)
    small.add_iommu(launch, line)
    controllers.add_controllers(launch, line)
    memory.add_modules(launch, line)
    small.add_hubs(launch, line)
    controllers.add_ccid_controllers(launch, line)
    disks.add_disks(launch, line)
    passthrough.add_filesystems(launch, line)
    nets.add_interfaces(launch, line)
    ports.add_smartcards(launch, line)
    ports.add_serials(launch, line)
    ports.add_parallels(launch, line)
    ports.add_channels(launch, line)
    ports.add_consoles(launch, line)
    small.add_tpms(launch, line)
    small.add_inputs(launch, line)
    sounds.add_audios(launch, line)
    displays.add_graphics(launch, line)
    displays.add_videos(launch, line)
    sounds.add_sounds(launch, line)
    small.add_watchdog(launch, line)
    passthrough.add_redirected(launch, line)
    passthrough.add_hostdevs(launch, line, number_images(launch.domain) + 1)
    if launch.incoming is not None:
        line.add("-incoming", launch.incoming)
    small.add_balloon(launch, line)
    small.add_rngs(launch, line)
    small.add_variables(launch, line)
    small.add_core_info(launch, line)
    _security(launch, line)
    _custom(launch, line)
    _sandbox(launch, line)
    small.add_panics(launch, line)
    passthrough.add_shmems(launch, line)
    small.add_vsock(launch, line)
    small.add_cryptos(launch, line)
    if launch.options.timestamps:
        line.add("-msg", "timestamp=on")
    return line


def _environment(launch: Launch, line: CommandLine) -> None:
    folder = launch.folder
    line.environment["LC_ALL"] = "C"
    line.environment["PATH"] = _PATH
    line.environment["HOME"] = str(folder)
    line.environment.update(launch.options.environment)
    line.environment["XDG_DATA_HOME"] = str(folder / ".local/share")
    line.environment["XDG_CACHE_HOME"] = str(folder / ".cache")
    line.environment["XDG_CONFIG_HOME"] = str(folder / ".config")


def _name_words(launch: Launch) -> str:
    name = comma_doubled(launch.domain.name)
    process = f",process=qemu:{name}" if launch.options.process_names else ""
    return f"guest={name}{process},debug-threads=on"


_INPUT: Final = {"omit": "", "reject": ",deprecated-input=reject", "crash": ",deprecated-input=crash"}


def _deprecations(launch: Launch, line: CommandLine) -> None:
    """How the emulator answers what will be gone one day."""
    wanted = launch.domain.qemu_deprecation
    behavior = wanted.behavior if wanted is not None else launch.options.deprecation
    if behavior in _INPUT and launch.caps.has("compat-deprecated"):
        line.add("-compat", f"deprecated-output=hide{_INPUT[behavior]}")


_TYPES: Final[dict[str, Callable[[str], object]]] = {
    "string": str,
    "signed": int,
    "unsigned": int,
    "bool": lambda text: text == "true",
}


def _overrides(launch: Launch) -> dict[str, Properties]:
    wanted = launch.domain.qemu_override
    found: dict[str, Properties] = {}
    for device in wanted.devices if wanted is not None else ():
        properties = found.setdefault(device.alias, {})
        for end in device.frontends:
            for one in end.properties:
                properties[one.name] = None if one.type == "remove" else _TYPES[one.type](one.value or "")
    return found


def _main_loop(launch: Launch, line: CommandLine) -> None:
    loop = launch.domain.defaultiothread
    if loop is None:
        return
    properties: Properties = {"qom-type": "main-loop", "id": "main-loop"}
    properties |= {"thread-pool-min": loop.thread_pool_min, "thread-pool-max": loop.thread_pool_max}
    line.add_json("-object", properties)


def _iothreads(launch: Launch) -> list[dict[str, object]]:
    domain = launch.domain
    listed = {one.id: one for one in domain.iothreadids.iothreads} if domain.iothreadids is not None else {}
    count = domain.iothreads or len(listed)
    numbers = list(listed)
    candidate = 1
    while len(numbers) < count:
        if candidate not in numbers:
            numbers.append(candidate)
        candidate += 1
    found = []
    for number in numbers:
        properties: dict[str, object] = {"qom-type": "iothread", "id": f"iothread{number}"}
        one = listed.get(number)
        if one is not None:
            properties["thread-pool-min"] = one.thread_pool_min
            properties["thread-pool-max"] = one.thread_pool_max
        found.append(properties)
    return found


def _security(launch: Launch, line: CommandLine) -> None:
    security = launch.domain.launch_security
    if security is None:
        return
    if security.type == "sev":
        policy = int(security.policy or "0", 16)
        host = launch.caps.sev
        line.add_json(
            "-object",
            {
                "qom-type": "sev-guest",
                "id": "lsec0",
                "cbitpos": security.cbitpos if security.cbitpos is not None or host is None else host.cbitpos,
                "reduced-phys-bits": (
                    security.reduced_phys_bits
                    if security.reduced_phys_bits is not None or host is None
                    else host.reduced_phys_bits
                ),
                "policy": policy,
                "dh-cert-file": str(launch.folder / "dh_cert.base64") if security.dh_cert else None,
                "session-file": str(launch.folder / "session.base64") if security.session else None,
                "kernel-hashes": security.kernel_hashes,
            },
        )
    elif security.type == "s390-pv":
        line.add_json("-object", {"qom-type": "s390-pv-guest", "id": "lsec0"})
    else:
        raise ConfigUnsupported(f"unsupported launch security type '{security.type}'")


def _custom(launch: Launch, line: CommandLine) -> None:
    custom = launch.domain.qemu_commandline
    if custom is not None:
        line.add(*(argument.value for argument in custom.arguments))
        line.environment.update({variable.name: variable.value or "" for variable in custom.variables})


def _sandbox(launch: Launch, line: CommandLine) -> None:
    if launch.options.sandbox and launch.caps.has("seccomp-sandbox"):
        line.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
