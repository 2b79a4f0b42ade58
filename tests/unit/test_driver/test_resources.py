"""Memory, processors, limits and shares, metadata."""

from pathlib import Path
from typing import Any

import pytest

from schema.errors import ArgumentUnsupported, DomainStateError, InvalidArguments, NoDomainMetadata, XmlDetailError
from schema.objects import TypedParam
from tests.unit.test_driver.house import House, open_house

LIVE, CONFIG, MAXIMUM = 1, 2, 4
ELEMENT = 2
URI = "http://example.org/a"


async def xml_of(house: House, flags: int = 0) -> str:
    found = await house.call("domain_get_xml_desc", dom=await house.domain("test"), flags=flags)
    return str(found.xml)


async def test_memory_changes_where_the_flags_say(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_set_memory", dom=dom, memory=1024)
        await house.call("domain_set_memory_flags", dom=dom, memory=4096, flags=CONFIG)
        assert "<currentMemory unit='KiB'>1024<" in await xml_of(house)
        assert "<currentMemory unit='KiB'>4096<" in await xml_of(house, 2)
        with pytest.raises(InvalidArguments, match="cannot set memory higher than max memory"):
            await house.call("domain_set_memory", dom=dom, memory=1 << 40)
        with pytest.raises(DomainStateError, match="cannot resize the maximum memory on an active domain"):
            await house.call("domain_set_max_memory", dom=dom, memory=4096)


async def test_smaller_maximum_takes_memory_along(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_destroy", dom=dom)
        await house.call("domain_set_max_memory", dom=dom, memory=1000)
        info = await house.call("domain_get_info", dom=dom)
        assert (info.maxMem, info.memory) == (1000, 1000)


async def test_processors_stay_within_guest_and_host(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        with pytest.raises(InvalidArguments, match=r"exceeds maximum \(3 > 2\)"):
            await house.call("domain_set_vcpus_flags", dom=dom, nvcpus=3, flags=LIVE)
        with pytest.raises(InvalidArguments, match=r"exceeds maximum supported amount \(33 > 32\)"):
            await house.call("domain_set_vcpus_flags", dom=dom, nvcpus=33, flags=LIVE)
        await house.call("domain_set_vcpus_flags", dom=dom, nvcpus=1, flags=LIVE)
        await house.call("domain_set_vcpus_flags", dom=dom, nvcpus=4, flags=CONFIG | MAXIMUM)
        counts = [
            (await house.call("domain_get_vcpus_flags", dom=dom, flags=flags)).num
            for flags in (LIVE, LIVE | MAXIMUM, CONFIG, CONFIG | MAXIMUM)
        ]
        assert counts == [1, 2, 2, 4]


async def test_pinned_processor_tells_where_it_runs(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_pin_vcpu", dom=dom, vcpu=0, cpumap=b"\x0b")
        found = await house.call("domain_get_vcpus", dom=dom, maxinfo=2, maplen=1)
        assert found.cpumaps == b"\x0b\xff"
        assert [info.cpu for info in found.info] == [3, 15]
        assert "<vcpupin vcpu='0' cpuset='0-1,3'/>" in await xml_of(house)
        with pytest.raises(InvalidArguments, match="requested vcpu '99' is not present in the domain"):
            await house.call("domain_pin_vcpu", dom=dom, vcpu=99, cpumap=b"\x01")


@pytest.mark.parametrize(
    ("setter", "getter", "params", "markup"),
    [
        (
            "domain_set_memory_parameters",
            "domain_get_memory_parameters",
            [TypedParam.of_ullong("hard_limit", 10000)],
            "<hard_limit unit='KiB'>10000</hard_limit>",
        ),
        (
            "domain_set_blkio_parameters",
            "domain_get_blkio_parameters",
            [TypedParam.of_uint("weight", 500), TypedParam.of_string("device_weight", "/dev/sda,300")],
            "<path>/dev/sda</path>",
        ),
        (
            "domain_set_numa_parameters",
            "domain_get_numa_parameters",
            [TypedParam.of_int("numa_mode", 2), TypedParam.of_string("numa_nodeset", "0")],
            "<memory mode='interleave' nodeset='0'/>",
        ),
    ],
)
async def test_what_is_set_is_told_and_written(
    tmp_path: Path, setter: str, getter: str, params: list[TypedParam], markup: str
) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        count = (await house.call(getter, dom=dom, nparams=0, flags=0)).nparams
        await house.call(setter, dom=dom, params=params, flags=0)
        found = (await house.call(getter, dom=dom, nparams=count, flags=0)).params
        assert set(params) <= set(found)
        assert markup in await xml_of(house)
        assert markup not in await xml_of(house, 2)
        with pytest.raises(ArgumentUnsupported, match="parameter 'bogus' not supported"):
            await house.call(setter, dom=dom, params=[TypedParam.of_int("bogus", 1)], flags=0)


async def test_perf_event_is_counted_until_it_is_not(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        for enabled in (True, False):
            params = [TypedParam.of_boolean("cmt", enabled)]
            await house.call("domain_set_perf_events", dom=dom, params=params, flags=0)
            found = (await house.call("domain_get_perf_events", dom=dom, flags=0)).params
            assert params[0] in found
            assert f"<event name='cmt' enabled='{'yes' if enabled else 'no'}'/>" in await xml_of(house)


async def test_iothreads_come_and_go(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_add_iothread", dom=dom, iothread_id=4, flags=0)
        with pytest.raises(InvalidArguments, match="an IOThread is already using iothread_id '4'"):
            await house.call("domain_add_iothread", dom=dom, iothread_id=4, flags=0)
        await house.call("domain_pin_iothread", dom=dom, iothreads_id=4, cpumap=b"\x07", flags=0)
        info = (await house.call("domain_get_iothread_info", dom=dom, flags=0)).info
        assert [(thread.iothread_id, thread.cpumap) for thread in info] == [(4, b"\x07")]
        await house.call("domain_del_iothread", dom=dom, iothread_id=4, flags=0)
        assert "iothread" not in await xml_of(house)


async def set_metadata(house: House, markup: str | None, flags: int = 0) -> None:
    dom = await house.domain("test")
    await house.call("domain_set_metadata", dom=dom, type=ELEMENT, metadata=markup, key="ex", uri=URI, flags=flags)


async def get_metadata(house: House, flags: int = 0) -> Any:
    dom = await house.domain("test")
    return (await house.call("domain_get_metadata", dom=dom, type=ELEMENT, uri=URI, flags=flags)).metadata


async def test_metadata_is_kept_in_its_namespace_and_given_without(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.broker.records.clear()
        await set_metadata(house, "<info a='1'>hello<b/></info>")
        assert await get_metadata(house) == '<info a="1">hello<b/></info>'
        assert '<ex:info xmlns:ex="http://example.org/a" a="1">hello<ex:b/></ex:info>' in await xml_of(house)
        assert house.broker.kinds() == ["domain_event_metadata_change"]
        with pytest.raises(NoDomainMetadata):
            await get_metadata(house, CONFIG)
        with pytest.raises(XmlDetailError, match="metadata_xml"):
            await set_metadata(house, "<info")
        await set_metadata(house, None)
        with pytest.raises(NoDomainMetadata):
            await get_metadata(house)
        assert "<metadata/>" in await xml_of(house)


async def test_title_has_no_newline_and_shows_in_the_list(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_set_metadata", dom=dom, type=1, metadata="A title", key=None, uri=None, flags=LIVE)
        entry = house.host.objects.find_by_name("domain", "test")
        assert entry is not None
        assert entry.summary["title"] == "A title"
        with pytest.raises(InvalidArguments, match="can't contain newlines"):
            await house.call("domain_set_metadata", dom=dom, type=1, metadata="a\nb", key=None, uri=None, flags=LIVE)
