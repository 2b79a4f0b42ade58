"""Everything that exists on a host because of the guests below one folder, to be compared before and after a change.

Processes, links, files with their owners and what they remember of them, locks, control groups, ports. What differs
from run to run (numbers of guests, of taps, of processes) is levelled. Nothing here asks the driver: what it has
forgotten is found all the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.contract.house import House
from tests.real.test_qemu_guests import Subject

Census = Mapping[str, tuple[str, ...]]

_OWN: Final = (
    "log/",
    "cache/",
    "state/qemu/calls-",
    "state/qemu/ledger-",
    "state/qemu/next-id",
    "run/qemu/autostarted",
)
"""The driver's own files; lease files that nobody holds are litter, and swept at its next start."""
_EPHEMERAL: Final = re.compile(r"\.(console|new|lease)$|\.json\.[^/]*$")
_XATTRS: Final = ("trusted.libvirt.security.dac", "trusted.libvirt.security.ref_dac")
_LEVELS: Final = (
    (re.compile(r"domain-\d+-"), "domain-N-"),
    (re.compile(r"qemu-[0-9a-f]{8}-\d+-"), "qemu-X-N-"),
    (re.compile(r"\b(vnet|macvtap|tap)\d+"), r"\1N"),
    (re.compile(r"/dev/pts/\d+"), "/dev/pts/N"),
    (re.compile(r"libvirt-\d+-"), "libvirt-N-"),
    (re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b"), "HASH"),
    (re.compile(r" id='\d+'>"), " id='N'>"),
    (re.compile(r"UUID/\d+"), "UUID/N"),
)
_GROUPS: Final = Path("/sys/fs/cgroup")


def take_census(root: Path, guest: Subject) -> Census:
    """What there is below a folder, and in the network of the calling thread, for a guest."""
    return {
        what: _levelled(root, guest, found)
        for what, found in (
            ("processes", _processes(root)),
            ("links", _links()),
            ("files", _files(root)),
            ("locks", _locks(root)),
            ("groups", _groups(guest.name)),
            ("ports", _ports()),
            ("shared memory", _shared_memory(guest)),
        )
    }


async def take_inner_census(root: Path, house: House, guest: Subject) -> Census:
    """What its driver and its QEMU have of a guest, and how it is defined."""
    own = house.host.guests.get(guest.uuid.bytes)
    if own is None:
        return {"state": ("gone",)}
    told = await house.call("domain_get_state", dom=guest.ref, flags=0)
    texts = [str((await house.call("domain_get_xml_desc", dom=guest.ref, flags=flags)).xml) for flags in (0, 2)]
    found: dict[str, tuple[str, ...]] = {
        "state": (str(told.state),),
        "definition": tuple(_level(root, guest, re.sub(r" index='\d+'", "", line)) for line in texts[0].splitlines()),
        "configuration": tuple(_level(root, guest, line) for line in texts[1].splitlines()),
        "intents": tuple(one.kind for one in house.runtime.intents.open),
        "owners": _levelled(root, guest, (f"{path}" for path in house.host.owners.takings)),
        "moments": tuple([str(one.name) for one in await _moments(house, guest)]),
    }
    if own.is_active and own.monitor is not None:
        found["open"] = _levelled(root, guest, _open_files(own.need_run().pid))
        for what, command, arguments, name in (
            ("devices", "qom-list", {"path": "/machine/peripheral"}, "name"),
            ("objects", "qom-list", {"path": "/objects"}, "name"),
            ("nodes", "query-named-block-nodes", {"flat": True}, "node-name"),
            ("chardevs", "query-chardev", None, "label"),
            ("jobs", "query-jobs", None, "id"),
            ("exports", "query-block-exports", None, "id"),
            ("processors", "query-cpus-fast", None, "cpu-index"),
        ):
            answer = await own.ask(command, arguments)
            names = (str(one[name]) for one in answer)
            found[what] = _levelled(root, guest, (one for one in names if not one.startswith("#block")))
    return found


def differences(one: Census, other: Census) -> list[str]:
    """What the second has more (+) or less (-) than the first."""
    found = []
    for area in sorted({*one, *other}):
        left, right = list(one.get(area, ())), list(other.get(area, ()))
        for item in list(right):
            if item in left:
                left.remove(item)
                right.remove(item)
        found += [f"{area}: -{item}" for item in left] + [f"{area}: +{item}" for item in right]
    return found


def _levelled(root: Path, guest: Subject, items: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(_level(root, guest, item) for item in items))


def _level(root: Path, guest: Subject, text: str) -> str:
    text = text.replace(str(root), "@").replace(str(guest.uuid), "UUID").replace(guest.name, "NAME")
    for pattern, replacement in _LEVELS:
        text = pattern.sub(replacement, text)
    return text


def _processes(root: Path) -> Iterator[str]:
    """Programs that name the folder on their command lines or in their environment, but for drivers and tests."""
    sign = os.fsencode(root)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if sign + b"/" in words or sign in (entry / "environ").read_bytes():
                owner = entry.stat().st_uid
                state = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
                if state not in "ZX":
                    yield f"{Path(os.fsdecode(words.split(bytes(1))[0])).name} of {owner}"
        except OSError:
            continue


def _links() -> Iterator[str]:
    told = subprocess.run(["ip", "-j", "-d", "link", "show"], check=True, capture_output=True, text=True, timeout=30)
    for one in json.loads(told.stdout):
        kind = one.get("linkinfo", {}).get("info_kind", "")
        ours = one["ifname"].startswith(("vnet", "macvtap"))
        address = one.get("address", "") if not ours and kind != "bridge" else ""
        yield f"{one['ifname']} {kind} {one.get('master', '')} {address} {one.get('link', '')}"


def _files(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            place = str(path.relative_to(root))
            if place.startswith(_OWN) or place in ("log", "cache") or _EPHEMERAL.search(place):
                continue
            try:
                facts = path.lstat()
                marks = "".join(f" {one}={_xattr(path, one)}" for one in _XATTRS if _xattr(path, one))
            except FileNotFoundError:
                continue
            if path.is_dir() and place.startswith("state/qemu/") and place.count("/") == 2:
                continue  # made when something is first put there
            # the list of a run's links is the driver's, and is the guest's when it is made before the guest
            whose = "" if path.name == "links" else f" {facts.st_uid}:{facts.st_gid}"
            yield f"{place} {facts.st_mode:o}{whose}{marks}"


def _xattr(path: Path, name: str) -> str:
    try:
        return os.getxattr(path, name, follow_symlinks=False).decode()
    except OSError:
        return ""


def _locks(root: Path) -> Iterator[str]:
    """Files below the folder that somebody has locked; the journals of drivers are their own."""
    numbers = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            try:
                numbers[path.lstat().st_ino] = str(path.relative_to(root))
            except FileNotFoundError:
                continue
    found = set()
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        words = line.split()
        if "->" not in words:
            place = numbers.get(int(words[5].rpartition(":")[2]))
            if place is not None and not place.startswith(_OWN):
                found.add(f"{place} {words[3]}")
    yield from found


def _groups(name: str) -> Iterator[str]:
    """Control groups that carry (the beginning of) a guest's name."""
    sign = name[:20]
    for folder, folders, _ in os.walk(_GROUPS):
        for one in folders:
            if sign in one or sign in folder:
                yield f"{folder}/{one}"
        if Path(folder).relative_to(_GROUPS).parts[4:]:
            folders.clear()


def _ports() -> Iterator[str]:
    """Ports of this network on which somebody listens."""
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                yield f"{name} {int(words[1].rpartition(':')[2], 16)}"


def _shared_memory(guest: Subject) -> Iterator[str]:
    for folder in ("/dev/shm", "/dev/hugepages"):
        if Path(folder).is_dir():
            for path in Path(folder).rglob("*"):
                if guest.name in str(path) or str(guest.uuid) in str(path):
                    yield str(path)


def _open_files(pid: int) -> Iterator[str]:
    """What QEMU has open: what it was handed and does not close is as lost as a file that nobody removes."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            continue
        if not target.startswith(("anon_inode:", "socket:", "pipe:")):
            yield target
        elif target.startswith("socket:"):
            yield "socket"


async def _moments(house: House, guest: Subject) -> list[object]:
    told = await house.call("domain_list_all_snapshots", dom=guest.ref, need_results=1, flags=0)
    more = await house.call("domain_list_all_checkpoints", dom=guest.ref, need_results=1, flags=0)
    return [*told.snapshots, *more.checkpoints]
