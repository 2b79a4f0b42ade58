"""Run by the system's own Python: libvirt's binding with its asyncio event loop, every callback registered.

Arguments: a URI and the name of a guest that is running. Prints what was called and told, as JSON.
"""

import asyncio
import json
import sys

import libvirt
import libvirtaio

NAMES = {
    "domain": "VIR_DOMAIN_EVENT_ID_",
    "network": "VIR_NETWORK_EVENT_ID_",
    "pool": "VIR_STORAGE_POOL_EVENT_ID_",
    "device": "VIR_NODE_DEVICE_EVENT_ID_",
    "secret": "VIR_SECRET_EVENT_ID_",
}


def event_ids(prefix):
    found = {name[len(prefix) :].lower(): getattr(libvirt, name) for name in dir(libvirt) if name.startswith(prefix)}
    return {name: number for name, number in found.items() if name != "last"}


async def until(condition, what):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise SystemExit("it did not happen that " + what)


async def main(uri, name):
    libvirtaio.virEventRegisterAsyncIOImpl()
    conn = libvirt.open(uri)
    told = []
    closed = []
    conn.registerCloseCallback(lambda conn, reason, opaque: closed.append(reason), None)
    conn.setKeepAlive(5, 3)
    registered = {}
    register = {
        "domain": conn.domainEventRegisterAny,
        "network": conn.networkEventRegisterAny,
        "pool": conn.storagePoolEventRegisterAny,
        "device": conn.nodeDeviceEventRegisterAny,
        "secret": conn.secretEventRegisterAny,
    }
    deregister = {
        "domain": conn.domainEventDeregisterAny,
        "network": conn.networkEventDeregisterAny,
        "pool": conn.storagePoolEventDeregisterAny,
        "device": conn.nodeDeviceEventDeregisterAny,
        "secret": conn.secretEventDeregisterAny,
    }
    refused = []
    for family, prefix in NAMES.items():
        for event, number in sorted(event_ids(prefix).items()):

            def callback(conn, thing, *more, family=family, event=event):
                told.append([family, event, thing.name() if hasattr(thing, "name") else thing.UUIDString(), more[:2]])

            try:
                registered[family, event] = register[family](None, number, callback, None)
            except libvirt.libvirtError as exc:
                refused.append([family, event, exc.get_error_message()])
    domain = conn.lookupByName(name)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, domain.suspend)
    await loop.run_in_executor(None, domain.resume)
    await until(lambda: len([e for e in told if e[:3] == ["domain", "lifecycle", name]]) >= 2, "two events were told")
    uri_metadata = "http://example.org/virtroupe"
    await loop.run_in_executor(
        None, domain.setMetadata, libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<x/>", "v", uri_metadata, 0
    )
    await until(lambda: any(e[1] == "metadata_change" for e in told), "a change of metadata was told")
    for (family, _), number in registered.items():
        deregister[family](number)
    before = len(told)
    await loop.run_in_executor(None, domain.suspend)
    await loop.run_in_executor(None, domain.resume)
    await asyncio.sleep(0.3)
    after = len(told)
    conn.unregisterCloseCallback()
    stats = conn.getAllDomainStats()
    result = {
        "registered": len(registered),
        "refused": refused,
        "told": [[a, b, c, list(d)] for a, b, c, d in told],
        "silent": before == after,
        "closed": closed,
        "stats": [record[0].name() for record in stats],
        "alive": conn.isAlive(),
        "left": conn.close(),
    }
    json.dump(result, sys.stdout, default=str)


asyncio.run(main(*sys.argv[1:]))
