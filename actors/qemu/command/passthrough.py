"""Devices and folders of the host given to the guest, redirected USB devices, memory shared between guests."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.chardevs import add_chardev, socket_words
from actors.qemu.command.device import add_device, address_properties, rom_properties, virtio_driver, virtio_properties
from actors.qemu.command.launch import Launch, alias_of
from actors.qemu.command.line import CommandLine, Properties, comma_doubled
from actors.qemu.command.protocols import iscsi, secret_object
from conf.domain.address import DriveAddress, UnassignedAddress
from conf.domain.controller import ControllerType, ScsiModel
from conf.domain.filesystem import Filesystem, MountSource
from conf.domain.hostdev import (
    Hostdev,
    MdevSource,
    PciHostSource,
    ScsiHostSource,
    UsbHostSource,
    VhostScsiSource,
)
from conf.domain.shmem import Shmem
from conf.domain.small_devices import UsbRule
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, XmlError

_9P_DRIVERS: Final = {None: "local", "default": "local", "path": "local", "handle": "handle"}
_SECURITY: Final = {None: "passthrough", "passthrough": "passthrough", "mapped": "mapped", "squash": "none"}


def add_filesystems(launch: Launch, line: CommandLine) -> None:
    """Folders of the host. Raises ConfigUnsupported for what QEMU cannot mount."""
    for one in launch.domain.devices.filesystems:
        kind = one.driver.type if one.driver is not None else None
        if kind == "virtiofs":
            _add_virtiofs(launch, line, one)
        elif kind in _9P_DRIVERS:
            _add_9p(launch, line, one, _9P_DRIVERS[kind])
        else:
            raise ConfigUnsupported(f"filesystem driver type '{kind}' is not supported")


def _source_folder(one: Filesystem) -> str:
    if not isinstance(one.source, MountSource) or one.source.dir is None:
        raise ConfigUnsupported("only supports mount filesystem type")
    return one.source.dir


def _add_9p(launch: Launch, line: CommandLine, one: Filesystem, driver: str) -> None:
    alias = alias_of(one)
    words = [driver]
    if driver == "local":
        words.append(f"security_model={_SECURITY[one.accessmode]}")
        if one.multidevs and one.multidevs != "default":
            words.append(f"multidevs={one.multidevs}")
        if one.fmode:
            words.append(f"fmode={one.fmode:04o}")
        if one.dmode:
            words.append(f"dmode={one.dmode:04o}")
    if one.driver is not None and one.driver.wrpolicy == "immediate":
        words.append("writeout=immediate")
    words += [f"id=fsdev-{alias}", f"path={comma_doubled(_source_folder(one))}"]
    if one.readonly:
        words.append("readonly")
    line.add("-fsdev", ",".join(words))
    add_device(
        launch,
        line,
        one,
        {
            "driver": virtio_driver(launch, "virtio-9p", one, one.model),
            **virtio_properties(one.driver),
            "id": alias,
            "fsdev": f"fsdev-{alias}",
            "mount_tag": one.target_dir,
            **address_properties(launch, one),
        },
    )


def _add_virtiofs(launch: Launch, line: CommandLine, one: Filesystem) -> None:
    alias = alias_of(one)
    given = one.source.socket if isinstance(one.source, MountSource) else None
    path = given or str(launch.folder / f"{alias}-fs.sock")
    line.add("-chardev", f"socket,id=chr-vu-{alias},path={comma_doubled(path)}")
    add_device(
        launch,
        line,
        one,
        {
            "driver": virtio_driver(launch, "vhost-user-fs", one),
            **virtio_properties(one.driver),
            "id": alias,
            "chardev": f"chr-vu-{alias}",
            "queue-size": one.driver.queue if one.driver is not None else None,
            "tag": one.target_dir,
            "bootindex": launch.boot_index(one),
            **address_properties(launch, one),
        },
    )


def add_redirected(launch: Launch, line: CommandLine) -> None:
    """USB devices that a client of the display gives."""
    rules = launch.domain.devices.redirfilter
    for one in launch.domain.devices.redirdevs:
        alias = alias_of(one)
        add_chardev(launch, line, one, f"char{alias}", alias, vmc="usbredir")
        words = None
        if rules is not None:
            words = "|".join(_rule_words(rule) for rule in rules.rules)
        line.add_json(
            "-device",
            {
                "driver": "usb-redir",
                "chardev": f"char{alias}",
                "id": alias,
                "filter": words,
                "bootindex": launch.boot_index(one),
                **address_properties(launch, one),
            },
        )


def _rule_words(rule: UsbRule) -> str:
    """What usb-redir reads: numbers in hexadecimal, -1 for any."""
    numbers = [(rule.usb_class, 2), (rule.vendor, 4), (rule.product, 4), (rule.version, 4)]
    words = ["-1" if number is None else f"0x{number:0{digits}X}" for number, digits in numbers]
    return ":".join([*words, str(int(rule.allow))])


def add_hostdevs(launch: Launch, line: CommandLine, first_image: int) -> None:
    """Devices of the host; `first_image` is the first number that no image of a disk has."""
    number = first_image
    for one in launch.hostdevs():
        source = one.source
        if isinstance(one.address, UnassignedAddress):
            continue
        if isinstance(source, PciHostSource):
            add_device(launch, line, one, _pci(launch, one, source))
        elif isinstance(source, UsbHostSource):
            if source.missing:
                continue  # the host does not have it, and the guest does without
            line.add_json("-device", _usb(launch, one, source))
        elif isinstance(source, MdevSource):
            add_device(launch, line, one, _mdev(launch, one, source))
        elif isinstance(source, ScsiHostSource):
            _add_scsi(launch, line, one, source, number)
            number += 1
        elif isinstance(source, VhostScsiSource):
            add_device(launch, line, one, _vhost_scsi(launch, one, source))
        else:
            raise ConfigUnsupported(f"hostdev type '{one.type}' is not supported")


def _pci(launch: Launch, one: Hostdev, source: PciHostSource) -> Properties:
    if source.address is None:
        raise ConfigUnsupported("a PCI host device needs an address")
    a = source.address
    return {
        "driver": "vfio-pci",
        "host": f"{a.domain:04x}:{a.bus:02x}:{a.slot:02x}.{a.function:x}",
        "id": alias_of(one),
        "failover_pair_id": one.teaming.persistent if one.teaming is not None else None,
        "bootindex": launch.boot_index(one),
        **address_properties(launch, one),
        **rom_properties(one),
    }


def _usb(launch: Launch, one: Hostdev, source: UsbHostSource) -> Properties:
    if source.address is None:
        raise ConfigUnsupported("USB host device is missing bus/device information")
    bus, number = source.address.bus, source.address.device
    place: Properties = {"hostbus": bus, "hostaddr": number}
    if launch.caps.has("usb-host.hostdevice"):
        place = {"hostdevice": f"/dev/bus/usb/{bus:03}/{number:03}"}
    return {
        "driver": "usb-host",
        **place,
        "id": alias_of(one),
        "bootindex": launch.boot_index(one),
        **_RESETS.get(source.guest_reset, {}),
        **address_properties(launch, one),
    }


_RESETS: Final[dict[str | None, Properties]] = {
    "off": {"guest-reset": False},
    "uninitialized": {"guest-reset": True},
    "on": {"guest-reset": True, "guest-resets-all": True},
}
"""Whether a guest may reset the host's device."""


def _mdev(launch: Launch, one: Hostdev, source: MdevSource) -> Properties:
    if source.address is None:
        raise ConfigUnsupported("a mediated device needs a uuid")
    driver = {None: "vfio-pci", "vfio-pci": "vfio-pci", "vfio-ccw": "vfio-ccw", "vfio-ap": "vfio-ap"}[one.model]
    if one.ramfb:
        driver = "vfio-pci-nohotplug"
    return {
        "driver": driver,
        "id": alias_of(one),
        "sysfsdev": f"/sys/bus/mdev/devices/{source.address.uuid}",
        "display": None if one.display is None else ("on" if one.display else "off"),
        "ramfb": True if one.ramfb else None,
        "bootindex": launch.boot_index(one),
        **address_properties(launch, one),
    }


def _add_scsi(launch: Launch, line: CommandLine, one: Hostdev, source: ScsiHostSource, number: int) -> None:
    name = f"libvirt-{number}-backend"
    if source.protocol == "iscsi":
        secret = None
        if source.auth is not None and source.auth.secret is not None:
            secret = f"{name}-secret0"
            data, vector = launch.host.secret(source.auth.secret)
            line.add_json("-object", secret_object(secret, data, vector))
        user = source.auth.username if source.auth is not None else None
        node = iscsi(source.name or "", source.hosts, source.initiator, user, secret)
    else:
        if source.adapter is None or source.address is None:
            raise ConfigUnsupported("a SCSI host device needs adapter and address")
        at = source.address
        path = launch.host.scsi_generic(source.adapter.name, at.bus, at.target, at.unit)
        node = {"driver": "host_device", "filename": path}
    line.add_json("-blockdev", {**node, "node-name": name, "read-only": one.readonly})
    if not isinstance(one.address, DriveAddress):
        raise ConfigUnsupported("a SCSI host device needs a drive address")
    address = one.address
    bus = launch.controller_alias(ControllerType.SCSI, address.controller)
    properties: Properties = {
        "driver": "scsi-generic",
        "drive": name,
        "id": alias_of(one),
        "bootindex": launch.boot_index(one),
        "bus": f"{bus}.0",
    }
    controller = launch.find_controller(ControllerType.SCSI, address.controller)
    if controller is not None and controller.model == ScsiModel.LSILOGIC:
        properties["scsi-id"] = address.unit
    else:
        properties |= {"channel": address.bus, "scsi-id": address.target, "lun": address.unit}
    if one.shareable:
        properties["share-rw"] = True
    line.add_json("-device", properties)


def _vhost_scsi(launch: Launch, one: Hostdev, source: VhostScsiSource) -> Properties:
    return {
        "driver": virtio_driver(launch, "vhost-scsi", one, one.model),
        "wwpn": source.wwpn,
        "vhostfd": str(launch.host.vhost_scsi()),
        "id": alias_of(one),
        "bootindex": launch.boot_index(one),
        **address_properties(launch, one),
    }


def add_shmems(launch: Launch, line: CommandLine) -> None:
    """Memory shared between guests."""
    for one in launch.domain.devices.shmems:
        _add_shmem(launch, line, one)


_LEAST_SHMEM = 1 << 20


def _add_shmem(launch: Launch, line: CommandLine, one: Shmem) -> None:
    alias = alias_of(one)
    properties: Properties = {"driver": one.model or "ivshmem-plain", "id": alias}
    size = one.size.value * (bytes_per_unit(one.size.unit or "B") or 1) if one.size is not None else 0
    if one.size is not None and size < _LEAST_SHMEM:
        raise XmlError("shmem size must be at least 1 MiB (1024 KiB)")
    if size & (size - 1):
        raise XmlError("shmem size must be a power of two")
    chardev = None
    if one.server is not None and (one.model in ("ivshmem", "ivshmem-doorbell")):
        path = one.server.path or f"{launch.options.shmem_folder}/shmem-{one.name}-sock"
        chardev = socket_words(launch, f"char{alias}", path, False)
    if one.model == "ivshmem":
        properties |= _old_shmem(one, chardev is not None)
    elif one.model == "ivshmem-doorbell":
        properties["chardev"] = f"char{alias}"
        if one.msi is not None:
            properties["vectors"] = one.msi.vectors
            properties["ioeventfd"] = one.msi.ioeventfd
    else:
        size = 4 * 1024 * 1024
        if one.size is not None:
            size = one.size.value * (bytes_per_unit(one.size.unit or "B") or 1)
        line.add_json(
            "-object",
            {
                "qom-type": "memory-backend-file",
                "id": f"shmmem-{alias}",
                "mem-path": f"/dev/shm/{one.name}",
                "size": size,
                "share": True,
            },
        )
        properties["memdev"] = f"shmmem-{alias}"
        properties["master"] = None if one.role is None else "on" if one.role == "master" else "off"
    add_device(launch, line, one, {**properties, **address_properties(launch, one)})
    if chardev is not None:
        line.add("-chardev", chardev)


def _old_shmem(one: Shmem, has_server: bool) -> Properties:
    size = 4 * 1024 * 1024 if one.size is None else one.size.value * (bytes_per_unit(one.size.unit or "B") or 1)
    properties: Properties = {"size": f"{size >> 20}m"}
    if not has_server:
        return {**properties, "shm": one.name}
    properties["chardev"] = f"char{one.alias}"
    if one.msi is not None:
        properties["msi"] = True
        properties["vectors"] = one.msi.vectors
        properties["ioeventfd"] = one.msi.ioeventfd
    return properties
