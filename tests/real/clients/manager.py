"""Run by the system's own Python: does what virt-manager's connection does, then keeps on looking. `manager.py URI`.

Writes a line for each thing that happens: `ready FACTS`, `event ...`, `closed REASON`, `again FACTS`. It connects again
when it is told that its connection ended, and stops when its standard input ends.
"""

import json
import sys
import threading

import libvirt

libvirt.registerErrorHandler(lambda context, error: None, None)
libvirt.virEventRegisterDefaultImpl()
LOCK = threading.Lock()


def say(*words):
    with LOCK:
        print(*words, flush=True)


def run_loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def attempt(function, *args):
    """What a function gives, or the code of its error: many are not supported by every driver."""
    try:
        return function(*args)
    except libvirt.libvirtError as exc:
        return exc.get_error_code()


def credentials(wanted, opaque):
    return -1


class Manager:
    def __init__(self, uri):
        self.uri = uri
        self.closed = threading.Event()

    def open(self):
        auth = [[libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE], credentials, None]
        self.conn = libvirt.openAuth(self.uri, auth, 0)
        self.conn.setKeepAlive(20, 1)
        self.conn.registerCloseCallback(self.on_close, None)
        self.registered = [
            self.conn.domainEventRegisterAny(None, number, self.on_event, name)
            for name, number in self.domain_events().items()
        ]
        self.conn.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, self.on_event, "network")
        for number in (libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH):
            self.conn.storagePoolEventRegisterAny(None, number, self.on_event, "pool")
        for number in (libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE):
            self.conn.nodeDeviceEventRegisterAny(None, number, self.on_event, "device")
        return self.look()

    @staticmethod
    def domain_events():
        prefix = "VIR_DOMAIN_EVENT_ID_"
        names = [name for name in dir(libvirt) if name.startswith(prefix) and not name.endswith("_LAST")]
        return {name[len(prefix) :].lower(): getattr(libvirt, name) for name in names}

    def on_event(self, conn, thing, *more):
        say("event", more[-1], thing.name(), *more[:2])

    def on_close(self, conn, reason, opaque):
        say("closed", reason)
        self.closed.set()

    def look(self):
        """Everything that is shown once: what the host has, and each object's document and state."""
        conn = self.conn
        facts = {"caps": len(conn.getCapabilities()), "type": conn.getType(), "version": conn.getVersion()}
        attempt(conn.getSysinfo)
        attempt(conn.getDomainCapabilities)
        kinds = {
            "domains": conn.listAllDomains, "networks": conn.listAllNetworks, "pools": conn.listAllStoragePools,
            "interfaces": conn.listAllInterfaces, "devices": conn.listAllDevices, "secrets": conn.listAllSecrets,
            "filters": conn.listAllNWFilters,
        }  # fmt: skip
        for kind, list_all in kinds.items():
            found = attempt(list_all)
            facts[kind] = (
                sorted(one.name() for one in found if hasattr(one, "name")) if isinstance(found, list) else found
            )
            for one in found if isinstance(found, list) else []:
                assert one.XMLDesc(0).startswith("<"), kind
                for fact in ("isActive", "isPersistent", "autostart", "info", "state"):
                    if hasattr(one, fact):
                        attempt(getattr(one, fact))
                if kind == "pools" and one.isActive():
                    facts["volumes"] = [vol.XMLDesc(0) for vol in one.listAllVolumes()] and "some"
        for domain in conn.listAllDomains():
            for ask in (domain.hasManagedSaveImage, domain.listAllSnapshots, domain.jobInfo, domain.memoryStats):
                attempt(ask)
            attempt(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            attempt(domain.blockStats, "vda")
        facts["stats"] = sorted(record[0].name() for record in conn.getAllDomainStats())
        facts["events"] = len(self.registered)
        facts["alive"] = conn.isAlive()
        return facts


def main(uri):
    threading.Thread(target=run_loop, daemon=True).start()
    manager = Manager(uri)
    say("ready", json.dumps(manager.open()))
    threading.Thread(target=watch, args=(manager,), daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "look":
            say("looked", json.dumps(manager.look()))


def watch(manager):
    while True:
        manager.closed.wait()
        manager.closed.clear()
        attempt(manager.conn.close)
        facts = attempt(manager.open)
        if isinstance(facts, dict):
            say("again", json.dumps(facts))
        else:
            say("refused", facts)


main(*sys.argv[1:])
