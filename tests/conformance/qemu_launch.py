"""The host of the recorded command lines: fixed descriptors, folders and secrets, as the corpus describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from actors.qemu.command.build import build_command
from actors.qemu.command.launch import HugePageMount, Launch, Options
from actors.qemu.command.line import CommandLine
from actors.qemu.needs import seal
from actors.qemu.prepare import Places, prepare_domain
from actors.qemu.processors import Processors
from actors.qemu.rules import QemuRules
from actors.qemu.volumes import source_of_volume
from conf.domain.documents import parse_domain
from conf.domain.interface import Interface, InterfaceTarget
from conf.domain.secrets import SecretRef
from conf.domain.storage_source import StorageSource, VolumeSource
from conf.flags import ParseFlags
from conf.storage.pool import Pool
from schema.errors import ConfigUnsupported
from tests.shared import need_shared

LISTENER: Final = 1729
NOW: Final = datetime.fromtimestamp(1234567890, timezone(-timedelta(minutes=30)))
"""The moment of the recordings, on a host that is half an hour off."""
_SECRET: Final = "9eao5F8qtkGt+seB1HYivWIxbtwUu6MQtg1zpj/oDtUsPr1q8wBYM91uEHCn6j/1"
_VECTOR: Final = "AAECAwQFBgcICQoLDA0ODw=="

OPTIONS: Final = Options(
    memory_folder="/var/lib/libvirt/qemu/ram",
    huge_pages=(
        HugePageMount(2048, "/dev/hugepages2M", is_default=True),
        HugePageMount(1048576, "/dev/hugepages1G"),
    ),
    huge_page_folder="libvirt/qemu",
    vnc_tls_folder="/etc/pki/libvirt-vnc",
    spice_tls=True,
    spice_password=True,
    spice_tls_folder="/etc/pki/libvirt-spice",
    chardev_tls_folder="/etc/pki/libvirt-chardev",
    nbd_tls_folder="/etc/pki/libvirt-nbd/dummy,path",
    dbus_folder="/bad-test-used-env-xdg-runtime-dir/libvirt/qemu/run/dbus",
    shmem_folder="/var/lib/libvirt",
    host_nodes=frozenset(range(8)),
    vxhs_tls_folder="/etc/pki/libvirt-vxhs/dummy,path",
    environment=(("PATH", "/bin"), ("USER", "test"), ("LOGNAME", "test")),
)


@dataclass
class RecordedHost:
    """Gives the descriptors of the recordings."""

    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    name: str = ""
    next_tap: int = 3
    next_vhost: int = 44

    def listen(self, path: str) -> int:
        return LISTENER

    def connect(self, purpose: str) -> int:
        return LISTENER

    def open_file(self, path: str, *, append: bool) -> int:
        return 1750

    def open_log(self, path: str, *, append: bool) -> int:
        return 1751

    def open_device(self, path: str, what: str) -> int:
        return {"tpm": 1730, "tpm-cancel": 1731, "vdpa": 1732}[what]

    def taps(self, interface: Interface) -> Sequence[int]:
        queues = (interface.driver.queues if interface.driver is not None else None) or 1
        first, self.next_tap = self.next_tap, self.next_tap + queues
        interface.target = interface.target or InterfaceTarget()
        interface.target.dev = interface.target.dev or f"vnet{first - 3}"
        return range(first, first + queues)

    def vhosts(self, interface: Interface, queues: int) -> Sequence[int]:
        first, self.next_vhost = self.next_vhost, self.next_vhost + queues
        return range(first, first + queues)

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        return 6789, 42 if cid is None else cid

    def vhost_scsi(self) -> int:
        return 3

    def volume(self, source: VolumeSource) -> StorageSource:
        raise ConfigUnsupported(f"storage pool '{source.pool}' is not available")

    def secret(self, ref: SecretRef) -> tuple[str, str]:
        return _SECRET, _VECTOR

    def render_node(self) -> str:
        return "/dev/dri/foo"

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        return "/dev/sg0"

    def fd_group(self, name: str) -> Sequence[int]:
        if name not in self.groups:
            raise ConfigUnsupported(f"fd group '{name}' was not associated with the domain")
        return self.groups[name]

    def seal(self, text: str) -> tuple[str, str]:
        """With the recordings' key and vector: 0, 1, 2, ..."""
        return seal(text.encode(), bytes(range(32)), bytes(range(16)))

    def passt_socket(self, alias: str) -> str:
        return f"/bad-test-used-env-xdg-runtime-dir/libvirt/qemu/run/passt/-1-{self.name}-{alias}.socket"

    def is_optical(self, path: str) -> bool:
        return path.startswith("/dev/cdrom")

    def tpm_socket(self, alias: str) -> str:
        return "/dev/test"


class RecordedPorts:
    """The first ports of each range are free."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, purpose: str, first: int, last: int) -> int:
        fixed = {"spice": 5901, "spice-tls": 5902}
        if purpose in fixed:
            return fixed[purpose]
        port = next(one for one in range(first, last + 1) if one not in self._taken)
        self._taken.add(port)
        return port


def firmware_folders() -> tuple[Path, ...]:
    """The descriptors of the recordings, in the order in which they replace one another."""
    root = need_shared("corpus", "qemu", "qemufirmwaredata")
    parts = ("usr/share/qemu/firmware", "etc/qemu/firmware", "home/user/.config/qemu/firmware")
    return tuple(root / part for part in parts)


def options_of(state: Mapping[str, Any]) -> Options:
    """The driver's settings that a case was recorded with."""
    names = {
        "config.vncTLS": "vnc_tls",
        "config.vncTLSx509verify": "vnc_tls_verify",
        "config.vncTLSx509secretUUID": "vnc_tls_secret",
        "config.vncSASL": "vnc_sasl",
        "config.vncSASLdir": "vnc_sasl_folder",
        "config.spiceSASL": "spice_sasl",
        "config.spiceSASLdir": "spice_sasl_folder",
        "config.chardevTLS": "chardev_tls",
        "config.chardevTLSx509secretUUID": "chardev_tls_secret",
        "config.nbdTLSx509secretUUID": "nbd_tls_secret",
        "config.nogfxAllowHostAudio": "host_audio_without_display",
        "config.vxhsTLS": "vxhs_tls",
        "config.vxhsTLSx509secretUUID": "vxhs_tls_secret",
        "config.dumpGuestCore": "dump_core",
    }
    values: dict[str, Any] = {}
    for key, name in names.items():
        if state.get(key) is not None:
            kind = type(getattr(OPTIONS, name))
            values[name] = kind(state[key])
    return replace(OPTIONS, **values)


def _volume(source: VolumeSource, pools: Mapping[str, Pool] | None) -> StorageSource:
    pool = (pools or {}).get(source.pool)
    if pool is None:
        raise ConfigUnsupported(f"storage pool '{source.pool}' containing volume '{source.volume}' is not active")
    kind, plus, name = source.volume.partition("+")
    if not plus:
        kind, name = "block", source.volume
    return source_of_volume(source, pool, f"/some/{kind}/device/{name}", kind)


def build_recorded(
    xml: str,
    rules: QemuRules,
    state: Mapping[str, Any],
    groups: Mapping[str, Sequence[int]],
    flags: ParseFlags = ParseFlags.INACTIVE,
    incoming: str | None = None,
    *,
    fips: bool = False,
    processors: Processors | None = None,
    pools: Mapping[str, Pool] | None = None,
) -> CommandLine:
    """The command line of a document, made as a start makes it, on the host of the recordings.

    Raises VirtError where the document or the start is refused.
    """
    caps = rules.capabilities
    domain = parse_domain(xml, rules, flags)
    for disk in domain.devices.disks:
        if isinstance(disk.source, VolumeSource):
            disk.source, disk.auth = _volume(disk.source, pools), None
    folder = Path(f"/tmp/lib/domain--1-{domain.name[:20]}")
    host = RecordedHost(groups, domain.name[:20])
    places = Places(
        folder=folder,
        channels=Path("/tmp/channel"),
        vnc_socket=bool(state.get("config.vncAutoUnixSocket")),
        spice_socket=bool(state.get("config.spiceAutoUnixSocket")),
        spice_tls=True,
        nvram=Path("/var/lib/libvirt/qemu/nvram"),
        firmwares=firmware_folders(),
    )
    prepare_domain(
        domain, rules, places, RecordedPorts(), host.render_node, incoming=incoming is not None, processors=processors
    )
    options = replace(options_of(state), fips=fips)
    return build_command(Launch(domain, caps, options, folder, host, LISTENER, incoming=incoming, now=NOW))


def words_of(line: CommandLine) -> list[str]:
    """Environment and words, as they stand in a recording."""
    return [*(f"{name}={value}" for name, value in line.environment.items()), *line.words]


def same_words(one: Sequence[str], other: Sequence[str]) -> bool:
    """Equal word by word; JSON words as values."""
    return len(one) == len(other) and all(a == b or _same_json(a, b) for a, b in zip(one, other, strict=True))


def _same_json(one: str, other: str) -> bool:
    value = _json(one)
    return value is not None and value == _json(other)


def _json(word: str) -> Any:
    if not word.startswith("{"):
        return None
    try:
        return json.loads(word)
    except ValueError:
        return None
