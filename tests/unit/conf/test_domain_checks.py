"""Definitions that contradict themselves, in libvirt's words; what counts as not said at all."""

from __future__ import annotations

import pytest

from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.errors import ConfigUnsupported, RefusedDocument, VirtError, XmlDetailError, XmlError
from tests.unit.conf.test_domain import domain_of

TWO_NODES = "<cpu><numa><cell id='0' cpus='0' memory='512'/><cell id='1' cpus='1' memory='512'/></numa></cpu>"


def features(text: str) -> str:
    return f"<features>{text}</features>"


@pytest.mark.parametrize(
    ("rest", "kind", "message"),
    [
        (features("<hyperv><spinlocks state='on'/></hyperv>"), XmlError, "'retries' in element 'spinlocks'"),
        (features("<hyperv><spinlocks state='on' retries='5'/></hyperv>"), XmlError, "must be at least 4095"),
        (features("<hyperv><vendor_id state='on'/></hyperv>"), XmlError, "for HyperV feature 'vendor_id'"),
        (features("<hyperv><vendor_id state='on' value='morethantwelve'/></hyperv>"), XmlError, "more than 12"),
        (features("<hyperv><vendor_id state='on' value='a,b'/></hyperv>"), XmlError, "vendor_id value is invalid"),
        (features("<hyperv><warp state='on'/></hyperv>"), ConfigUnsupported, "HyperV Enlightenment feature: warp"),
        (features("<kvm><warp state='on'/></kvm>"), ConfigUnsupported, "unsupported KVM feature: warp"),
        (features("<kvm><dirty-ring state='on' size='1000'/></kvm>"), XmlError, "must be power of 2"),
        ("<on_reboot>coredump-destroy</on_reboot>", ConfigUnsupported, "'reboot' doesn't support 'coredump-destroy'"),
        (
            "<perf><event name='cmt' enabled='yes'/><event name='cmt' enabled='no'/></perf>",
            XmlError,
            "already specified",
        ),
        ("<keywrap><cipher name='aes' state='on'/><cipher name='aes' state='on'/></keywrap>", RefusedDocument, "aes"),
        ("<launchSecurity type='sev'/>", XmlError, "failed to get launch security policy"),
        ("<iothreadids><iothread id='0'/></iothreadids>", XmlError, "Zero is not permitted"),
        (
            "<iothreadids><iothread id='3'/><iothread id='3'/></iothreadids>",
            XmlError,
            "iothread id '3' found",
        ),
        (
            "<iothreadids><iothread id='1' thread_pool_min='9' thread_pool_max='8'/></iothreadids>",
            ConfigUnsupported,
            "thread_pool_min must be smaller or equal to thread_pool_max",
        ),
        ("<vcpu>2</vcpu><vcpus><vcpu id='0' enabled='no'/></vcpus>", ConfigUnsupported, "vcpu 0 can't be offline"),
        ("<vcpu>2</vcpu><vcpus><vcpu id='2' enabled='no'/></vcpus>", XmlError, "vcpu id '2' is out of range"),
        (
            "<cputune><vcpusched vcpus='1' scheduler='batch'/></cputune>",
            ConfigUnsupported,
            "vCPU '1' is not present in domain definition",
        ),
        ("<cpu><topology sockets='0' cores='1' threads='1'/></cpu>", XmlError, "Zero is not permitted"),
        ("<cpu mode='host-model' migratable='on'/>", ConfigUnsupported, "Attribute migratable is only allowed"),
        ("<cpu><model vendor_id='short'>m</model></cpu>", XmlError, "exactly 12 characters"),
        ("<cpu><numa/></cpu>", XmlError, "NUMA topology defined without NUMA cells"),
        (
            "<vcpu>2</vcpu><cpu><numa><cell cpus='0' memory='1'/><cell cpus='0' memory='1'/></numa></cpu>",
            ConfigUnsupported,
            "NUMA cells 1 and 0 have overlapping vCPU ids",
        ),
        (
            "<cpu><numa><cell id='0' cpus='0' memory='1'/><interconnects><latency initiator='1' target='0' type='read' "
            "value='5'/></interconnects></numa></cpu>",
            XmlError,
            "'initiator' refers to a non-existent NUMA node",
        ),
        (
            "<idmap><uid start='0' target='1' count='9'/></idmap>",
            ConfigUnsupported,
            "should be mapped both",
        ),
        (
            "<memoryBacking><hugepages><page size='2048' nodeset='3'/></hugepages></memoryBacking>",
            XmlDetailError,
            "hugepages: node 3 not found",
        ),
        (
            "<sysinfo type='smbios'><bios><entry name='date'>13/01/2020</entry></bios></sysinfo>",
            XmlDetailError,
            "Invalid BIOS 'date' format",
        ),
        ("<sysinfo type='fwcfg'><entry name='opt/a'/></sysinfo>", XmlError, "either value or 'file' attribute"),
        ("<seclabel type='static'/>", XmlError, "security label is missing"),
        ("<seclabel type='none' relabel='yes'/>", ConfigUnsupported, "not compatible with 'none' label type"),
        (
            f"<vcpu>2</vcpu><numatune><memnode cellid='0' mode='strict'/></numatune>{TWO_NODES}",
            XmlError,
            "Missing required nodeset attribute in memnode element",
        ),
    ],
)
def test_a_contradiction_is_refused(rest: str, kind: type[VirtError], message: str) -> None:
    with pytest.raises(kind) as caught:
        domain_of(rest=rest)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "gone", "kept"),
    [
        ("<blkiotune><weight>0</weight><device><path>/d</path></device></blkiotune>", "blkiotune", ""),
        ("<memoryBacking><allocation threads='0'/></memoryBacking>", "memoryBacking", ""),
        (
            "<memoryBacking><hugepages><page size='2048' nodeset='0'/></hugepages></memoryBacking>",
            "nodeset",
            "<page size='2048' unit='KiB'/>",
        ),
        (features("<kvm><dirty-ring state='off' size='4096'/></kvm>"), "4096", "<dirty-ring state='off'/>"),
        (
            "<vcpu>3</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='2' enabled='yes' hotpluggable='yes'/></vcpus>",
            "order",
            "<vcpu placement='static' current='2'>3</vcpu>",
        ),
        (
            f"<vcpu>2</vcpu><numatune><memnode cellid='0' nodeset='0'/></numatune>{TWO_NODES}",
            "nodeset='1'",
            "<memnode cellid='0' mode='strict' nodeset='0'/>",
        ),
    ],
)
def test_nothing_is_not_written(rest: str, gone: str, kept: str) -> None:
    written = write_domain(domain_of(rest=rest), XmlFlags.INACTIVE)
    assert gone not in written
    assert kept in written


def test_a_processor_that_is_not_named_is_off() -> None:
    domain = domain_of(rest="<vcpu>3</vcpu><vcpus><vcpu id='0' enabled='yes'/></vcpus>")
    assert domain.vcpus is not None
    assert [(one.id, one.enabled, one.hotpluggable) for one in domain.vcpus.vcpus] == [
        (0, True, False),
        (1, False, True),
        (2, False, True),
    ]
    assert domain.vcpu.current == 1


def test_processors_that_are_taken_away_again_leave_nothing() -> None:
    share = "<cache id='0' level='3' type='both' size='3' unit='MiB'/>"
    domain = domain_of(rest=f"<vcpu>2</vcpu><cputune><cachetune vcpus='1,^1'>{share}</cachetune></cputune>")
    assert domain.cputune is not None
    assert domain.cputune.cachetunes == []
