"""What QEMU is told to make a device while its guest runs, and what takes that back."""

from __future__ import annotations

from typing import Any

import pytest

from actors.qemu.hotplug.chardev_words import chardev_arguments, read_words
from actors.qemu.hotplug.departures import Departures, Removal
from actors.qemu.hotplug.lists import by_alias, insert, narrowed, remove
from actors.qemu.hotplug.processors import (
    count_in,
    keep_orders,
    read_entities,
    set_in,
    the_one,
    to_change,
    write_vcpus,
)
from actors.qemu.hotplug.steps import Steps, carry_out, take_out
from actors.qemu.monitor.link import Command
from conf.domain.disk import Disk, DiskBus, DiskTarget
from conf.domain.domain import Domain
from conf.domain.os import Os, OsKind
from conf.domain.vcpu import Vcpu
from schema.errors import ConfigUnsupported, InternalError, InvalidArguments, OperationUnsupported


class Talk:
    """A monitor that refuses one command, and remembers what it was told."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.taken_back: list[Command] = []

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        if name == self.refuses:
            raise InternalError(f"unable to execute QEMU command '{name}': no")
        self.said.append((name, arguments or {}))
        return {"pty": "/dev/pts/7"} if name == "chardev-add" else None

    async def hand_over(self, name: str, descriptor: int) -> None:
        self.said.append(("getfd", {"fdname": name}))

    async def hand_over_set(self, descriptor: int, opaque: str, number: int | None = None) -> int:
        self.said.append(("add-fd", {"opaque": opaque}))
        return 12

    def take_back(self, commands: list[Command]) -> None:
        self.taken_back += commands


@pytest.mark.parametrize(
    ("words", "backend"),
    [
        ("pty,id=c", {"type": "pty", "data": {}}),
        ("file,id=c,path=/a,,b,append=on", {"type": "file", "data": {"out": "/a,b", "append": True}}),
        ("serial,id=c,path=/dev/ttyS0", {"type": "serial", "data": {"device": "/dev/ttyS0"}}),
        (
            "socket,id=c,fd=c-fd,server=on,wait=off",
            {
                "type": "socket",
                "data": {"addr": {"type": "fd", "data": {"str": "c-fd"}}, "server": True, "wait": False},
            },
        ),
        (
            "socket,id=c,host=h,port=1,telnet=on,reconnect=5",
            {
                "type": "socket",
                "data": {
                    "addr": {"type": "inet", "data": {"host": "h", "port": "1"}},
                    "server": False,
                    "telnet": True,
                    "reconnect": 5,
                },
            },
        ),
        ("spicevmc,id=c,name=usbredir", {"type": "spicevmc", "data": {"type": "usbredir"}}),
        (
            "null,id=c,logfile=/dev/fdset/0,logappend=on",
            {"type": "null", "data": {"logfile": "/dev/fdset/0", "logappend": True}},
        ),
    ],
)
def test_a_word_of_the_command_line_becomes_an_object(words: str, backend: dict[str, Any]) -> None:
    kind, parts = read_words(words)
    assert chardev_arguments(kind, parts) == {"id": "c", "backend": backend}


def test_what_cannot_be_plugged_in_is_refused() -> None:
    with pytest.raises(OperationUnsupported):
        chardev_arguments("nmdm", {"id": "c"})
    with pytest.raises(OperationUnsupported, match="-serial"):
        Steps().add("-serial", "chardev:c")


async def test_what_stands_behind_a_device_comes_first_and_descriptors_are_named() -> None:
    steps = Steps()
    steps.add_json("-device", {"driver": "virtio-net-pci", "netdev": "hostnet0", "id": "net0", "addr": None})
    steps.add_json("-netdev", {"type": "tap", "fds": "7:8", "vhost": True, "vhostfd": "9", "id": "hostnet0"})
    steps.add("-add-fd", "set=0,fd=10,opaque=channel0-source")
    steps.add("-chardev", "file,id=charchannel0,path=/dev/fdset/0,append=on")
    talk = Talk()
    values = await carry_out(talk, steps.ordered)
    assert [name for name, _ in talk.said] == [
        *("getfd", "getfd", "getfd", "netdev_add", "add-fd", "chardev-add", "device_add")
    ]
    netdev = dict(talk.said)["netdev_add"]
    assert (netdev["fds"], netdev["vhostfd"]) == ("hostnet0-fds0:hostnet0-fds1", "hostnet0-vhostfd0")
    assert dict(talk.said)["chardev-add"]["backend"]["data"]["out"] == "/dev/fdset/12", "the number that QEMU gave"
    assert "addr" not in dict(talk.said)["device_add"]
    assert values["charchannel0"] == {"pty": "/dev/pts/7"}
    assert not talk.taken_back


async def test_a_refusal_takes_back_what_was_done_and_nothing_else() -> None:
    steps = Steps()
    steps.add_json("-object", {"qom-type": "rng-random", "id": "objrng0", "filename": "/dev/urandom"})
    steps.add("-chardev", "socket,id=charrng0,fd=5,server=on,wait=off")
    steps.add_json("-device", {"driver": "virtio-rng-pci", "id": "rng0"})
    talk = Talk(refuses="device_add")
    with pytest.raises(InternalError):
        await carry_out(talk, steps.ordered)
    assert [name for name, _ in talk.taken_back] == ["chardev-remove", "closefd", "object-del"]
    talk = Talk(refuses="object-add")
    with pytest.raises(InternalError):
        await carry_out(talk, steps.ordered)
    assert not talk.taken_back
    assert [name for name, _ in steps.undo] == ["device_del", "chardev-remove", "closefd", "object-del"]


async def test_parts_of_a_device_that_is_gone_go_as_soon_as_qemu_does_not_use_them() -> None:
    class Slow(Talk):
        answers = iter(
            ["Node libvirt-2-format is in use", "Node libvirt-2-format is busy: node is used", "", "not found"]
        )

        async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
            if problem := next(self.answers):
                raise InternalError(f"unable to execute QEMU command '{name}': {problem}")
            return await super().ask(name, arguments)

    talk = Slow()
    await take_out(talk, [("blockdev-del", {"node-name": "libvirt-2-format"}), ("object-del", {"id": "gone"})])
    assert talk.said == [("blockdev-del", {"node-name": "libvirt-2-format"})]
    assert next(talk.answers, None) is None


async def test_who_waits_for_a_device_hears_of_it_once() -> None:
    departures = Departures()
    future = departures.expect("net0")
    assert not departures.tell("net1", Removal.GONE)
    assert departures.tell("net0", Removal.REFUSED) and departures.tell("net0", Removal.GONE)
    assert future.result() is Removal.REFUSED
    departures.forget("net0", future)
    assert not departures.tell("net0", Removal.GONE)


def _domain(**values: Any) -> Domain:
    return Domain(type="qemu", name="d", os=Os(kind=OsKind(type="hvm", arch="x86_64")), **values)


def test_a_device_stands_where_a_definition_that_is_read_has_it() -> None:
    domain = _domain()
    disks = [Disk(target=DiskTarget(dev=name, bus=DiskBus.VIRTIO), alias=name) for name in ("vdc", "vda", "vdb")]
    for disk in disks:
        insert(domain, disk)
    assert [one.target.dev for one in domain.devices.disks] == ["vda", "vdb", "vdc"]
    assert by_alias(domain, "vdb") is disks[2]
    only = narrowed(domain, disks[0])
    assert only.devices.disks == [disks[0]] and len(domain.devices.disks) == 3 and only.name == "d"
    remove(domain, disks[1])
    assert [one.target.dev for one in domain.devices.disks] == ["vdb", "vdc"] and by_alias(domain, "vda") is None


# --- processors ------------------------------------------------------------------------------------------------------


def _slots(*paths: str | None, count: int = 1) -> list[dict[str, Any]]:
    """As QEMU lists them: the highest number first."""
    found = [
        {"type": "cpu", "vcpus-count": count, "props": {"core-id": number}, **({"qom-path": path} if path else {})}
        for number, path in enumerate(paths)
    ]
    return found[::-1]


def _cpus(*paths: str) -> list[dict[str, Any]]:
    return [{"qom-path": path, "cpu-index": number, "thread-id": 100 + number} for number, path in enumerate(paths)]


def test_processors_are_counted_up_and_down_in_groups() -> None:
    fixed, plugged = "/machine/unattached/device[0]", "/machine/peripheral/vcpu4"
    entities = read_entities(
        _slots(fixed, None, plugged, None, count=2),
        _cpus(*(f"{fixed}/thread[{n}]" for n in (0, 1)), f"{plugged}/thread[0]"),
    )
    assert [(one.first, one.is_online, one.is_hotpluggable, one.alias) for one in entities] == [
        (0, True, False, None),
        (2, False, True, None),
        (4, True, True, "vcpu4"),
        (6, False, True, None),
    ]
    assert [one.first for one in to_change(entities, 8)] == [2, 6]
    assert [one.first for one in to_change(entities, 2)] == [4]
    for impossible in (3, 7, 0):
        with pytest.raises(ConfigUnsupported):
            to_change(entities, impossible)
    assert the_one(entities, frozenset({2, 3}), enable=True).first == 2
    for numbers, enable in (({2}, True), ({2, 3, 6, 7}, True), ({4, 5}, True), ({9}, True)):
        with pytest.raises(InvalidArguments):
            the_one(entities, frozenset(numbers), enable=enable)
    with pytest.raises(OperationUnsupported):
        the_one(entities, frozenset({0, 1}), enable=False)


def test_processors_keep_the_order_in_which_they_came() -> None:
    domain = _domain(vcpu=Vcpu(count=3, current=1))
    first = "/machine/unattached/device[0]"
    write_vcpus(domain, read_entities(_slots(first, None, None), _cpus(first)))
    third = "/machine/peripheral/vcpu2"
    later = read_entities(_slots(first, None, third), _cpus(first, third))
    keep_orders(later, domain.vcpus)
    write_vcpus(domain, later)
    second = "/machine/peripheral/vcpu1"
    last = read_entities(_slots(first, second, third), _cpus(first, second, third))
    keep_orders(last, domain.vcpus)
    write_vcpus(domain, last)
    assert domain.vcpus is not None
    assert [one.order for one in domain.vcpus.vcpus] == [1, 3, 2]
    assert domain.vcpu.current is None


def test_the_definition_for_the_next_start_says_which_processors() -> None:
    config = _domain(vcpu=Vcpu(count=4, current=1))
    count_in(config, 3, hotpluggable=False)
    assert config.vcpu.current == 3 and config.vcpus is None
    with pytest.raises(InvalidArguments, match="vcpu '1' can't be modified as it is followed by"):
        set_in(config, frozenset({1}), enable=False)
    set_in(config, frozenset({2}), enable=False)
    assert config.vcpus is not None and config.vcpu.current == 2
    assert [(one.enabled, one.hotpluggable) for one in config.vcpus.vcpus] == [
        *((True, False), (True, False), (False, True), (False, True))
    ]
    with pytest.raises(InvalidArguments):
        set_in(config, frozenset({0}), enable=False)
    with pytest.raises(InvalidArguments):
        set_in(config, frozenset({7}), enable=True)
    count_in(config, 4, hotpluggable=True)
    assert config.vcpu.current is None
