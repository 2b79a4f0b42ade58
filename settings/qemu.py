"""What can be set of the QEMU driver: a host's habits that libvirt keeps in qemu.conf.

Names that libvirt has too mean the same (its file's page says more), with `folder` for what it calls `dir`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from settings.numbers import Port, Seconds


@dataclass(frozen=True, slots=True)
class QemuSettings:
    """The QEMU driver."""

    user: str = ""  # guests run as this user, by name or "+NUMBER", when the agent is root; empty: as the agent
    group: str = ""  # and as this group; empty: the user's own
    dynamic_ownership: bool = True  # what a guest opens is made its user's while it runs (docs/ownership.md)
    remember_owner: bool = True  # and goes back to whose it was; false: to root
    namespaces: tuple[Literal["mount"], ...] = ()  # "mount": each guest has a /dev with its own devices alone
    scopes: bool = True  # where systemd runs the host, each guest has a unit of its own (docs/resources.md)
    cgroup_devices: bool = False  # each guest may open its own devices alone, said by its control group
    max_processes: int = 0  # of the user that guests run as, and threads; 0: as the agent
    max_files: int = 0  # that one guest may have open; 0: as the agent
    max_core: int = 0  # bytes of a core dump of QEMU; 0: none, -1: as it comes
    sched_core: Literal["none", "vcpus", "emulator", "full"] = "none"  # what shares a core with no other guest
    leases: bool = True  # an image that a guest writes is refused to all others (docs/ownership.md)
    lease_folder: str = ""  # where leases are, for all agents that name the same folder; empty: our own
    emulator_folders: tuple[str, ...] = ("/usr/bin", "/usr/local/bin")
    stop_timeout_s: Seconds = 10.0  # between SIGTERM and SIGKILL of a graceful destroy
    autostart_delay_s: float = 0.0
    secrets: dict[str, str] = field(default_factory=dict)  # "UUID" or "TYPE:USAGE" = the file that holds the value
    pools: dict[str, str] = field(default_factory=dict)  # storage pool = the folder with its volumes
    networks: dict[str, str] = field(default_factory=dict)  # network = the bridge that its guests are joined to
    save_image_format: str = "raw"  # of saved guests: raw, gzip, bzip2, xz or lzop
    snapshot_image_format: str = "raw"  # of the memory in snapshots
    dump_image_format: str = "raw"  # of dumps that are not of memory alone
    unplug_wait_s: Seconds = 5.0  # how long a guest may take to let a device go before the call returns without it

    vnc_listen: str = "127.0.0.1"  # the address of VNC displays that name none
    vnc_auto_unix_socket: bool = False  # they get a unix socket in the guest's folder instead
    vnc_password_file: str = ""  # its text is the password of VNC displays that have none of their own
    vnc_sasl: bool = False  # clients of VNC displays prove themselves by SASL
    vnc_sasl_folder: str = ""  # where qemu.conf of SASL is; empty: as the library has it
    spice_listen: str = "127.0.0.1"  # the same for SPICE
    spice_auto_unix_socket: bool = False
    spice_password_file: str = ""
    spice_sasl: bool = False
    spice_sasl_folder: str = ""
    display_ports: tuple[Port, Port] = (5900, 65535)  # first and last port of displays
    websocket_ports: tuple[Port, Port] = (5700, 65535)
    migration_ports: tuple[Port, Port] = (49152, 49215)  # where guests that arrive are waited for
    migration_address: str = ""  # the address there; empty: every one
    migration_host: str = ""  # what other hosts are told to call; empty: this host's name

    tls_folder: str = "/etc/pki/qemu"  # ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem
    tls_verify: bool | None = None  # clients must show a certificate of the same authority; unset: not those of VNC
    tls_secret: str = ""  # UUID of the secret with the password of the key, where that has one
    spice_tls: bool = False  # displays of type spice may use TLS
    spice_tls_folder: str = ""  # empty: tls_folder, here and below
    vnc_tls: bool = False  # displays of type vnc use TLS
    vnc_tls_folder: str = ""  # empty: /etc/pki/libvirt-vnc where that exists
    vnc_tls_verify: bool | None = None  # unset: tls_verify, here and below
    vnc_tls_secret: str = ""
    chardev_tls: bool = False  # TCP ends of serial ports and channels use TLS, unless they say otherwise
    chardev_tls_folder: str = ""  # empty: /etc/pki/libvirt-chardev where that exists
    chardev_tls_verify: bool | None = None
    chardev_tls_secret: str = ""
    nbd_tls: bool = False  # disks on NBD servers use TLS, unless they say otherwise
    nbd_tls_folder: str = ""  # empty: /etc/pki/libvirt-nbd where that exists
    nbd_tls_secret: str = ""  # empty: tls_secret, as everywhere
    backup_tls_folder: str = ""  # of backups that clients pull; empty: /etc/pki/libvirt-backup where that exists
    backup_tls_verify: bool | None = None
    backup_tls_secret: str = ""
    migrate_tls_folder: str = ""  # empty: /etc/pki/libvirt-migrate where that exists
    migrate_tls_verify: bool | None = None  # hosts that guests come from must show a certificate
    migrate_tls_secret: str = ""
    migrate_tls_force: bool = False  # a migration without TLS is refused

    huge_page_folders: tuple[str, ...] | None = None  # mounted hugetlbfs; unset: all that are mounted
    memory_backing_folder: str = ""  # files of memory that is shared; empty: our own
    dump_guest_core: bool = False  # core dumps of QEMU have the guest's memory
    auto_dump_folder: str = ""  # dumps of guests that crashed or whose watchdog fired; empty: our own
    auto_dump_bypass_cache: bool = False
    auto_start_bypass_cache: bool = False  # saved memory is read past the cache at autostart
    vnc_allow_host_audio: bool = False  # a guest with a VNC display plays through the host's QEMU_AUDIO_DRV
    nographics_allow_host_audio: bool = False  # a guest without display too
    seccomp_sandbox: bool = True  # QEMU may not start programs, gain rights or use outdated system calls
    process_names: bool = False  # a guest's process is called qemu:NAME
    log_timestamp: bool = True  # what QEMU logs has its time
    deprecation_behavior: Literal["", "none", "omit", "reject", "crash"] = ""  # of guests that say nothing themselves
    gluster_debug_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 4
