"""A guest's shares of host resources that have no module of their own: block devices, partitions, perf events."""

import re

from conf.element import Element, Empty, attr, children, text, value
from conf.faults import lacking, malformed, unsupported
from conf.values import UINT, ULONG, YES_NO, Codec, parse_int, words
from schema.errors import XmlError


def _parse_unsigned(text: str) -> int:
    """What C makes of a number: a negative one counts from the end."""
    value = parse_int(text)
    if not -(1 << 32) < value < 1 << 32:
        raise ValueError(text)
    return value % (1 << 32)


UNSIGNED: Codec[int] = Codec(_parse_unsigned, str)
_NUMBER = re.compile(r"\s*\+?\d{1,9}\Z", re.ASCII).match


class BlkioDevice(Element, tag="device"):
    """The share of one block device."""

    path: str | None = text("path", str, default=None)
    weight: int | None = text("weight", UINT, default=None, bad=unsupported("could not parse weight {}"))
    read_iops_sec: int | None = text(
        "read_iops_sec", UNSIGNED, default=None, bad=unsupported("could not parse read iops sec {}")
    )
    write_iops_sec: int | None = text(
        "write_iops_sec", UNSIGNED, default=None, bad=unsupported("could not parse write iops sec {}")
    )
    read_bytes_sec: int | None = text(
        "read_bytes_sec", ULONG, default=None, bad=unsupported("could not parse read bytes sec {}")
    )
    write_bytes_sec: int | None = text(
        "write_bytes_sec", ULONG, default=None, bad=unsupported("could not parse write bytes sec {}")
    )


WEIGHT: Codec[int] = Codec(lambda text: int(text) if _NUMBER(text) else 0, str)
"""A share of all; what is no number counts as none."""


class BlkioTune(Element, tag="blkiotune", empty=Empty.OMIT):
    """A guest's share of block devices."""

    weight: int | None = text("weight", WEIGHT, default=None)
    devices: list[BlkioDevice] = children(BlkioDevice, default=[])


class Resource(Element, tag="resource", empty=Empty.OMIT):
    """The partition of the host that the guest runs in, and its fibre channel tag."""

    partition: str | None = text("partition", str, default=None)
    fibrechannel_appid: str | None = value("fibrechannel", "appid", str, default=None, blank=True)


PERF_EVENTS = (
    "cmt",
    "mbmt",
    "mbml",
    "cpu_cycles",
    "instructions",
    "cache_references",
    "cache_misses",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
)
"""What the host can count for a guest."""


class PerfEvent(Element, tag="event"):
    """One performance event."""

    name: str = attr("name", words(*PERF_EVENTS))
    enabled: bool = attr("enabled", YES_NO)


def _in_order(events: list[PerfEvent]) -> list[PerfEvent]:
    return sorted(events, key=lambda one: PERF_EVENTS.index(one.name)) if len(events) > 1 else events


class Perf(Element, tag="perf", empty=Empty.OMIT):
    """Performance events that the host counts for the guest."""

    events: list[PerfEvent] = children(PerfEvent, default=[], shown=lambda self, flags: _in_order(self.events))


_ID_MAP = "invalid idmap start/target/count settings"


class IdMapEntry(Element):
    """A range of user or group ids and where it begins in the host."""

    start: int = attr("start", UINT, missing=lacking(XmlError, _ID_MAP), bad=malformed(_ID_MAP))
    target: int = attr("target", UINT, missing=lacking(XmlError, _ID_MAP), bad=malformed(_ID_MAP))
    count: int = attr("count", UINT, missing=lacking(XmlError, _ID_MAP), bad=malformed(_ID_MAP))


class UidMap(IdMapEntry, tag="uid"):
    """A range of users."""


class GidMap(IdMapEntry, tag="gid"):
    """A range of groups."""


class IdMap(Element, tag="idmap", empty=Empty.OMIT):
    """A container's users and groups in the host."""

    uids: list[UidMap] = children(UidMap, default=[])
    gids: list[GidMap] = children(GidMap, default=[])


class PowerManagement(Element, tag="pm", empty=Empty.OMIT):
    """The sleep states that the firmware offers."""

    suspend_to_mem: bool | None = value("suspend-to-mem", "enabled", YES_NO, default=None)
    suspend_to_disk: bool | None = value("suspend-to-disk", "enabled", YES_NO, default=None)


class KeyWrapCipher(Element, tag="cipher"):
    """A protected-key cipher of s390."""

    name: str = attr("name", words("aes", "dea"))
    state: str = attr("state", words("on", "off"))


class KeyWrap(Element, tag="keywrap", empty=Empty.OMIT):
    """Protected-key operations of s390."""

    ciphers: list[KeyWrapCipher] = children(KeyWrapCipher, default=[])


class LaunchSecurity(Element, tag="launchSecurity"):
    """Confidential computing: `sev` or `s390-pv`."""

    type: str = attr("type", words("sev", "s390-pv"))
    kernel_hashes: bool | None = attr("kernelHashes", YES_NO, default=None)
    cbitpos: int | None = text(
        "cbitpos", UINT, default=None, bad=malformed("Invalid format for launch security cbitpos")
    )
    reduced_phys_bits: int | None = text(
        "reducedPhysBits", UINT, default=None, bad=malformed("Invalid format for launch security reduced-phys-bits")
    )
    policy: str | None = text("policy", str, default=None)
    dh_cert: str | None = text("dhCert", str, default=None)
    session: str | None = text("session", str, default=None)
