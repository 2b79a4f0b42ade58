"""What is done in a machine with devices to give away; prints a line of JSON for each step: its name, what was seen.

`python -m tests.hostvm.devices_scenario [STEP ...]` in the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from client import sync
from schema.errors import VirtError

CARD, OTHER, NVME = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
STICK: Final = "<vendor id='0x46f4'/><product id='0x0001'/>"
WAIT_S: Final = 120.0
Seen = dict[str, object]


def guest_xml(name: str, devices: str) -> str:
    """A guest that needs little; its firmware is all that runs in it."""
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
        f"<devices><controller type='usb' model='qemu-xhci'/>{devices}<memballoon model='none'/></devices></domain>"
    )


def pci_xml(address: str, *, managed: bool = True) -> str:
    """A PCI device of the host."""
    bus, slot, function = address[5:7], address[8:10], address[11]
    word = " managed='yes'" if managed else ""
    return (
        f"<hostdev mode='subsystem' type='pci'{word}><source>"
        f"<address domain='0x0000' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>"
    )


def usb_xml(words: str, policy: str = "") -> str:
    """A USB device of the host."""
    more = f" startupPolicy='{policy}'" if policy else ""
    return f"<hostdev mode='subsystem' type='usb'><source{more}>{words}</source></hostdev>"


def driver_of(address: str) -> str | None:
    """Which driver of the kernel has a PCI device."""
    try:
        return Path(f"/sys/bus/pci/devices/{address}/driver").readlink().name
    except OSError:
        return None


def until(true: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + WAIT_S
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def process_of(name: str) -> int:
    """The process of a guest."""
    return next(pid for pid, line in _processes() if f"guest={name}," in line)


def process_of_driver(conn: sync.Connection) -> int:
    """The QEMU driver's process, which is not its spare's."""
    return int(conn.status()["actors"]["qemu"]["pid"])


def is_active(domain: sync.Domain) -> bool:
    """Whether a guest runs; while there is no driver, nobody knows."""
    try:
        return domain.is_active()
    except VirtError:
        return False


def _processes() -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(path.name), (path / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()


@contextlib.contextmanager
def started(conn: sync.Connection, name: str, devices: str) -> Iterator[sync.Domain]:
    """A transient guest that runs."""
    domain = conn.create(guest_xml(name, devices))
    try:
        yield domain
    finally:
        with contextlib.suppress(VirtError):
            domain.destroy()


def refusal(conn: sync.Connection, name: str, devices: str) -> str:
    """Why a guest cannot have devices; empty when it can."""
    try:
        with started(conn, name, devices):
            return ""
    except VirtError as exc:
        return exc.message


# --- the steps -------------------------------------------------------------------------------------------------------


def pci_managed(conn: sync.Connection) -> Seen:
    """A card goes to a guest and comes back; meanwhile nobody else has it."""
    seen: Seen = {"before": driver_of(CARD)}
    with started(conn, "one", pci_xml(CARD)):
        seen["during"] = driver_of(CARD)
        process = Path(f"/proc/{process_of('one')}")
        seen["opened"] = "anon_inode:[vfio-device]" in {str(one.readlink()) for one in (process / "fd").iterdir()}
        seen["locked"] = (process / "limits").read_text().split("Max locked memory")[1].split()[0]
        seen["refused"] = refusal(conn, "two", pci_xml(CARD))
    seen["after"] = driver_of(CARD)
    seen["link"] = until(lambda: bool(list(Path(f"/sys/bus/pci/devices/{CARD}/net").glob("*"))))
    return seen


def pci_killed_guest(conn: sync.Connection) -> Seen:
    """A guest dies with a card."""
    with started(conn, "one", pci_xml(CARD)):
        os.kill(process_of("one"), signal.SIGKILL)
        return {"back": until(lambda: driver_of(CARD) == "e1000e")}


def pci_killed_driver(conn: sync.Connection) -> Seen:
    """The driver dies; the guest keeps its card, and the next driver knows of it."""
    with started(conn, "one", pci_xml(CARD)) as domain:
        os.kill(process_of_driver(conn), signal.SIGKILL)
        seen: Seen = {"running": until(lambda: is_active(domain)), "kept": driver_of(CARD)}
        seen["refused"] = refusal(conn, "two", pci_xml(CARD))
    seen["after"] = driver_of(CARD)
    return seen


def pci_killed_both(conn: sync.Connection) -> Seen:
    """Both die at once."""
    with started(conn, "one", pci_xml(CARD)):
        driver, guest = process_of_driver(conn), process_of("one")
        os.kill(driver, signal.SIGSTOP)
        os.kill(guest, signal.SIGKILL)
        os.kill(driver, signal.SIGKILL)
        with contextlib.suppress(VirtError):
            conn.list_domains()
        return {"back": until(lambda: driver_of(CARD) == "e1000e")}


def pci_unmanaged(conn: sync.Connection) -> Seen:
    """A card that the guest's owner binds himself."""
    seen: Seen = {"refused": refusal(conn, "one", pci_xml(OTHER, managed=False))}
    folder = Path(f"/sys/bus/pci/devices/{OTHER}")
    (folder / "driver_override").write_text("vfio-pci")
    (folder / "driver/unbind").write_text(OTHER)
    Path("/sys/bus/pci/drivers_probe").write_text(OTHER)
    try:
        seen["then"] = refusal(conn, "one", pci_xml(OTHER, managed=False))
        seen["after"] = driver_of(OTHER)
    finally:
        (folder / "driver_override").write_text("\n")
        (folder / "driver/unbind").write_text(OTHER)
        Path("/sys/bus/pci/drivers_probe").write_text(OTHER)
    return seen


def pci_refused(conn: sync.Connection) -> Seen:
    """Cards that cannot be given away."""
    bridge = "0000:00:1f.2"
    seen: Seen = {"absent": refusal(conn, "one", pci_xml("0000:09:00.0")), "driver": driver_of(bridge)}
    seen["group"] = refusal(conn, "one", pci_xml(bridge))
    seen["back"] = driver_of(bridge)
    card = pci_xml(CARD).replace("<hostdev mode='subsystem' type='pci'", "<interface type='hostdev'")
    card = card.replace("</hostdev>", "</interface>").replace("<address ", "<address type='pci' ")
    seen["card"] = refusal(conn, "one", card)
    seen["after"] = driver_of(CARD)
    return seen


def pci_plugged(conn: sync.Connection) -> Seen:
    """A card comes to a running guest, and leaves with it."""
    with started(conn, "one", "") as domain:
        domain.attach_device(pci_xml(CARD))
        seen: Seen = {"during": driver_of(CARD), "named": "<hostdev" in domain.xml()}
        try:
            domain.attach_device(pci_xml(CARD))
        except VirtError as exc:
            seen["again"] = exc.message
    seen["after"] = driver_of(CARD)
    return seen


def nvme(conn: sync.Connection) -> Seen:
    """A controller of storage that the guest drives itself."""
    disk = (
        "<disk type='nvme' device='disk'><driver name='qemu' type='raw'/>"
        "<source type='pci' managed='yes' namespace='1'>"
        "<address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    seen: Seen = {"before": driver_of(NVME)}
    with started(conn, "one", disk):
        seen["during"] = driver_of(NVME)
    seen["after"] = driver_of(NVME)
    return seen


def stick_driver() -> str | None:
    """Which driver has the USB stick."""
    for place in Path("/sys/bus/usb/devices").glob("*"):
        with contextlib.suppress(OSError):
            if (place / "idVendor").read_text().strip() == "46f4":
                return (place / f"{place.name}:1.0/driver").readlink().name
    return None


def usb(conn: sync.Connection) -> Seen:
    """A USB stick, by its make and by its place."""
    seen: Seen = {"before": stick_driver()}
    with started(conn, "one", usb_xml(STICK)) as domain:
        seen["during"] = stick_driver()
        document = domain.xml().partition("<hostdev")[2]
        place = "<address " + document.partition("<address ")[2].partition("/>")[0] + "/>"
        seen["place"] = place
        seen["refused"] = refusal(conn, "two", usb_xml(place))
    seen["after"] = until(lambda: stick_driver() == seen["before"])
    with started(conn, "one", usb_xml(place)):
        seen["by place"] = stick_driver()
    seen["absent"] = refusal(conn, "one", usb_xml("<vendor id='0x1234'/><product id='0x0001'/>"))
    with started(conn, "one", usb_xml("<vendor id='0x1234'/><product id='0x0001'/>", "optional")) as domain:
        seen["missing"] = "missing='yes'" in domain.xml()
    with started(conn, "one", "") as domain:
        domain.attach_device(usb_xml(STICK))
        seen["plugged"] = stick_driver()
        domain.detach_device(usb_xml(STICK))
        seen["left"] = "<hostdev" not in domain.xml()
        seen["refused then"] = refusal(conn, "two", usb_xml(STICK))
    return seen


def scsi(conn: sync.Connection) -> Seen:
    """A unit behind a SCSI adapter."""
    unit = next(Path("/sys/class/scsi_generic").glob("*")) / "device"
    for place in Path("/sys/class/scsi_generic").glob("*"):
        if (place / "device/block").exists():
            unit = place / "device"
    host, bus, target, lun = unit.resolve().name.split(":")

    def device(more: str = "") -> str:
        return (
            "<controller type='scsi' model='virtio-scsi'/><hostdev mode='subsystem' type='scsi'><source>"
            f"<adapter name='scsi_host{host}'/><address bus='{bus}' target='{target}' unit='{lun}'/></source>"
            f"{more}</hostdev>"
        )

    seen: Seen = {}
    with started(conn, "one", device()):
        seen["refused"] = refusal(conn, "two", device())
    with started(conn, "one", device("<shareable/>")):
        seen["alone"] = refusal(conn, "two", device())
        seen["shared"] = refusal(conn, "two", device("<shareable/>"))
    seen["then"] = refusal(conn, "two", device())
    return seen


def mediated(conn: sync.Connection) -> Seen:
    """A device that the kernel does not have."""
    uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    return {
        "absent": refusal(
            conn,
            "one",
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
            f"<address uuid='{uuid}'/></source></hostdev>",
        )
    }


STEPS: Final = (
    pci_managed, pci_killed_guest, pci_killed_driver, pci_killed_both, pci_unmanaged, pci_refused, pci_plugged,
    nvme, usb, scsi, mediated,
)  # fmt: skip


def connected() -> sync.Connection:
    """A connection; the first driver of a slow machine takes its time."""
    end = time.monotonic() + 2 * WAIT_S
    while True:
        try:
            return sync.connect("qemu:///system")
        except VirtError:
            if time.monotonic() > end:
                raise


def main(names: list[str]) -> int:
    """Does the named steps, all by default."""
    with connected() as conn:
        for step in STEPS:
            if names and step.__name__ not in names:
                continue
            try:
                seen = step(conn)
            except (VirtError, OSError, StopIteration) as exc:
                seen = {"failed": f"{type(exc).__name__}: {exc}"}
            print(json.dumps({"step": step.__name__, **seen}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
