"""The fake host's network interfaces, and changes of them that can be taken back together."""

from __future__ import annotations

import msgspec

from actors.runtime.calls import Calls
from actors.test.described import interface_record
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.kinds import INTERFACE
from actors.test.records import InterfaceRecord
from conf.host_interface.documents import parse_host_interface
from schema.enums.error import ErrorCode
from schema.errors import DomainStateError, NoSuchInterface, VirtError
from schema.objects import InterfaceRef

calls: Calls[TestHost] = Calls()

_VALIDATE = 1


@calls.handles()
async def interface_define_xml(host: TestHost, xml: str, flags: int) -> InterfaceRef:
    """Makes an interface, or changes one. Raises XmlError for a document that cannot be used."""
    check_flags(flags, _VALIDATE, "testInterfaceDefineXML")
    interface = parse_host_interface(xml, validate=bool(flags & _VALIDATE))
    async with host.runtime.mailbox(("interface", interface.name)).change():
        old = host.world.interfaces.get(interface.name)
        record = interface_record(interface, active=old is not None and old.active)
        ref = InterfaceRef(record.name, record.mac)
        await host.commit_record(INTERFACE, record, result=ref)
    return ref


@calls.handles(key="iface")
async def interface_undefine(host: TestHost, iface: InterfaceRef) -> None:
    """Forgets an interface, also an active one. Raises NoSuchInterface."""
    await host.drop_record(INTERFACE, _need(host, iface))


@calls.handles(key="iface")
async def interface_create(host: TestHost, iface: InterfaceRef, flags: int) -> None:
    """Sets an interface up. Raises NoSuchInterface, DomainStateError."""
    check_flags(flags, 0, "testInterfaceCreate")
    await _set_active(host, _need(host, iface), active=True)


@calls.handles(key="iface")
async def interface_destroy(host: TestHost, iface: InterfaceRef, flags: int) -> None:
    """Sets an interface down. Raises NoSuchInterface, DomainStateError."""
    check_flags(flags, 0, "testInterfaceDestroy")
    await _set_active(host, _need(host, iface), active=False)


@calls.handles()
def interface_get_xml_desc(host: TestHost, iface: InterfaceRef, flags: int) -> str:
    """An interface's definition. Raises NoSuchInterface."""
    check_flags(flags, 0, "testInterfaceGetXMLDesc")
    return _need(host, iface).xml


@calls.handles()
def interface_lookup_by_mac_string(host: TestHost, mac: str) -> InterfaceRef:
    """The interface with that address. Raises NoSuchInterface, and VirtError when several have it."""
    found = [one for one in host.world.interfaces.values() if one.mac.lower() == mac.lower()]
    if not found:
        raise NoSuchInterface(f"no interface with matching mac '{mac}'")
    if len(found) > 1:
        raise VirtError("multiple matching interfaces found", code=ErrorCode.MULTIPLE_INTERFACES)
    return InterfaceRef(found[0].name, found[0].mac)


@calls.handles()
async def interface_change_begin(host: TestHost, flags: int) -> None:
    """Remembers all interfaces as they are. Raises DomainStateError when they are remembered already."""
    check_flags(flags, 0, "testInterfaceChangeBegin")
    async with host.runtime.mailbox(("interfaces", host.world.scope)).change():
        if host.world.record.interfaces_before is not None:
            raise DomainStateError("there is another transaction running.")
        await host.touch(host.world)
        await host.write_world(host.world, interfaces_before=list(host.world.interfaces.values()))


@calls.handles()
async def interface_change_commit(host: TestHost, flags: int) -> None:
    """Forgets how the interfaces were. Raises DomainStateError when nothing was remembered."""
    check_flags(flags, 0, "testInterfaceChangeCommit")
    async with host.runtime.mailbox(("interfaces", host.world.scope)).change():
        if host.world.record.interfaces_before is None:
            raise DomainStateError("no transaction running, nothing to be committed.")
        await host.touch(host.world)
        await host.write_world(host.world, interfaces_before=None)


@calls.handles()
async def interface_change_rollback(host: TestHost, flags: int) -> None:
    """Brings all interfaces back as they were. Raises DomainStateError when nothing was remembered."""
    check_flags(flags, 0, "testInterfaceChangeRollback")
    async with host.runtime.mailbox(("interfaces", host.world.scope)).change():
        before = host.world.record.interfaces_before
        if before is None:
            raise DomainStateError("no transaction running, nothing to rollback.")
        for record in before:
            # libvirt's test driver forgets which of them were up
            await host.commit_record(INTERFACE, msgspec.structs.replace(record, active=False), completes=False)
        kept = {record.name for record in before}
        for record in [one for one in host.world.interfaces.values() if one.name not in kept]:
            await host.drop_record(INTERFACE, record, completes=False)
        await host.write_world(host.world, interfaces_before=None)


async def _set_active(host: TestHost, record: InterfaceRecord, *, active: bool) -> None:
    if record.active == active:
        raise DomainStateError
    await host.commit_record(INTERFACE, msgspec.structs.replace(record, active=active))


def _need(host: TestHost, iface: InterfaceRef) -> InterfaceRecord:
    record = host.world.interfaces.get(iface.name)
    if record is None:
        raise NoSuchInterface(f"no interface with matching name '{iface.name}'")
    return record
