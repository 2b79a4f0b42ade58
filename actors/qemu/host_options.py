"""What the host's settings mean for starts: folders, addresses, certificates, mounted huge pages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from actors.qemu.command.launch import HugePageMount, Options
from actors.qemu.firmware import default_folders
from actors.qemu.host import QemuHost
from actors.qemu.prepare import Places
from actors.qemu.traces import CHANNELS
from conf.domain.graphics import GraphicsType
from schema.errors import ConfigUnsupported, HostSystemError
from settings.qemu import QemuSettings
from util.cpuset import parse_cpuset

_PKI: Final = Path("/etc/pki")
_MOUNTS: Final = Path("/proc/self/mounts")
_MEMORY: Final = Path("/proc/meminfo")
_NODES: Final = Path("/sys/devices/system/node/online")


def places_of(host: QemuHost, folder: Path) -> Places:
    """Where things of a guest lie, and where its displays are to be found."""
    settings = host.config.qemu
    return Places(
        folder=folder,
        channels=host.run_folder / CHANNELS,
        vnc_listen=settings.vnc_listen,
        spice_listen=settings.spice_listen,
        vnc_socket=settings.vnc_auto_unix_socket,
        spice_socket=settings.spice_auto_unix_socket,
        spice_tls=settings.spice_tls,
        nvram=host.state_folder / "nvram",
        firmwares=default_folders(),
        display_ports=settings.display_ports,
        websocket_ports=settings.websocket_ports,
    )


def options_of(host: QemuHost) -> Options:
    """The settings that command lines depend on."""
    settings = host.config.qemu
    return Options(
        user=settings.user,
        memory_folder=settings.memory_backing_folder or str(host.state_folder / "ram"),
        huge_pages=find_huge_pages(settings.huge_page_folders),
        host_nodes=find_nodes(),
        vnc_password=bool(settings.vnc_password_file),
        vnc_tls=settings.vnc_tls,
        vnc_tls_folder=certificates_of(settings, "vnc"),
        vnc_tls_verify=verifies(settings.vnc_tls_verify, settings, unset=False),
        vnc_tls_secret=settings.vnc_tls_secret or settings.tls_secret,
        vnc_sasl=settings.vnc_sasl,
        vnc_sasl_folder=settings.vnc_sasl_folder,
        spice_tls=settings.spice_tls,
        spice_tls_folder=certificates_of(settings, "spice"),
        spice_password=bool(settings.spice_password_file),
        spice_sasl=settings.spice_sasl,
        spice_sasl_folder=settings.spice_sasl_folder,
        chardev_tls=settings.chardev_tls,
        chardev_tls_folder=certificates_of(settings, "chardev"),
        chardev_tls_verify=verifies(settings.chardev_tls_verify, settings, unset=True),
        chardev_tls_secret=settings.chardev_tls_secret or settings.tls_secret,
        nbd_tls=settings.nbd_tls,
        nbd_tls_folder=certificates_of(settings, "nbd"),
        nbd_tls_secret=settings.nbd_tls_secret or settings.tls_secret,
        host_audio_without_display=settings.nographics_allow_host_audio,
        debug_gluster=settings.gluster_debug_level,
        dump_core=settings.dump_guest_core,
        shmem_folder=str(host.state_folder),
        sandbox=settings.seccomp_sandbox,
        process_names=settings.process_names,
        timestamps=settings.log_timestamp,
        deprecation=settings.deprecation_behavior,
    )


def certificates_of(settings: QemuSettings, use: str) -> str:
    """The folder of the certificates for `vnc`, `spice`, `chardev`, `nbd`, `backup` or `migrate`."""
    named = str(getattr(settings, f"{use}_tls_folder"))
    if named:
        return named
    own = _PKI / f"libvirt-{use}"
    return str(own) if own.is_dir() else settings.tls_folder


def verifies(wanted: bool | None, settings: QemuSettings, *, unset: bool) -> bool:
    """Whether the other side must show a certificate: the use's own setting, the common one, else `unset`."""
    if wanted is not None:
        return wanted
    return unset if settings.tls_verify is None else settings.tls_verify


def passwords_of(host: QemuHost) -> dict[GraphicsType, str]:
    """The passwords of displays that have none of their own.

    Raises ConfigUnsupported for a file that cannot be read.
    """
    settings = host.config.qemu
    files = {GraphicsType.VNC: settings.vnc_password_file, GraphicsType.SPICE: settings.spice_password_file}
    return {kind: _password(path) for kind, path in files.items() if path}


def _password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigUnsupported(f"the password of displays cannot be read from '{path}': {exc}") from exc


def find_nodes() -> frozenset[int] | None:
    """The NUMA nodes of the host, or None where it does not say."""
    try:
        return frozenset(parse_cpuset(_NODES.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        return None


def find_huge_pages(folders: tuple[str, ...] | None) -> tuple[HugePageMount, ...]:
    """The mounted hugetlbfs that guests may use: the named ones, else one of each size.

    Raises ConfigUnsupported for a folder where none is mounted, HostSystemError.
    """
    mounted = _mounted_huge_pages()
    if folders is None:
        of_size: dict[int, HugePageMount] = {}
        for mount in mounted:
            of_size.setdefault(mount.page_kib, mount)
        return tuple(of_size.values())
    known = {mount.folder: mount for mount in mounted}
    for folder in folders:
        if folder.rstrip("/") not in known:
            raise ConfigUnsupported(f"[qemu] huge_page_folders: '{folder}' is no mounted hugetlbfs")
    return tuple(known[folder.rstrip("/")] for folder in folders)


def _mounted_huge_pages() -> list[HugePageMount]:
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        folders = [line.split()[1] for line in lines if line.split()[2] == "hugetlbfs"]
        usual = _usual_page_kib() if folders else 0
        sizes = [os.statvfs(folder).f_bsize // 1024 for folder in folders]
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, "Cannot look for mounted huge pages") from exc
    return [HugePageMount(kib, folder, kib == usual) for folder, kib in zip(folders, sizes, strict=True)]


def _usual_page_kib() -> int:
    for line in _MEMORY.read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "Hugepagesize":
            return int(rest.split()[0])
    return 0
