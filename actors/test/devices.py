"""The fake host's devices; those of a fibre channel adapter can be made and destroyed."""

from __future__ import annotations

from typing import Any, Final

from actors.runtime.calls import Calls
from actors.runtime.derived.lists import listed
from actors.test.described import device_record
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.kinds import DEVICE
from actors.test.records import DeviceRecord
from conf.node_device.device import NodeDevice, ScsiHostCapability, ScsiHostFeature
from conf.node_device.documents import parse_node_device
from schema.enums.node_device import ConnectListAllNodeDeviceFlags as Listed
from schema.enums.node_device import NodeDeviceEventLifecycleType as Event
from schema.errors import ErrorDomain, InternalError, NoSuchNodeDevice, RefusedDocument, UnsupportedCall
from schema.host_summaries import known_flags
from schema.objects import NodeDeviceRef

calls: Calls[TestHost] = Calls()

_VALIDATE: Final = 1
_MADE_NAME: Final = "scsi_host12"  # every adapter that is made gets this name, as in libvirt's test driver
_MADE_HOST: Final = 11
_MADE_UNIQUE_ID: Final = 10
_FABRIC: Final = "2000000043214321"
_KNOWN: Final = known_flags("node_device") & ~int(Listed.ACTIVE | Listed.INACTIVE)


@calls.handles()
def connect_list_all_node_devices(host: TestHost, need_results: int, flags: int) -> dict[str, Any]:
    """The devices that the flags select."""
    check_flags(flags, _KNOWN, "testConnectListAllNodeDevices")
    return listed(host, "node_device", "devices", need_results, flags)


@calls.handles()
def node_device_get_xml_desc(host: TestHost, name: str, flags: int) -> str:
    """A device's description. Raises NoSuchNodeDevice."""
    check_flags(flags, 0, "testNodeDeviceGetXMLDesc")
    return _need(host, name).xml


@calls.handles()
async def node_device_create_xml(host: TestHost, xml_desc: str, flags: int) -> NodeDeviceRef:
    """Makes a port of a fibre channel adapter.

    Raises XmlError, and InternalError for anything else, or when the adapter is not there.
    """
    check_flags(flags, _VALIDATE, "testNodeDeviceCreateXML")
    described = parse_node_device(xml_desc, validate=bool(flags & _VALIDATE))
    capability = described.capability
    fabric = capability.fabric() if isinstance(capability, ScsiHostCapability) else None
    if fabric is None:
        raise InternalError("Device is not a fibre channel HBA")
    if fabric.wwnn is None or fabric.wwpn is None:
        missing = "WWNN" if fabric.wwnn is None else "WWPN"
        raise RefusedDocument(
            f"no {missing} supplied for 'new device', and auto-generation failed", domain=ErrorDomain.NODEDEV
        )
    parent = described.parent or _first_adapter(host)
    if parent not in host.world.devices:
        raise _no_parent()
    if "vport_ops" not in host.world.devices[parent].xml:
        raise RefusedDocument(f"Parent device {parent} is not capable of vport operations", domain=ErrorDomain.NODEDEV)
    port = ScsiHostFeature(type="fc_host", wwnn=fabric.wwnn, wwpn=fabric.wwpn, fabric_wwn=_FABRIC)
    made = NodeDevice(
        name=_MADE_NAME,
        parent=parent,
        capability=ScsiHostCapability(host=_MADE_HOST, unique_id=_MADE_UNIQUE_ID, features=[port]),
    )
    ref = NodeDeviceRef(_MADE_NAME)
    async with host.runtime.mailbox(("node_device", _MADE_NAME)).change():
        record = device_record(made)
        await host.commit_record(DEVICE, record, _told(record, Event.CREATED), result=ref)
    return ref


@calls.handles()
async def node_device_destroy(host: TestHost, name: str) -> None:
    """Destroys a device; one that is on no other stays, though nobody is told. Raises NoSuchNodeDevice."""
    async with host.runtime.mailbox(("node_device", name)).change():
        record = _need(host, name)
        if record.parent is not None:
            await host.drop_record(DEVICE, record, _told(record, Event.DELETED))


@calls.handles()
def node_device_is_active(host: TestHost, name: str) -> int:
    """libvirt's test driver does not answer this."""
    raise UnsupportedCall("virNodeDeviceIsActive")


@calls.handles()
def node_device_is_persistent(host: TestHost, name: str) -> int:
    """libvirt's test driver does not answer this."""
    raise UnsupportedCall("virNodeDeviceIsPersistent")


@calls.handles()
def node_device_get_autostart(host: TestHost, name: str) -> int:
    """libvirt's test driver does not answer this."""
    raise UnsupportedCall("virNodeDeviceGetAutostart")


def _first_adapter(host: TestHost) -> str:
    for record in host.world.devices.values():
        if record.parent is not None and "vport_ops" in record.xml:
            return record.name
    raise _no_parent()


def _no_parent() -> RefusedDocument:
    return RefusedDocument("Could not find parent device for 'new device'", domain=ErrorDomain.NODEDEV)


def _need(host: TestHost, name: str) -> DeviceRecord:
    record = host.world.devices.get(name)
    if record is None:
        raise NoSuchNodeDevice(f"no node device with matching name '{name}'")
    return record


def _told(record: DeviceRecord, event: Event) -> list[tuple[str, dict[str, Any]]]:
    data = {"dev": NodeDeviceRef(record.name), "event": int(event), "detail": 0}
    return [("node_device_event_lifecycle", data)]
