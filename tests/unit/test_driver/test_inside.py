"""What guests tell of themselves: agent, counters, labels, screenshots."""

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from actors.test.screenshot import drawn_picture, read_picture
from broker.stream import open_ticket
from schema.errors import (
    ArgumentUnsupported,
    DomainStateError,
    InvalidArguments,
    OperationUnsupported,
    UnsupportedFlags,
)
from schema.objects import TypedParam
from tests.unit.test_driver.house import House, open_house

LIVE = 1

ANSWERS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("domain_get_hostname", {"flags": 0}, "hostname", "testhost"),
    ("domain_get_time", {"flags": 0}, "seconds", 627319920),
    ("domain_get_control_info", {"flags": 0}, "state", 0),
    ("domain_get_security_label", {}, "label", b"libvirt-test\0"),
    ("domain_get_messages", {"flags": 0}, "msgs", []),
    ("domain_memory_peek", {"offset": 254, "size": 4, "flags": 1}, "buffer", b"\xfe\xff\x00\x01"),
    ("domain_get_scheduler_type", {}, "type", "fair"),
    ("domain_get_scheduler_parameters", {"nparams": 1}, "params", [TypedParam.of_uint("weight", 50)]),
    ("domain_get_max_vcpus", {}, "num", 2),
    ("domain_get_block_info", {"path": "vda", "flags": 0}, "physical", 1 << 40),
    ("domain_get_os_type", {}, "type", "linux"),
    ("domain_get_vcpu_pin_info", {"ncpumaps": 3, "maplen": 1, "flags": 0}, "cpumaps", b"\xff\xff\0"),
    ("domain_get_emulator_pin_info", {"maplen": 1, "flags": 0}, "cpumaps", b"\xff"),
]


@pytest.mark.parametrize(("procedure", "args", "field", "expected"), ANSWERS)
async def test_running_guest_answers_as_libvirts_does(
    tmp_path: Path, procedure: str, args: dict[str, Any], field: str, expected: Any
) -> None:
    async with open_house(tmp_path) as house:
        found = await house.call(procedure, dom=await house.domain("test"), **args)
        assert getattr(found, field) == expected


NEEDS_A_RUNNING_GUEST: list[tuple[str, dict[str, Any]]] = [
    ("domain_reset", {"flags": 0}),
    ("domain_inject_nmi", {"flags": 0}),
    ("domain_send_key", {"codeset": 0, "holdtime": 0, "keycodes": [30], "flags": 0}),
    ("domain_set_time", {"seconds": 1, "nseconds": 0, "flags": 1}),
    ("domain_set_user_password", {"user": "root", "password": "x", "flags": 1}),
    ("domain_fstrim", {"mountPoint": None, "minimum": 0, "flags": 0}),
    ("domain_get_fsinfo", {"flags": 0}),
    ("domain_fsfreeze", {"mountpoints": [], "flags": 0}),
    ("domain_fsthaw", {"mountpoints": [], "flags": 0}),
    ("domain_interface_addresses", {"source": 0, "flags": 0}),
    ("domain_memory_stats", {"maxStats": 13, "flags": 0}),
    ("domain_get_cpu_stats", {"nparams": 3, "start_cpu": -1, "ncpus": 1, "flags": 0}),
    ("domain_block_stats", {"path": "vda"}),
    ("domain_get_disk_errors", {"maxerrors": 9, "flags": 0}),
    ("domain_interface_stats", {"device": "testnet0"}),
    ("domain_get_time", {"flags": 0}),
    ("domain_get_hostname", {"flags": 0}),
]


@pytest.mark.parametrize(("procedure", "args"), NEEDS_A_RUNNING_GUEST)
async def test_guest_that_is_off_tells_nothing(tmp_path: Path, procedure: str, args: dict[str, Any]) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call(procedure, dom=dom, **args)
        await house.call("domain_destroy", dom=dom)
        with pytest.raises(DomainStateError, match="domain is not running"):
            await house.call(procedure, dom=dom, **args)


async def test_file_systems_freeze_once_and_thaw_when_the_guest_ends(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")

        async def count(procedure: str, *mounts: str) -> int:
            return int((await house.call(procedure, dom=dom, mountpoints=list(mounts), flags=0)).filesystems)

        assert await count("domain_fsfreeze", "/boot") == 1
        assert await count("domain_fsfreeze") == 1
        assert await count("domain_fsfreeze") == 0
        assert await count("domain_fsthaw", "/") == 1
        with pytest.raises(DomainStateError, match="mount point not found: /x"):
            await count("domain_fsfreeze", "/x")
        await house.call("domain_destroy", dom=dom)
        await house.call("domain_create", dom=dom)
        assert await count("domain_fsfreeze") == 2
        info = (await house.call("domain_get_fsinfo", dom=dom, flags=0)).info
        assert [(one.mountpoint, one.name) for one in info] == [("/", "vda1"), ("/boot", "vda2")]


async def test_counters_follow_the_clock(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        before = time.time_ns()
        used = (await house.call("domain_get_info", dom=dom)).cpuTime
        assert before <= used <= time.time_ns()
        stats = await house.call("domain_interface_stats", dom=dom, device="aa:bb:cc:dd:ee:ff")
        assert stats.rx_bytes >= before // 10_000
        disk = await house.call("domain_block_stats", dom=dom, path="/guest/diskimage1")
        assert disk.rd_req >= disk.wr_req > 0
        with pytest.raises(InvalidArguments, match="invalid path: vdz"):
            await house.call("domain_block_stats", dom=dom, path="vdz")
        with pytest.raises(OperationUnsupported, match="summary statistics are not supported yet"):
            await house.call("domain_block_stats", dom=dom, path="")


async def test_cpu_times_add_up(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")

        async def stats(nparams: int, start: int, cpus: int) -> Any:
            return await house.call(
                "domain_get_cpu_stats", dom=dom, nparams=nparams, start_cpu=start, ncpus=cpus, flags=0
            )

        assert (await stats(0, 0, 0)).nparams == 2
        assert (await stats(0, -1, 1)).nparams == 3
        total = (await stats(3, -1, 1)).params[0].value
        each = [param.value for param in (await stats(2, 0, 2)).params if param.field == "cpu_time"]
        assert total == sum(each)


async def test_bulk_statistics_are_states_and_no_more(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")

        async def stats(stats: int, flags: int, *doms: Any) -> Any:
            found = await house.call("connect_get_all_domain_stats", doms=list(doms), stats=stats, flags=flags)
            return [(one.dom.name, [(p.field, p.value) for p in one.params]) for one in found.retStats]

        state = [("test", [("state.state", 1), ("state.reason", 0)])]
        assert await stats(0, 0) == state
        assert await stats(1, 0, dom) == state
        assert await stats(2, 0) == [("test", [])]
        assert await stats(0, 2) == []
        with pytest.raises(ArgumentUnsupported, match="Stats types bits 0x2 are not supported by this daemon"):
            await stats(2, 1 << 31)


async def test_signal_goes_to_the_first_process_only(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_send_process_signal", dom=dom, pid_value=1, signum=15, flags=0)
        with pytest.raises(InvalidArguments, match="only sending a signal to pid 1 is supported"):
            await house.call("domain_send_process_signal", dom=dom, pid_value=2, signum=15, flags=0)


async def test_weight_is_taken_and_not_kept(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_set_scheduler_parameters", dom=dom, params=[TypedParam.of_uint("weight", 70)])
        assert (await house.call("domain_get_scheduler_parameters", dom=dom, nparams=9)).params[0].value == 50
        with pytest.raises(UnsupportedFlags):
            await house.call("domain_get_scheduler_parameters_flags", dom=dom, nparams=1, flags=2)


async def limits(house: House, what: str, name: str, value: int, flags: int = 0) -> None:
    dom = await house.domain("test")
    if what == "disk":
        params = [TypedParam.of_ullong(name, value)]
        await house.call("domain_set_block_io_tune", dom=dom, disk="vda", params=params, flags=flags)
    else:
        params = [TypedParam.of_uint(name, value)]
        await house.call("domain_set_interface_parameters", dom=dom, device="testnet0", params=params, flags=flags)


async def test_disk_has_limits_below_its_maxima(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        with pytest.raises(InvalidArguments, match="total_bytes_sec cannot be set higher than total_bytes_sec_max"):
            await limits(house, "disk", "total_bytes_sec", 1000)
        await limits(house, "disk", "total_bytes_sec_max", 2000)
        await limits(house, "disk", "total_bytes_sec", 1000)
        with pytest.raises(InvalidArguments, match="total and read/write of bytes_sec_max cannot be set"):
            await limits(house, "disk", "read_bytes_sec_max", 10)
        found = await house.call("domain_get_block_io_tune", dom=dom, disk="vda", nparams=20, flags=0)
        assert TypedParam.of_ullong("total_bytes_sec", 1000) in found.params
        assert len(found.params) == 20
        assert (await house.call("domain_get_block_io_tune", dom=dom, disk="vdb", nparams=0, flags=0)).nparams == 20
        with pytest.raises(InvalidArguments, match="disk 'vdb' was not found in the domain config"):
            await house.call("domain_get_block_io_tune", dom=dom, disk="vdb", nparams=20, flags=0)


async def test_interface_has_a_bandwidth_until_its_average_is_zero(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await limits(house, "interface", "inbound.average", 100, LIVE)
        found = await house.call("domain_get_interface_parameters", dom=dom, device="testnet0", nparams=7, flags=0)
        assert TypedParam.of_uint("inbound.average", 100) in found.params
        assert "<inbound average='100'/>" in (await house.call("domain_get_xml_desc", dom=dom, flags=0)).xml
        await limits(house, "interface", "inbound.average", 0, LIVE)
        assert "<bandwidth>" not in (await house.call("domain_get_xml_desc", dom=dom, flags=0)).xml
        with pytest.raises(InvalidArguments, match="'zz' is not a known interface"):
            await house.call("domain_get_interface_parameters", dom=dom, device="zz", nparams=7, flags=0)


async def test_what_is_set_shows_in_the_definition(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_set_memory_stats_period", dom=dom, period=5, flags=0)
        await house.call("domain_pin_emulator", dom=dom, cpumap=b"\x0a", flags=0)
        await house.call("domain_add_iothread", dom=dom, iothread_id=4, flags=0)
        params = [TypedParam.of_ullong("poll_max_ns", 1000)]
        await house.call("domain_set_iothread_params", dom=dom, iothread_id=4, params=params, flags=0)
        xml = (await house.call("domain_get_xml_desc", dom=dom, flags=0)).xml
        assert "<stats period='5'/>" in xml
        assert "<emulatorpin cpuset='1,3'/>" in xml
        assert "<iothread id='4'/>" in xml


async def test_managed_save_image_can_be_forgotten(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_managed_save", dom=dom, flags=0)
        await house.call("domain_managed_save_remove", dom=dom, flags=0)
        assert (await house.call("domain_has_managed_save_image", dom=dom, flags=0)).result == 0


async def test_screenshot_comes_through_a_stream(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        call = house.post("domain_screenshot", dom=await house.domain("test"), screen=0, flags=0)
        assert (await house.outcome(call)).mime == "image/png"
        ticket = house.broker.outcomes[call.id][-1][3]
        stream = await open_ticket(ticket)
        received = io.BytesIO()
        while part := await stream.read():
            received.write(part)
        stream.close()
        assert received.getvalue() == drawn_picture()


def test_drawn_picture_is_a_whole_png() -> None:
    data = drawn_picture()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    place, kinds, pixels = 8, [], b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length)[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        pixels += body if kind == b"IDAT" else b""
        place += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack_from(">II", data, 16)
    assert len(zlib.decompress(pixels)) == height * (width + 1)


def test_file_that_is_no_picture_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    assert read_picture(str(tmp_path / "secret")) == drawn_picture()
    (tmp_path / "own.png").write_bytes(b"\x89PNG\r\n\x1a\nown")
    assert read_picture(str(tmp_path / "own.png")) == b"\x89PNG\r\n\x1a\nown"
