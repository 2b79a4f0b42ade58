"""Devices of a real host, by drivers of the kernel, that guests get and give back: in a machine that has some to spare.

The image is that of `tests/hostvm/machine.py`; the machine has an IOMMU, two network cards, a controller of storage, a
USB stick and a SCSI disk besides. What happens in it is `tests/hostvm/devices_scenario.py`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.hostvm.machine import TREE, Machine, missing

pytestmark = [pytest.mark.soak, pytest.mark.skipif(missing() is not None, reason=missing() or "")]

CARD: Final = "0000:01:00.0"
Seen = dict[str, object]
_SETTINGS: Final = b"[broker]\nhang_after_s = 90\n[warden]\nstart_timeout_s = 200\n"


def _devices(folder: Path) -> Iterator[str]:
    yield from ("-device", "intel-iommu,intremap=on,caching-mode=on", "-device", "qemu-xhci,id=xhci")
    for name in ("stick", "disk", "nvme"):
        image = folder / f"{name}.img"
        image.touch()
        subprocess.run(["truncate", "-s", "16M", str(image)], check=True)
        yield from ("-drive", f"file={image},if=none,id={name},format=raw")
    yield from ("-device", "usb-storage,bus=xhci.0,drive=stick,serial=STICK1")
    yield from ("-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=disk,serial=DISK1")
    for number, card in enumerate(("e1000e,netdev=c1", "e1000e,netdev=c2", "nvme,drive=nvme,serial=NVME1"), 1):
        yield from ("-device", f"pcie-root-port,id=port{number},chassis={number},slot={number}")
        if "netdev" in card:
            yield from ("-netdev", f"user,id=c{number},restrict=on")
        yield from ("-device", f"{card},bus=port{number}")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    folder = tmp_path_factory.mktemp("vm")
    machine = Machine(
        folder,
        systemd=False,
        machine="q35,kernel-irqchip=split",
        devices=tuple(_devices(folder)),
        words="intel_iommu=on",
    )
    try:
        machine.start()
        machine.put_tree()
        machine.ssh("mkdir -p /etc/virtroupe; cat > /etc/virtroupe/virtroupe.toml", given=_SETTINGS)
        machine.ssh(f"cd {TREE}/lib && python3 -m compileall -q . ; {TREE}/bin/virtroupe up", timeout_s=600)
        told = machine.ssh(f"cd {TREE}/lib && PYTHONPATH=. python3 -m tests.hostvm.devices_scenario", timeout_s=1200)
        yield {one.pop("step"): one for one in map(json.loads, told.stdout.splitlines())}
    finally:
        machine.stop()


def test_a_card_goes_to_a_guest_and_comes_back(seen: dict[str, Seen]) -> None:
    card = seen["pci_managed"]
    assert (card["before"], card["during"], card["after"]) == ("e1000e", "vfio-pci", "e1000e"), card
    assert card["opened"] and card["link"], card
    assert card["locked"] == str((64 + 1024) * 1024 * 1024)
    assert f"PCI device {CARD} is in use by driver QEMU, domain one" in str(card["refused"])


def test_a_card_comes_back_whoever_dies(seen: dict[str, Seen]) -> None:
    assert seen["pci_killed_guest"] == {"back": True}
    assert seen["pci_killed_both"] == {"back": True}
    driver = seen["pci_killed_driver"]
    assert driver["running"] and (driver["kept"], driver["after"]) == ("vfio-pci", "e1000e"), driver
    assert "is in use by driver QEMU, domain one" in str(driver["refused"])


def test_a_card_that_is_not_managed_is_left_as_it_is(seen: dict[str, Seen]) -> None:
    card = seen["pci_unmanaged"]
    assert "must be manually detached from the host" in str(card["refused"])
    assert (card["then"], card["after"]) == ("", "vfio-pci"), card


def test_cards_that_cannot_be_had_are_refused_and_stay(seen: dict[str, Seen]) -> None:
    card = seen["pci_refused"]
    assert "Device 0000:09:00.0 not found: could not access" in str(card["absent"])
    assert "is not viable" in str(card["group"]) and card["back"] == card["driver"] == "ahci", card
    assert "currently supported on SR-IOV Virtual Functions only" in str(card["card"])
    assert card["after"] == "e1000e"


def test_a_running_guest_gets_a_card(seen: dict[str, Seen]) -> None:
    card = seen["pci_plugged"]
    assert (card["during"], card["after"], card["named"]) == ("vfio-pci", "e1000e", True), card
    assert "again" in card


def test_a_controller_of_storage_comes_back(seen: dict[str, Seen]) -> None:
    assert seen["nvme"] == {"before": "nvme", "during": "vfio-pci", "after": "nvme"}


def test_a_usb_stick_has_one_guest(seen: dict[str, Seen]) -> None:
    stick = seen["usb"]
    assert stick["before"] == "usb-storage" and stick["after"], stick
    assert "usb-storage" not in (stick["during"], stick["by place"], stick["plugged"]), stick
    assert "is in use by driver QEMU, domain one" in str(stick["refused"])
    assert "Did not find USB device 1234:0001" in str(stick["absent"])
    assert stick["missing"] and stick["left"] and stick["refused then"] == "", stick


def test_a_scsi_unit_is_shared_only_where_that_is_said(seen: dict[str, Seen]) -> None:
    unit = seen["scsi"]
    assert "as 'non-shareable'" in str(unit["refused"]) and "as 'shareable'" in str(unit["alone"]), unit
    assert (unit["shared"], unit["then"]) == ("", "")


def test_a_mediated_device_that_is_not_there_is_refused(seen: dict[str, Seen]) -> None:
    assert "mediated device '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' not found" in str(seen["mediated"]["absent"])
