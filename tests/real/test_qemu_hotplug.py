"""Devices come to guests that run, and go from them: what the guest itself sees of it, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from broker.stream import open_ticket
from schema.errors import (
    DeviceMissing,
    DomainStateError,
    HostSystemError,
    InternalError,
    InvalidArguments,
    OperationUnsupported,
    VirtError,
    XmlError,
)
from tests.contract.house import House
from tests.real.test_qemu_guests import Subject, driver, run, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

LIVE, CONFIG, BOTH = 1, 2, 3
SEEN_S = 60.0
"""How long a guest under emulation may take to notice what happens to it."""
NUMA = (
    "<maxMemory slots='4' unit='MiB'>1024</maxMemory><iothreads>1</iothreads>"
    "<cpu mode='custom' match='exact' check='none'><model>qemu64</model>"
    "<numa><cell id='0' cpus='0-2' memory='262144'/></numa></cpu>"
)
PORTS = "<controller type='pci' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 8


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Hands:
    """A running guest, what is done to it, and a shell inside."""

    def __init__(self, house: House, guest: Subject) -> None:
        self.house = house
        self.guest = guest
        self._shell: Any = None
        self._count = 0

    async def call(self, procedure: str, **arguments: Any) -> Any:
        return await self.house.outcome(self.house.post(procedure, dom=self.guest.ref, deadline_s=60, **arguments))

    async def attach(self, xml: str, flags: int = LIVE) -> None:
        await self.call("domain_attach_device_flags", xml=xml, flags=flags)

    async def detach(self, xml: str, flags: int = LIVE) -> None:
        await self.call("domain_detach_device_flags", xml=xml, flags=flags)

    async def update(self, xml: str, flags: int = LIVE) -> None:
        await self.call("domain_update_device_flags", xml=xml, flags=flags)

    async def xml(self, flags: int = 0) -> str:
        return await self.guest.xml_desc(self.house, flags)

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return await self.house.host.guests[self.guest.uuid.bytes].ask(name, arguments)

    async def nodes(self) -> set[str]:
        return {str(one["node-name"]) for one in await self.ask("query-named-block-nodes", {"flat": True})}

    def told(self, kind: str) -> list[str]:
        """The aliases that events of a kind have named so far."""
        name = f"domain_event_{kind}"
        return [one["data"]["devAlias"] for one in self.house.broker.records if one["kind"] == name]

    async def shell(self, line: str) -> str:
        """What a command says inside the guest."""
        if self._shell is None:
            call = self.house.post("domain_open_console", dom=self.guest.ref, dev_name=None, flags=0)
            await self.house.outcome(call)
            self._shell = await open_ticket(self.house.broker.outcomes[call.id][-1][3])
        self._count += 1
        head, tail = f"<{self._count}", f"{self._count}>"
        # the echo of what is typed does not hold the marks
        await self._shell.write(f"echo '<''{self._count}'; {line}; echo {self._count}'>'\n".encode())
        heard = ""
        async with asyncio.timeout(SEEN_S):
            while tail not in heard or head not in heard:
                data = await self._shell.read()
                assert data, f"the console ended: {heard[-500:]}"
                heard += data.decode(errors="replace")
        return heard.rpartition(head)[2].partition(tail)[0].strip()

    async def sees(self, line: str, wanted: str) -> None:
        """Waits until a command inside says what is wanted."""
        async with asyncio.timeout(SEEN_S):
            while (said := await self.shell(line)) != wanted:
                await asyncio.sleep(0.2)
        assert said == wanted

    async def gone(self, alias: str) -> None:
        """Waits until the guest has let a device go."""
        await until(f"{alias} is gone", lambda: alias in self.told("device_removed"), SEEN_S)

    def close(self) -> None:
        if self._shell is not None:
            self._shell.close()


@contextlib.asynccontextmanager
async def running(root: Path, guest: Subject, *, flags: int = 0) -> AsyncIterator[Hands]:
    async with driver(root) as house, guest.running(house, flags):
        hands = Hands(house, guest)
        try:
            yield hands
        finally:
            hands.close()


def disk_xml(path: Path, name: str, bus: str) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
        f"<target dev='{name}' bus='{bus}'/></disk>"
    )


def medium_xml(path: Path | None) -> str:
    source = f"<source file='{path}'/>" if path is not None else ""
    return f"<disk type='file' device='cdrom'>{source}<target dev='sda' bus='sata'/><readonly/></disk>"


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_a_guest_sees_disks_and_cards_come_and_go(machine: str, root: Path) -> None:
    first, second = root / "first.raw", root / "second.raw"
    first.write_bytes(b"first-witness".ljust(1 << 20, b"\0"))
    second.write_bytes(b"second-witness".ljust(1 << 20, b"\0"))
    nic = "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/></interface>"
    guest = Subject(root, PORTS if machine == "q35" else "", machine=machine)
    async with running(root, guest) as hands:
        await guest.ready()
        await hands.attach(disk_xml(first, "vdb", "virtio"))
        await hands.sees("head -c 13 /dev/vda", "first-witness")
        await hands.attach("<controller type='scsi' index='0' model='virtio-scsi'/>")
        await hands.attach(disk_xml(second, "sdb", "scsi"))
        await hands.sees("head -c 14 /dev/sda", "second-witness")
        await hands.attach(nic)
        await hands.sees("cat /sys/class/net/eth0/address", "52:54:00:00:00:77")
        await hands.shell("ip link set eth0 up")
        await hands.sees("cat /sys/class/net/eth0/carrier", "1")
        await hands.update(nic.replace("<model", "<link state='down'/><model"))
        await hands.sees("cat /sys/class/net/eth0/carrier", "0")
        assert hands.told("device_added") == ["virtio-disk1", "scsi0", "scsi0-0-0-1", "net0"]
        for xml, alias in ((disk_xml(first, "vdb", "virtio"), "virtio-disk1"), (nic, "net0")):
            await hands.detach(xml)
            await hands.gone(alias)
        await hands.detach(disk_xml(second, "sdb", "scsi"))
        await hands.gone("scsi0-0-0-1")
        await hands.sees("ls /sys/block /sys/class/net | grep -c 'sd\\|vd\\|eth'", "0")
        text = await hands.xml()
        assert "<disk" not in text and "<interface" not in text
        assert not {one for one in await hands.nodes() if one.startswith("libvirt-")}
        assert "hostnet0" not in str(await hands.ask("query-rx-filter")) + str(await hands.ask("qom-list", _PLACE))
        with pytest.raises(DeviceMissing):
            await hands.detach(nic)


_PLACE = {"path": "/machine/peripheral"}


async def test_a_guest_sees_processors_come_and_memory_come_and_go(root: Path) -> None:
    guest = Subject(root, "", machine="pc", top=NUMA)
    guest.xml = guest.xml.replace("<vcpu>1</vcpu>", "<vcpu current='1'>3</vcpu>").replace("'MiB'>128<", "'MiB'>256<")
    dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
    async with running(root, guest) as hands:
        await guest.ready()
        count = "ls -d /sys/devices/system/cpu/cpu[0-9] | wc -l"
        await hands.call("domain_set_vcpus_flags", nvcpus=2, flags=LIVE)
        await hands.sees(count, "2")
        await hands.call("domain_set_vcpu", cpumap="2", state=1, flags=LIVE)
        await hands.sees(count, "3")
        assert "<vcpu id='2' enabled='yes' hotpluggable='yes' order='3'/>" in await hands.xml()
        info = await hands.call("domain_get_vcpus_flags", flags=LIVE)
        assert info.num == 3
        with pytest.raises(InvalidArguments, match="already in requested state"):
            await hands.call("domain_set_vcpu", cpumap="1", state=1, flags=LIVE)
        with pytest.raises(OperationUnsupported, match="can't be unplugged"):
            await hands.call("domain_set_vcpu", cpumap="0", state=0, flags=LIVE)
        # none is taken out: QEMU 7.2 that emulates processors sometimes ends when one has gone

        blocks = int(await hands.shell("ls -d /sys/devices/system/memory/memory* | wc -l"))
        before = (await hands.call("domain_get_info")).maxMem
        await hands.attach(dimm)
        await hands.sees("ls -d /sys/devices/system/memory/memory* | wc -l", str(blocks + 1))
        assert "<address type='dimm' slot='0' base='0x1" in await hands.xml()
        assert (await hands.call("domain_get_info")).maxMem == before + (128 << 10)
        await hands.detach(dimm)
        await hands.gone("dimm0")
        await hands.sees("ls -d /sys/devices/system/memory/memory* | wc -l", str(blocks))
        assert (await hands.call("domain_get_info")).maxMem == before
        assert "memdimm0" not in {one["name"] for one in await hands.ask("qom-list", {"path": "/objects"})}


async def test_a_guest_is_asked_to_take_memory_and_does(root: Path) -> None:
    guest = Subject(root, PORTS, machine="q35", top=NUMA)
    guest.xml = guest.xml.replace("<vcpu>1</vcpu>", "<vcpu>3</vcpu>").replace("'MiB'>128<", "'MiB'>256<")
    module = (
        "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>"
        "<requested unit='MiB'>{}</requested></target><alias name='virtiomem0'/></memory>"
    )
    async with running(root, guest) as hands:
        await guest.ready()
        await hands.attach(module.format(0))
        assert "<requested unit='KiB'>0</requested>" in await hands.xml()
        await hands.sees("ls /sys/bus/virtio/drivers/virtio_mem | grep -c virtio", "1")
        await hands.update(module.format(128))
        async with asyncio.timeout(SEEN_S):
            while "<current unit='KiB'>131072</current>" not in await hands.xml():
                await asyncio.sleep(0.1)
        assert "domain_event_memory_device_size_change" in hands.house.broker.kinds()
        with pytest.raises(VirtError, match="multiple of block size"):
            await hands.update(module.format(3))


async def test_what_a_paused_guest_is_asked_to_let_go_goes_when_it_runs(root: Path) -> None:
    disk = root / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    guest = Subject(root, "", machine="pc")
    async with running(root, guest) as hands:
        await guest.ready()
        await hands.attach(disk_xml(disk, "vdb", "virtio"))
        await hands.sees("ls /sys/block | grep -c vda", "1")
        await hands.call("domain_suspend")
        await hands.detach(disk_xml(disk, "vdb", "virtio"))
        assert hands.told("device_removed") == [] and "vdb" in await hands.xml(), "it still has it"
        await hands.call("domain_detach_device_alias", alias="virtio-disk1", flags=LIVE)
        await hands.call("domain_resume")
        await hands.gone("virtio-disk1")
        assert "vdb" not in await hands.xml()
        await until("the image is closed", lambda: True)
        assert not {one for one in await hands.nodes() if one.startswith("libvirt-")}


async def test_media_change_and_what_is_refused_leaves_the_drive_as_it_was(root: Path) -> None:
    one, two = root / "one.iso", root / "two.iso"
    one.write_bytes(b"1" * 65536)
    two.write_bytes(b"2" * 65536)
    guest = Subject(root, medium_xml(one), boots=False, machine="q35")
    async with running(root, guest) as hands:
        await hands.update(medium_xml(two), BOTH)
        assert f"<source file='{two}' index='2'/>" in await hands.xml()
        assert f"<source file='{two}'/>" in await hands.xml(2)
        assert await hands.nodes() == {"libvirt-2-format", "libvirt-2-storage"}
        with pytest.raises(HostSystemError, match="No such file"):
            await hands.update(medium_xml(root / "absent.iso"), BOTH)
        assert f"<source file='{two}' index='2'/>" in await hands.xml()
        await hands.update(medium_xml(None))
        text = await hands.xml()
        assert str(two) not in text and "<source index=" in text
        assert await hands.nodes() == set()
        await hands.update(medium_xml(None))
        await hands.update(medium_xml(one))
        assert str(one) in await hands.xml() and f"<source file='{two}'/>" in await hands.xml(2)
        with pytest.raises(OperationUnsupported, match="cannot be detached"):
            await hands.detach(medium_xml(one))


async def test_a_controller_that_came_for_a_disk_stays_when_the_disk_does_not_come(root: Path) -> None:
    broken, whole = root / "broken.qcow2", root / "whole.raw"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(broken), "1M")
    with broken.open("r+b") as image:
        image.seek(4)
        image.write(b"\xff\xff\xff\xff")
    whole.write_bytes(b"\0" * (1 << 20))
    guest = Subject(root, "", boots=False)
    async with running(root, guest) as hands:
        bad = disk_xml(broken, "sda", "scsi").replace("type='raw'", "type='qcow2'")
        with pytest.raises(InternalError, match="blockdev-add"):
            await hands.attach(bad)
        assert "<alias name='scsi0'/>" in await hands.xml() and "<target dev='sda'" not in await hands.xml()
        await hands.attach(disk_xml(whole, "sda", "scsi"))
        assert "<target dev='sda'" in await hands.xml()


async def test_both_definitions_or_neither(root: Path) -> None:
    disk = root / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    guest = Subject(root, "<controller type='scsi' index='0' model='virtio-scsi'/>", boots=False)
    async with running(root, guest) as hands:
        xml = disk_xml(disk, "sdb", "scsi")
        await hands.attach(xml, BOTH)
        assert "sdb" in await hands.xml() and "sdb" in await hands.xml(2)
        with pytest.raises((XmlError, DomainStateError)):
            await hands.attach(xml, BOTH)
        await hands.detach(xml, BOTH)
        assert "sdb" not in await hands.xml() and "sdb" not in await hands.xml(2)
        await hands.attach(xml, BOTH)
        # QEMU lets it go at once, before anybody could wait for it
        await hands.call("domain_detach_device_alias", alias="scsi0-0-0-1", flags=LIVE)
        await until("it is gone", lambda: hands.told("device_removed") == ["scsi0-0-0-1"] * 2, SEEN_S)
        assert "sdb" not in await hands.xml() and "sdb" in await hands.xml(2)
        # the definition has it already: the guest does not get it either
        with pytest.raises(VirtError):
            await hands.attach(xml, BOTH)
        assert "sdb" not in await hands.xml()
        # QEMU refuses: the definition does not get it either
        broken = root / "broken.qcow2"
        await run("qemu-img", "create", "-q", "-f", "qcow2", str(broken), "1M")
        with broken.open("r+b") as image:
            image.seek(4)
            image.write(b"\xff\xff\xff\xff")
        bad = disk_xml(broken, "sdc", "scsi").replace("type='raw'", "type='qcow2'")
        with pytest.raises(InternalError, match="unable to execute QEMU command 'blockdev-add'"):
            await hands.attach(bad, BOTH)
        assert "sdc" not in await hands.xml() and "sdc" not in await hands.xml(2)
        assert not {one for one in await hands.nodes() if one.startswith("libvirt-")}, "nothing is left of it"


async def test_devices_with_something_behind_them(root: Path) -> None:
    devices = {
        "rng0": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "channel0": "<channel type='unix'><target type='virtio' name='org.vt.x'/></channel>",
        "channel1": f"<channel type='file'><source path='{root}/out'/><target type='virtio' name='vt.y'/></channel>",
        "shmem0": f"<shmem name='vt{uuid4().hex[:8]}'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>",
        "watchdog0": "<watchdog model='i6300esb' action='none'/>",
        "input3": "<input type='keyboard' bus='usb'/>",
        "scsi1": "<controller type='scsi' index='1' model='virtio-scsi'/>",
    }
    guest = Subject(
        root,
        "<controller type='virtio-serial' index='0'/><controller type='scsi' index='0' model='virtio-scsi'/>"
        "<input type='tablet' bus='usb'/><graphics type='vnc' autoport='yes' passwd='one'/>",
        boots=False,
    )
    async with running(root, guest) as hands:
        for alias, xml in devices.items():
            await hands.attach(xml)
            assert hands.told("device_added")[-1] == alias
        text = await hands.xml()
        assert all(f"<alias name='{alias}'/>" in text for alias in devices)
        names = {one["name"] for one in await hands.ask("qom-list", _PLACE)}
        assert set(devices) <= names
        socket = (
            hands.house.runtime.paths.role_run("qemu")
            / "channel"
            / Path(str(hands.house.host.guests[guest.uuid.bytes].folder)).name
            / "org.vt.x"
        )
        assert socket.is_socket() and (root / "out").exists()
        for alias in ("channel0", "channel1", "input3"):
            await hands.call("domain_detach_device_alias", alias=alias, flags=LIVE)
            await hands.gone(alias)
        with pytest.raises(DeviceMissing, match="chr type 'channel' device not present"):
            await hands.detach(devices["channel0"])
        chardevs = {one["label"] for one in await hands.ask("query-chardev")}
        assert not chardevs & {"charchannel0", "charchannel1"}
        left = [fd["opaque"] for one in await hands.ask("query-fdsets") for fd in one["fds"]]
        assert left == ["serial0-log"], "the log is the console's"
        await hands.update(
            "<graphics type='vnc' autoport='yes' listen='127.0.0.1' passwd='two' passwdValidTo='2000-01-01T00:00:00'/>"
        )
        assert "passwd='two'" in await hands.xml(1)
        with pytest.raises(OperationUnsupported):
            await hands.update("<graphics type='vnc' port='5999' autoport='no' listen='127.0.0.1' passwd='two'/>")
        for xml in ("<hub type='usb'/>", "<memballoon model='virtio'/>", "<sound model='ich6'/>"):
            with pytest.raises(OperationUnsupported, match="live attach of device"):
                await hands.attach(xml)


async def test_listed_processors_are_there_from_the_start(root: Path) -> None:
    guest = Subject(root, "", boots=False)
    listed = (
        "<vcpu current='3'>4</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no' order='1'/>"
        "<vcpu id='1' enabled='no' hotpluggable='yes'/><vcpu id='2' enabled='yes' hotpluggable='yes' order='3'/>"
        "<vcpu id='3' enabled='yes' hotpluggable='yes' order='2'/></vcpus>"
    )
    guest.xml = guest.xml.replace("<vcpu>1</vcpu>", listed)
    async with running(root, guest) as hands:
        text = await hands.xml()
        assert "<vcpu id='3' enabled='yes' hotpluggable='yes' order='2'/>" in text
        assert "<vcpu placement='static' current='3'>4</vcpu>" in text
        online = ["qom-path" in one for one in await hands.ask("query-hotpluggable-cpus")]
        assert online == [True, True, False, True]
        threads = hands.house.host.guests[guest.uuid.bytes].run.vcpu_threads
        assert list(threads) == [0, 2, 3] and all(threads.values())


async def test_threads_come_and_go(root: Path) -> None:
    disk = root / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    guest = Subject(root, "", boots=False, top="<iothreads>1</iothreads>")
    async with running(root, guest) as hands:
        await hands.call("domain_add_iothread", iothread_id=7, flags=BOTH)
        assert "<iothreads>2</iothreads>" in await hands.xml()
        with pytest.raises(InvalidArguments, match="already using"):
            await hands.call("domain_add_iothread", iothread_id=7, flags=LIVE)
        await hands.attach(disk_xml(disk, "vdb", "virtio").replace("type='raw'", "type='raw' iothread='7'"))
        with pytest.raises(InvalidArguments, match="used by disk 'vdb'"):
            await hands.call("domain_del_iothread", iothread_id=7, flags=LIVE)
        await hands.call("domain_add_iothread", iothread_id=9, flags=LIVE)
        await hands.call("domain_del_iothread", iothread_id=9, flags=LIVE)
        assert "<iothread id='7'/>" in await hands.xml(2) and "id='9'" not in await hands.xml()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a bridge needs root")
async def test_a_card_goes_to_another_bridge_and_its_tap_goes_with_it(root: Path) -> None:
    bridges = [f"vt{uuid4().hex[:8]}" for _ in range(2)]
    for bridge in bridges:
        await run("ip", "link", "add", bridge, "type", "bridge")
    try:
        nic = (
            "<interface type='bridge'><mac address='52:54:00:12:34:57'/><source bridge='{}'/>"
            "<model type='virtio'/></interface>"
        )
        guest = Subject(root, "", boots=False)
        async with running(root, guest) as hands:
            with pytest.raises(HostSystemError):
                await hands.attach(nic.format("absent0"))
            await hands.attach(nic.format(bridges[0]))
            (tap,) = [one.name for one in Path(f"/sys/class/net/{bridges[0]}/brif").iterdir()]
            assert f"<target dev='{tap}'/>" in await hands.xml()
            await hands.update(nic.format(bridges[1]))
            assert [one.name for one in Path(f"/sys/class/net/{bridges[1]}/brif").iterdir()] == [tap]
            assert f"<source bridge='{bridges[1]}'/>" in await hands.xml()
            with pytest.raises(OperationUnsupported):
                await hands.update(nic.format(bridges[1]).replace("virtio", "e1000"))
    finally:
        for bridge in bridges:
            await run("ip", "link", "del", bridge)
