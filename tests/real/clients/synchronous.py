"""Run by the system's own Python: libvirt's binding as scripts use it, without an event loop.

Arguments: a URI and a document of a guest that does not exist. Prints what it found, as JSON.
"""

import json
import sys
from pathlib import Path

import libvirt


def quiet(*_):
    """libvirt prints errors unless it is told where they go."""


def main(uri, document):
    libvirt.registerErrorHandler(quiet, None)
    conn = libvirt.open(uri)
    found = {"type": conn.getType(), "uri": conn.getURI(), "lib": conn.getLibVersion(), "host": conn.getHostname()}
    found["cpus"] = conn.getInfo()[2]
    xml = Path(document).read_text(encoding="utf-8")
    domain = conn.defineXML(xml)
    name = domain.name()
    states = [domain.isActive(), domain.isPersistent()]
    domain.create()
    states.append(domain.state()[0])
    domain.suspend()
    states.append(domain.state()[0])
    domain.resume()
    found["autostart"] = domain.autostart()
    domain.setAutostart(1)
    found["autostart"] += domain.autostart()
    domain.setMemoryFlags(32768, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    found["xml"] = name in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    found["listed"] = name in [each.name() for each in conn.listAllDomains()]
    found["by uuid"] = conn.lookupByUUIDString(domain.UUIDString()).name() == name
    found["counted"] = conn.numOfDomains() == len(conn.listDomainsID())
    domain.destroy()
    states.append(domain.state()[0])
    domain.undefine()
    found["states"] = states
    try:
        conn.lookupByName(name)
    except libvirt.libvirtError as exc:
        found["error"] = [exc.get_error_code(), exc.get_error_domain(), exc.get_str2()]
    reader = libvirt.openReadOnly(uri)
    try:
        reader.defineXML(xml)
    except libvirt.libvirtError as exc:
        found["read only"] = exc.get_error_code()
    second = libvirt.open(uri)
    found["second"] = second.getURI() == conn.getURI()
    del domain
    found["left"] = [reader.close(), second.close(), conn.close()]
    json.dump(found, sys.stdout)


main(*sys.argv[1:])
