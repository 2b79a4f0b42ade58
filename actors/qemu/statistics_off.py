"""Bulk statistics of guests that are off: packed once, and told from those bytes until something of them changes.

On a host with thousands of guests most are off, and tools ask for all of them every few seconds. What is told of such a
guest comes from its document and from the files of its images; both are compared, not read again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from actors.qemu.block.heads import is_foreign, read_head
from actors.qemu.guest import Guest, parse_live
from actors.qemu.host import QemuHost
from actors.qemu.records import Facts, Record, facts_of, text_of
from conf.flags import ParseFlags
from conf.storage.image_header import BrokenHeader, read_image
from schema.body import packed_parts
from schema.enums.domain_resources import DomainStatsTypes as StatsTypes
from schema.enums.domain_state import DomainState
from schema.errors import VirtError
from schema.objects import DomainRef, DomainStatsRecord, TypedParam
from schema.table import need_procedure

_FORMATS: Final = frozenset({"qcow2", "qcow", "qed", "vmdk", "vpc", "vdi"})


class FileTimes(NamedTuple):
    """By what it is noticed that an image is another than it was."""

    inode: int
    size: int
    blocks: int
    mtime_ns: int
    mode: int


Images = dict[str, FileTimes | None]
"""The images of disks by path; None for one that is not there or not on this host."""


class Told(NamedTuple):
    """What was told of a guest, and of what it was made."""

    record: Record
    wanted: int
    images: tuple[FileTimes | None, ...]
    part: msgspec.Raw


def disks_of(guest: Guest) -> tuple[tuple[str, str, str], ...]:
    """Name, path and format of each disk that the next start would have."""
    return _whole_facts(guest).disks or ()


async def images_of(host: QemuHost, guests: Iterable[Guest]) -> Images:
    """How the images of guests are that are off."""
    paths = image_paths(guests)
    return await host.runtime.in_thread(look_at_images, paths) if paths else {}


def image_paths(guests: Iterable[Guest]) -> list[str]:
    """Where the images of these guests are."""
    return [path for guest in guests for _, path, _ in disks_of(guest) if path]


def look_at_images(paths: Sequence[str]) -> Images:
    """How the images are now; to be called from a worker thread. Nothing is asked of file systems of other hosts."""
    found: Images = {}
    foreign: dict[str, bool] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in foreign:
            foreign[folder] = is_foreign(path)
        if foreign[folder]:
            continue
        try:
            facts = Path(path).stat()
        except OSError:
            continue
        found[path] = FileTimes(facts.st_ino, facts.st_size, facts.st_blocks, facts.st_mtime_ns, facts.st_mode)
    return found


def part_of(guest: Guest, wanted: int, images: Images) -> msgspec.Raw:
    """A guest's item of the answer. Raises InvalidMessage for a guest that cannot be told."""
    told = guest.told_off
    if told is not None and told.record is guest.record and told.wanted == wanted and not told.images:
        return told.part
    disks = disks_of(guest) if wanted & StatsTypes.BLOCK else ()
    seen = tuple(images.get(path) for _, path, _ in disks)
    if told is None or told.record is not guest.record or told.wanted != wanted or told.images != seen:
        record = DomainStatsRecord(DomainRef(guest.name, guest.key), _params_of(guest, wanted, images))
        (part,) = packed_parts(need_procedure("connect_get_all_domain_stats"), [record])
        told = guest.told_off = Told(guest.record, wanted, seen, part)
    return told.part


def _whole_facts(guest: Guest) -> Facts:
    facts = guest.record.facts
    if facts.disks is None:  # a document of before these were noted
        known = guest.old_facts
        if known is None or known[0] is not guest.record:
            config = parse_live(text_of(guest.record.xml or ""), ParseFlags.INACTIVE)
            known = guest.old_facts = (guest.record, facts_of(config))
        return known[1]
    return facts


def _params_of(guest: Guest, wanted: int, images: Images) -> list[TypedParam]:
    found: list[TypedParam] = []
    facts = _whole_facts(guest)
    if wanted & StatsTypes.STATE:
        found.append(TypedParam.of_int("state.state", DomainState.SHUTOFF))
        found.append(TypedParam.of_int("state.reason", guest.record.off_reason))
    if wanted & StatsTypes.CPU_TOTAL:
        found += [TypedParam.of_ullong(name, 0) for name in ("cpu.time", "cpu.user", "cpu.system")]
    if wanted & StatsTypes.BALLOON:
        found.append(TypedParam.of_ullong("balloon.current", facts.mem))
        found.append(TypedParam.of_ullong("balloon.maximum", facts.max_mem))
    if wanted & StatsTypes.VCPU:
        found.append(TypedParam.of_uint("vcpu.current", facts.vcpus))
        found.append(TypedParam.of_uint("vcpu.maximum", facts.vcpus_max or facts.vcpus))
    if wanted & StatsTypes.BLOCK:
        disks = facts.disks or ()
        found.append(TypedParam.of_uint("block.count", len(disks)))
        for number, (name, path, form) in enumerate(disks):
            found.append(TypedParam.of_string(f"block.{number}.name", name))
            if path:
                found.append(TypedParam.of_string(f"block.{number}.path", path))
                found += _sizes_of(f"block.{number}", path, form, images.get(path))
    return found


def _sizes_of(name: str, path: str, form: str, facts: FileTimes | None) -> list[TypedParam]:
    if facts is None or not (stat.S_ISREG(facts.mode) or stat.S_ISBLK(facts.mode)):
        return []
    physical = capacity = facts.size
    allocation = facts.blocks * 512
    if stat.S_ISBLK(facts.mode):
        physical = capacity = allocation = _device_size(path)
    try:
        capacity = capacity_of(path, form) or capacity
    except VirtError:
        return []
    sizes = (("allocation", allocation), ("capacity", capacity), ("physical", physical))
    return [TypedParam.of_ullong(f"{name}.{what}", size) for what, size in sizes if size]


def capacity_of(path: str, form: str) -> int:
    """How large a guest sees an image, by its header; 0 where its size is all that is known. Raises VirtError."""
    if form not in _FORMATS:
        return 0
    try:
        return read_image(read_head(path).data, form).capacity or 0
    except BrokenHeader:
        return 0


def _device_size(path: str) -> int:
    try:
        with Path(path).open("rb") as device:
            return device.seek(0, os.SEEK_END)
    except OSError:
        return 0
