"""Devices of the host that guests have: one at a time, and back as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from actors.qemu.lending.ledger import Ledger, Loan, User
from actors.qemu.lending.lending import Lending
from actors.qemu.lending.pci import PciBus
from actors.qemu.lending.usb import UsbDevice, find_usb_device, usb_devices
from actors.qemu.lending.wanted import Kind, Wanted
from actors.qemu.linking.functions import Function, FunctionState, find_function, pack_state, read_state
from conf.domain.hostdev import Hostdev, HostdevType, SourceUsbAddress, UsbHostSource, UsbProduct, UsbVendor
from schema.errors import (
    ConfigUnsupported,
    DeviceMissing,
    DomainStateError,
    HostSystemError,
    InternalError,
    OperationFailed,
    VirtError,
)

T = TypeVar("T")
CARD = "0000:01:00.0"
OTHER = "0000:01:00.1"
A, B = User("a/1", "web"), User("b/2", "db")


class Kernel(PciBus):
    """A `/sys` in which writing has the effects that the kernel's has."""

    def __init__(self, system: Path) -> None:
        super().__init__(system)
        self.system = system
        self.refuses: set[str] = set()

    def add(self, address: str, driver: str | None, group: str) -> None:
        folder = self._device(address)
        folder.mkdir(parents=True)
        (folder / "config").touch()
        (folder / "driver_override").write_text("(null)\n")
        (self.system / "kernel/iommu_groups" / group).mkdir(parents=True, exist_ok=True)
        (folder / "iommu_group").symlink_to(self.system / "kernel/iommu_groups" / group)
        (folder / "home").write_text(driver or "")
        for one in ("vfio-pci", driver):
            if one is not None:
                (self._bus / "drivers" / one).mkdir(parents=True, exist_ok=True)
                (self._bus / "drivers" / one / "unbind").touch()
        if driver is not None:
            self._bind(address, driver)

    def _bind(self, address: str, driver: str) -> None:
        (self._device(address) / "driver").symlink_to(self._bus / "drivers" / driver)

    def _write(self, path: Path, text: str) -> None:
        if path.name in self.refuses:
            raise HostSystemError(16, f"cannot write '{path}'")
        if path.name == "driver_override":
            path.write_text("(null)\n" if text == "\n" else f"{text}\n")
        elif path.name == "unbind":
            (self._device(text) / "driver").unlink()
        elif path.name == "drivers_probe":
            override = (self._device(text) / "driver_override").read_text().strip()
            home = (self._device(text) / "home").read_text()
            driver = home if override == "(null)" else override
            if driver:
                self._bind(text, driver)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    kernel = Kernel(tmp_path / "sys")
    kernel.add(CARD, "e1000e", "5")
    kernel.add(OTHER, "e1000e", "5")
    return kernel


@pytest.fixture
def told() -> list[str]:
    return []


def make(kernel: Kernel, tmp_path: Path, told: list[str]) -> Lending:
    async def in_thread(work: Callable[[], T], /) -> T:
        return work()

    lending = Lending(tmp_path / "run", in_thread, lambda what, error: told.append(error), system=kernel.system)
    lending._bus = kernel
    lending.ledger.read()
    return lending


def pci(name: str = CARD, *, managed: bool = True) -> Wanted:
    return Wanted(Kind.PCI, name, managed=managed)


async def test_a_managed_card_goes_to_vfio_and_back(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    await lending.lend(A, [pci()])
    assert kernel.before(CARD).driver == "vfio-pci" and kernel.before(CARD).override == "vfio-pci"
    await lending.keep(A.holder)
    assert kernel.before(CARD).driver == "e1000e" and kernel.before(CARD).override == "(null)"
    assert lending.ledger.loans == {} and told == []


async def test_another_driver_gives_back_what_a_dead_guest_had(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    await make(kernel, tmp_path, told).lend(A, [pci()])
    successor = make(kernel, tmp_path, told)
    await successor.take_up({A.holder})
    assert kernel.driver_of(CARD) == "vfio-pci"
    await successor.take_up(set())
    assert kernel.driver_of(CARD) == "e1000e" and make(kernel, tmp_path, told).ledger.loans == {}


async def test_a_device_has_one_guest(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    await lending.lend(A, [pci()])
    with pytest.raises(DomainStateError, match=f"PCI device {CARD} is in use by driver QEMU, domain web"):
        await lending.lend(B, [pci()])
    with pytest.raises(DomainStateError, match=f"PCI device {CARD} is in use by driver QEMU, domain web"):
        await lending.lend(B, [pci(OTHER)])  # what is in its group goes with it
    await lending.lend(A, [pci(), pci(OTHER)])
    await lending.keep(A.holder, {pci().key})
    assert kernel.driver_of(CARD) == "vfio-pci" and kernel.driver_of(OTHER) == "e1000e"


async def test_what_is_not_managed_must_be_bound_and_stays(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    with pytest.raises(DomainStateError, match=f"Unmanaged PCI device {CARD} must be manually detached from the host"):
        await lending.lend(A, [pci(managed=False)])
    kernel.take(CARD)
    await lending.lend(A, [pci(managed=False)])
    await lending.keep(A.holder)
    assert kernel.driver_of(CARD) == "vfio-pci" and lending.ledger.loans == {}


async def test_nothing_is_lent_when_one_cannot_be_had(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    with pytest.raises(HostSystemError, match=r"Device 0000:09:00\.0 not found"):
        await lending.lend(A, [pci(), pci("0000:09:00.0")])
    kernel.refuses = {"drivers_probe"}
    with pytest.raises(VirtError):
        await lending.lend(A, [pci()])
    kernel.refuses = set()
    assert len(told) == 1  # it stays written down until it is the host's again
    await lending.take_up(set())
    assert kernel.driver_of(CARD) == "e1000e" and lending.ledger.loans == {}


async def test_units_are_shared_only_by_those_who_share(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    alone, shared = Wanted(Kind.SCSI, "0:0:1:2"), Wanted(Kind.SCSI, "0:0:1:2", shared=True)
    await lending.lend(A, [shared])
    with pytest.raises(DomainStateError, match="already in use by other domain\\(s\\) as 'shareable'"):
        await lending.lend(B, [alone])
    await lending.lend(B, [shared])
    await lending.keep(A.holder)
    assert lending.ledger.loans[shared.key].users == (B,)


async def test_mediated_devices_must_be_there_and_of_the_model(kernel: Kernel, tmp_path: Path, told: list[str]) -> None:
    lending = make(kernel, tmp_path, told)
    name = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    with pytest.raises(DeviceMissing, match=f"mediated device '{name}' not found"):
        await lending.lend(A, [Wanted(Kind.MDEV, name, model="vfio-pci")])
    folder = kernel.system / "bus/mdev/devices" / name / "mdev_type"
    folder.mkdir(parents=True)
    (folder / "device_api").write_text("vfio-ccw\n")
    with pytest.raises(ConfigUnsupported, match="device only supports 'vfio-ccw'"):
        await lending.lend(A, [Wanted(Kind.MDEV, name, model="vfio-pci")])
    await lending.lend(A, [Wanted(Kind.MDEV, name, model="vfio-ccw")])


async def test_devices_that_libvirt_has_lent_go_back_to_whatever_driver_is_theirs(
    kernel: Kernel, tmp_path: Path, told: list[str]
) -> None:
    lending = make(kernel, tmp_path, told)
    kernel.take(CARD)
    lending.know(A, [pci()])
    await lending.keep(A.holder)
    assert kernel.driver_of(CARD) == "e1000e"


def test_a_ledger_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lent.json").write_text("{")
    with pytest.raises(HostSystemError):
        Ledger(tmp_path).read()
    ledger = Ledger(tmp_path / "new")
    ledger.put("usb 001:002", Loan((A,)))
    again = Ledger(tmp_path / "new")
    again.read()
    assert again.loans == {"usb 001:002": Loan((A,))}


# --- USB -------------------------------------------------------------------------------------------------------------

STICK, TWIN, TABLET = UsbDevice(0x46F4, 1, 2, 2), UsbDevice(0x46F4, 1, 2, 3), UsbDevice(0x627, 1, 1, 2)


def usb(*, names: tuple[int, int] | None = None, at: tuple[int, int] | None = None, policy: str = "") -> Hostdev:
    source = UsbHostSource(startup_policy=policy or None)
    if names is not None:
        source.vendor, source.product = UsbVendor(id=names[0]), UsbProduct(id=names[1])
    if at is not None:
        source.address = SourceUsbAddress(bus=at[0], device=at[1])
    return Hostdev(type=HostdevType.USB, source=source)


def source_of(device: Hostdev) -> UsbHostSource:
    assert isinstance(device.source, UsbHostSource)
    return device.source


def test_a_usb_device_is_found_by_its_make() -> None:
    device = usb(names=(0x46F4, 1))
    find_usb_device(device, [TABLET, STICK], cold=True)
    assert source_of(device).address == SourceUsbAddress(bus=2, device=2)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (usb(names=(0x46F4, 2)), "Did not find USB device 46f4:0002"),
        (usb(at=(3, 9)), "Did not find USB device bus:3 device:9"),
        (usb(names=(0x46F4, 1), at=(1, 2)), "Did not find USB device 46f4:0001 bus:1 device:2"),
        (usb(names=(0x46F4, 2), policy="requisite"), "Did not find USB device 46f4:0002"),
    ],
)
def test_a_usb_device_that_is_not_there_is_refused(device: Hostdev, message: str) -> None:
    with pytest.raises(InternalError, match=message):
        find_usb_device(device, [TABLET, STICK], cold=True)


def test_one_of_two_equal_usb_devices_needs_its_place() -> None:
    with pytest.raises(OperationFailed, match="Multiple USB devices for 46f4:1, use <address> to specify one"):
        find_usb_device(usb(names=(0x46F4, 1)), [STICK, TWIN], cold=True)
    device = usb(names=(0x46F4, 1), at=(2, 3))
    find_usb_device(device, [STICK, TWIN], cold=True)
    assert source_of(device).address == SourceUsbAddress(bus=2, device=3)


@pytest.mark.parametrize(("policy", "cold"), [("optional", True), ("optional", False), ("requisite", False)])
def test_a_guest_may_do_without_a_usb_device(policy: str, cold: bool) -> None:
    device = usb(names=(0x46F4, 2), policy=policy)
    find_usb_device(device, [STICK], cold=cold)
    assert source_of(device).missing and source_of(device).address is None


def test_a_guest_that_comes_from_elsewhere_finds_its_usb_device_in_another_place() -> None:
    device = usb(names=(0x46F4, 1), at=(7, 7))
    find_usb_device(device, [STICK], cold=False)
    assert source_of(device).address == SourceUsbAddress(bus=2, device=2)


def test_usb_devices_are_read_from_the_kernel(tmp_path: Path) -> None:
    for name, facts in (("2-1", ("46f4", "0001", "2", "10")), ("2-1:1.0", ()), ("usb1", ("1d6b", "0002", "1", "1"))):
        (tmp_path / name).mkdir()
        for file, text in zip(("idVendor", "idProduct", "busnum", "devnum"), facts, strict=False):
            (tmp_path / name / file).write_text(text + "\n")
    assert usb_devices(tmp_path) == [UsbDevice(0x1D6B, 2, 1, 1), UsbDevice(0x46F4, 1, 2, 10)]


# --- functions of cards ----------------------------------------------------------------------------------------------


def test_a_function_knows_its_card(tmp_path: Path) -> None:
    card, function = tmp_path / CARD, tmp_path / "0000:01:10.2"
    (card / "net/eth1").mkdir(parents=True)
    function.mkdir()
    (function / "physfn").symlink_to(card)
    (tmp_path / "0000:01:10.0").mkdir()
    (card / "virtfn0").symlink_to(tmp_path / "0000:01:10.0")
    (card / "virtfn1").symlink_to(function)
    assert find_function(function) == Function("eth1", 1)
    assert find_function(card) is None


def test_what_a_card_is_told_of_a_function_can_be_read() -> None:
    state = FunctionState("52:54:00:aa:00:01", 42)
    body = pack_state(3, 5, state)
    assert read_state(body, 5) == state
    assert read_state(body, 4) is None
