"""A fake emulator: a program that takes QEMU's command line, serves its monitor, and does nothing else.

How it behaves is in the guest's name: `...-dies` ends at once with a complaint, `...-deaf` stops answering after the
handshake, `...-stubborn` ignores the power button and SIGTERM, `...-panics` panics when it is let go.
It uses nothing but the standard library, so that it starts quickly; `install_emulator` makes it executable.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

MACHINES = [
    {
        "name": "pc-i440fx-7.2",
        "alias": "pc",
        "is-default": True,
        "cpu-max": 255,
        "hotpluggable-cpus": True,
        "default-cpu-type": "qemu64-x86_64-cpu",
        "default-ram-id": "pc.ram",
        "numa-mem-supported": False,
        "deprecated": False,
    },
    {
        "name": "pc-q35-7.2",
        "alias": "q35",
        "cpu-max": 288,
        "hotpluggable-cpus": True,
        "default-cpu-type": "qemu64-x86_64-cpu",
        "default-ram-id": "pc.ram",
        "numa-mem-supported": False,
        "deprecated": False,
    },
]
TYPES = """
    piix3-usb-uhci piix4-usb-uhci qemu-xhci nec-usb-xhci ich9-usb-ehci1 ahci virtio-blk-pci virtio-net-pci
    virtio-scsi-pci virtio-balloon-pci virtio-serial-pci virtio-rng-pci isa-serial pcie-root-port e1000 VGA
    cirrus-vga ide-hd ide-cd usb-tablet qemu64-x86_64-cpu memory-backend-ram memory-backend-file rng-builtin
    rng-random secret
""".split()  # noqa: SIM905
SCHEMA = [
    {"name": "device_add", "meta-type": "command", "arg-type": "0", "ret-type": "0", "features": ["json-cli-hotplug"]},
    {"name": "netdev_add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    {"name": "object-add", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
    {"name": "1", "meta-type": "object", "members": [], "variants": [{"case": "dgram", "type": "0"}]},
    {"name": "2", "meta-type": "object", "members": [], "variants": [{"case": "secret", "type": "0"}]},
]
COMMANDS = ("qmp_capabilities", "query-status", "stop", "cont", "quit", "system_reset", "system_powerdown", "balloon")


def install_emulator(folder: Path, name: str = "qemu-system-x86_64") -> Path:
    """Puts the program into a folder under an emulator's name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    text = Path(__file__).read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable} -IS\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


class Emulator:
    """One process: a monitor and a state."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.name = self._after("-name").partition("guest=")[2].partition(",")[0]
        self.uuid = self._after("-uuid")
        self.status = "prelaunch"
        self.balloon = 128 * 1024 * 1024
        self.is_deaf = False
        self.ends = False
        self.clients: list[tuple[socket.socket, bytearray]] = []

    def _after(self, option: str) -> str:
        return self.argv[self.argv.index(option) + 1] if option in self.argv else ""

    def run(self) -> None:
        """Serves until something ends it."""
        if self.name.endswith("-dies"):
            sys.stderr.write("qemu-system-x86_64: the machine is on fire\n")
            sys.exit(1)
        words = next(word for word in self.argv if word.startswith("socket,id=") and ",fd=" in word)
        descriptor = int(words.partition(",fd=")[2].partition(",")[0])
        first = socket.socket(fileno=descriptor)
        if "server=on" in words:
            listener: socket.socket | None = first
        else:
            listener = None
            self.greet(first)
        wake, signalled = socket.socketpair()
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        while not self.ends:
            sources = [wake, *(one for one, _ in self.clients)]
            if listener is not None:
                sources.append(listener)
            for source in select.select(sources, [], [])[0]:
                if source is listener:
                    self.greet(source.accept()[0])
                elif source is wake:
                    wake.recv(16)
                    self.terminate()
                else:
                    self.hear(source)
            if listener is None and not self.clients:
                return

    def greet(self, client: socket.socket) -> None:
        self.clients.append((client, bytearray()))
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"}
        self.say(client, {"QMP": {"version": version, "capabilities": ["oob"]}})

    def hear(self, client: socket.socket) -> None:
        pending = next(buffer for one, buffer in self.clients if one is client)
        try:
            data = client.recv(65536)
        except OSError:
            data = b""  # it went away with something unread
        if not data:
            self.clients = [(one, buffer) for one, buffer in self.clients if one is not client]
            client.close()
            return
        pending += data
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            if line.strip() and not self.is_deaf:
                self.answer(client, json.loads(line))

    def answer(self, client: socket.socket, asked: dict[str, Any]) -> None:
        name, arguments = asked["execute"], asked.get("arguments") or {}
        try:
            value = self.command(name, arguments)
        except KeyError:
            reason = f"The command {name} has not been found"
            self.say(client, {"error": {"class": "CommandNotFound", "desc": reason}, "id": asked.get("id")})
            return
        self.say(client, {"return": value, "id": asked.get("id")})
        self.afterwards(name)

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        answers: dict[str, Any] = {
            "qmp_capabilities": {},
            "query-version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"},
            "query-target": {"arch": "x86_64"},
            "query-kvm": {"enabled": False, "present": False},
            "query-machines": MACHINES,
            "query-cpu-definitions": [{"name": "qemu64", "typename": "qemu64-x86_64-cpu", "unavailable-features": []}],
            "qom-list-types": [{"name": one} for one in TYPES],
            "query-commands": [{"name": one} for one in COMMANDS],
            "query-qmp-schema": SCHEMA,
            "query-command-line-options": [
                {"option": "machine", "parameters": [{"name": "hpet"}]},
                {"option": "vnc", "parameters": []},
            ],
            "query-chardev": [{"label": "charserial0", "filename": "pty:/dev/pts/99", "frontend-open": True}],
            "query-cpus-fast": [{"cpu-index": 0, "thread-id": os.getpid()}],
            "query-status": {"status": self.status, "running": self.status == "running", "singlestep": False},
            "query-uuid": {"UUID": self.uuid},
            "query-balloon": {"actual": self.balloon},
            "query-blockstats": [],
            "qom-get": {"last-update": 0, "stats": {}},
            "qom-set": {},
            "system_reset": {},
            "system_powerdown": {},
            "stop": {},
            "cont": {},
            "quit": {},
            "balloon": {},
            "migrate_cancel": {},
        }
        value = answers[name]
        if name == "stop":
            self.move("paused", "STOP")
        elif name == "cont":
            self.move("running", "RESUME")
        elif name == "balloon":
            self.balloon = int(arguments["value"])
        return value

    def afterwards(self, name: str) -> None:
        if name == "quit":
            self.ends = True
        elif name == "system_reset":
            self.tell("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        elif name == "balloon":
            self.tell("BALLOON_CHANGE", {"actual": self.balloon})
        elif name == "system_powerdown":
            self.tell("POWERDOWN", {})
            if not self.name.endswith("-stubborn"):
                self.power_off()
        elif name == "cont" and self.name.endswith("-deaf"):
            self.is_deaf = True
        elif name == "cont" and self.name.endswith("-panics"):
            self.status = "guest-panicked"
            self.tell("GUEST_PANICKED", {"action": "pause"})

    def power_off(self) -> None:
        self.tell("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
        self.move("shutdown", "STOP")
        if "-no-shutdown" not in self.argv:
            self.ends = True

    def terminate(self) -> None:
        if self.name.endswith("-stubborn"):
            return
        self.tell("SHUTDOWN", {"guest": False, "reason": "host-signal"})
        self.ends = True

    def move(self, status: str, event: str) -> None:
        if self.status != status:
            self.status = status
            self.tell(event, {})

    def tell(self, event: str, data: dict[str, Any]) -> None:
        now = time.time()
        stamp = {"seconds": int(now), "microseconds": int(now % 1 * 1e6)}
        for client, _ in self.clients:
            self.say(client, {"event": event, "data": data, "timestamp": stamp})

    @staticmethod
    def say(client: socket.socket, message: dict[str, Any]) -> None:
        try:
            client.sendall(json.dumps(message).encode() + b"\r\n")
        except OSError:
            return


if __name__ == "__main__":
    Emulator(sys.argv).run()
