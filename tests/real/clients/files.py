"""A client of libvirt-python that passes open files: displays, disks, the monitor. `files.py URI XML DISK`."""

import json
import os
import socket
import sys
from pathlib import Path

import libvirt
import libvirt_qemu


def greeting(sock: socket.socket) -> str:
    sock.settimeout(30)
    return sock.recv(12).decode()


def main(uri: str, path: str, disk: str) -> None:
    found = {}
    libvirt.registerErrorHandler(lambda context, error: None, None)
    connection = libvirt.open(uri)
    domain = connection.defineXML(Path(path).read_text())
    try:
        try:
            domain.create()
        except libvirt.libvirtError as exc:
            found["not lent"] = exc.get_error_message()
        fd = os.open(disk, os.O_RDWR)
        domain.FDAssociate("lent", [fd])
        os.close(fd)
        domain.create()
        found["size"] = domain.blockInfo("vda")[0]

        with socket.socket(fileno=domain.openGraphicsFD(0, 0)) as ours:
            found["given"] = greeting(ours)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            domain.openGraphics(0, theirs.fileno(), libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
            theirs.close()
            found["handed over"] = greeting(ours)
        try:
            domain.openGraphicsFD(1, 0)
        except libvirt.libvirtError as exc:
            found["no display"] = exc.get_error_message()

        fd = os.open(disk, os.O_RDONLY)
        command = json.dumps({"execute": "add-fd", "arguments": {"fdset-id": 77}})
        answer, _ = libvirt_qemu.qemuMonitorCommandWithFiles(domain, command, [fd])
        found["added"] = json.loads(answer)["return"]["fdset-id"]
        answer = libvirt_qemu.qemuMonitorCommand(domain, '{"execute":"query-fdsets"}', 0)
        found["sets"] = [one["fdset-id"] for one in json.loads(answer)["return"]]
        os.close(fd)
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefine()
    print(json.dumps(found))


main(*sys.argv[1:])
