"""Settings of a guest beside its devices: what is refused, in which words, and what is kept."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags, XmlFlags
from schema.enums.error import ErrorCode
from schema.errors import VirtError

_HEAD = (
    "<domain type='test' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>d</name><memory>65536</memory>"
)
_OS = "<os><type arch='x86_64'>hvm</type></os>"
_NODES = "<cell id='0' cpus='0-1' memory='1'>{}</cell><cell id='1' cpus='2-3' memory='1'/>"


def _document(part: str) -> str:
    vcpu = "" if "<vcpu" in part else "<vcpu>4</vcpu>"
    return f"{_HEAD}{vcpu}{'' if '<os' in part else _OS}{part}</domain>"


def _kept(part: str) -> str:
    return write_domain(parse_domain(_document(part), flags=ParseFlags.INACTIVE), XmlFlags.INACTIVE)


_SIZES = "<size value='8' unit='KiB'/><line value='64' unit='B'/>"
_REFUSED = {
    "hyperv feature without state": (
        "<features><hyperv><relaxed/></hyperv></features>",
        ErrorCode.XML_ERROR,
        "Missing required attribute 'state' in element 'relaxed'",
    ),
    "dirty ring without size": (
        "<features><kvm><dirty-ring state='on'/></kvm></features>",
        ErrorCode.XML_ERROR,
        "Missing required attribute 'size' in element 'dirty-ring'",
    ),
    "tseg that is no number": (
        "<features><smm><tseg>x</tseg></smm></features>",
        ErrorCode.XML_ERROR,
        "Invalid value 'x' for element or attribute 'string(./features/smm/tseg)'",
    ),
    "page table size": (
        "<features><hpt><maxpagesize unit='x'>1</maxpagesize></hpt></features>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "Unable to parse HPT maxpagesize setting",
    ),
    "memory beyond range": (
        "<currentMemory unit='MiB'>18446744073709551615</currentMemory>",
        ErrorCode.OVERFLOW,
        "value too large: 18446744073709551615MiB",
    ),
    "limit that is no number": (
        "<memtune><hard_limit>x</hard_limit></memtune>",
        ErrorCode.XML_ERROR,
        "Invalid value 'x' for element or attribute './memtune/hard_limit[1]'",
    ),
    "pages of the same node": (
        f"<cpu><numa>{_NODES}</numa></cpu><memoryBacking><hugepages><page size='1' unit='G' nodeset='0'/>"
        "<page size='2048' nodeset='0-1'/></hugepages></memoryBacking>",
        ErrorCode.XML_DETAIL,
        "nodeset attribute of hugepages of sizes 2048 and 1048576 intersect",
    ),
    "pages of no size": (
        "<memoryBacking><hugepages><page size='0'/></hugepages></memoryBacking>",
        ErrorCode.XML_DETAIL,
        "hugepage size can't be zero",
    ),
    "quota": (
        "<cputune><global_quota>x</global_quota></cputune>",
        ErrorCode.XML_ERROR,
        "can't parse cputune global quota value",
    ),
    "no processors": (
        "<cputune><emulatorpin cpuset='^0'/></cputune>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "Invalid value of 'cpuset': ^0",
    ),
    "two pins of a thread": (
        "<iothreads>1</iothreads><cputune>" + 2 * "<iothreadpin iothread='1' cpuset='0'/>" + "</cputune>",
        ErrorCode.INTERNAL_ERROR,
        "duplicate iothreadpin for same iothread '1'",
    ),
    "two memory policies": ("<numatune/><numatune/>", ErrorCode.XML_ERROR, "only one numatune is supported"),
    "shares of the same processors": (
        "<cputune>" + 2 * "<cachetune vcpus='0'><monitor level='3' vcpus='0'/></cachetune>" + "</cputune>",
        ErrorCode.XML_ERROR,
        "Identical vcpus in cachetunes found",
    ),
    "monitor of others": (
        "<cputune><cachetune vcpus='0'><monitor level='3' vcpus='1'/></cachetune></cputune>",
        ErrorCode.INVALID_ARG,
        "Monitor vcpus conflicts with allocation",
    ),
    "bandwidth given twice": (
        "<cputune><memorytune vcpus='0'>" + 2 * "<node id='0' bandwidth='10'/>" + "</memorytune></cputune>",
        ErrorCode.XML_ERROR,
        "Memory Bandwidth already defined for node 0",
    ),
    "cache level of a node": (
        "<cpu><numa>"
        + _NODES.format(f"<cache level='4' associativity='full' policy='none'>{_SIZES}</cache>")
        + "</numa></cpu>",
        ErrorCode.XML_ERROR,
        "Ain't nobody heard of that much cache level",
    ),
    "path both ways": (
        f"<cpu><numa>{_NODES}<interconnects><latency initiator='0' target='1' type='read' value='5'/>"
        "<latency initiator='1' target='0' type='write' value='5'/></interconnects></numa></cpu>",
        ErrorCode.XML_ERROR,
        "Link already defined",
    ),
    "pool without an upper end": (
        "<defaultiothread thread_pool_min='2'/>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "thread_pool_min must be smaller or equal to thread_pool_max",
    ),
    "pool below zero": (
        "<defaultiothread thread_pool_max='-1'/>",
        ErrorCode.XML_ERROR,
        "Invalid value for attribute 'thread_pool_max' in element 'defaultiothread': '-1'. Expected non-negative value",
    ),
    "id map": (
        "<idmap><uid start='x' target='0' count='1'/></idmap>",
        ErrorCode.XML_ERROR,
        "invalid idmap start/target/count settings",
    ),
    "two labels without a model": (
        "<seclabel type='none'/><seclabel type='none'/>",
        ErrorCode.XML_DETAIL,
        "seclabel for model (null) is already provided",
    ),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_settings_that_cannot_be_are_refused(case: str) -> None:
    part, code, message = _REFUSED[case]
    with pytest.raises(VirtError) as caught:
        _kept(part)
    assert (caught.value.code, str(caught.value).endswith(message)) == (code, True), str(caught.value)


_KEPT = {
    "a feature named twice": ("<features><pmu state='on'/><pmu state='on'/></features>", "<pmu state='on'/>"),
    "a feature that is off has no settings": (
        "<features><hyperv><vendor_id state='off' value='x'/></hyperv></features>",
        "<vendor_id state='off'/>",
    ),
    "a bare port is on": ("<features><vmport/></features>", "<vmport state='on'/>"),
    "a bare capability is on": (
        "<features><capabilities><mknod/></capabilities></features>",
        "<capabilities policy='default'>\n      <mknod state='on'/>",
    ),
    "an empty offset is none": ("<clock offset=''/>", "<clock offset='utc'/>"),
    "an adjustment that is no number": (
        "<clock offset='variable' adjustment='x'/>",
        "<clock offset='variable' adjustment='0' basis='utc'/>",
    ),
    "bandwidth is written in KiB": (
        f"<cpu><numa>{_NODES}<interconnects><bandwidth initiator='0' target='1' type='read' value='2' unit='MiB'/>"
        "</interconnects></numa></cpu>",
        "type='read' value='2048' unit='KiB'/>",
    ),
    "a file's entry has no value": (
        "<sysinfo type='fwcfg'><entry name='opt/a' file='/f'>v</entry></sysinfo>",
        "<entry name='opt/a' file='/f'/>",
    ),
    "events stand in their order": (
        "<perf><event name='cpu_cycles' enabled='yes'/><event name='cmt' enabled='no'/></perf>",
        "<event name='cmt' enabled='no'/>\n    <event name='cpu_cycles' enabled='yes'/>",
    ),
    "a match says nothing of the host's model": ("<cpu mode='host-model' match='exact'/>", "<cpu mode='host-model'/>"),
}


@pytest.mark.parametrize("case", _KEPT)
def test_settings_are_kept_in_libvirts_form(case: str) -> None:
    part, kept = _KEPT[case]
    assert kept in _kept(part)
