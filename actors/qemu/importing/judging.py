"""What is to become of each guest that libvirt has, and why not, where nothing is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from lxml import etree

from actors.qemu.definitions import emulator_named_in
from actors.qemu.host import QemuHost
from actors.qemu.host_options import options_of
from actors.qemu.importing.reading import Found
from actors.qemu.moments.records import Moments
from actors.qemu.needs import ask_ports
from actors.qemu.process import find_process
from actors.qemu.saved.image import read_header
from actors.qemu.status_document import QemuStatus, parse_status
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from conf.moment.alignment import is_external
from conf.moment.documents import parse_checkpoint, parse_snapshot, write_moment
from conf.moment.tree import MomentRecord
from schema.errors import VirtError


class Verdict(StrEnum):
    """What is done with a guest."""

    IMPORT = "import"
    ADOPT = "adopt"
    """It runs, and goes on running."""
    PRESENT = "present"
    """It is known here already, and stays as it is."""
    REFUSED = "refused"


@dataclass(slots=True)
class Judged:
    """One guest, and what is to be done with it. `notes` are what somebody should know who has it done."""

    found: Found
    verdict: Verdict
    reason: str = ""
    config: Domain | None = None
    status: QemuStatus | None = None
    moments: Moments = field(default_factory=Moments)
    notes: list[str] = field(default_factory=list)
    key: bytes = b""
    """The guest's UUID."""
    name: str = ""
    is_done: bool = False

    def refuse(self, reason: str) -> Judged:
        """Nothing is done with it."""
        self.verdict, self.reason = Verdict.REFUSED, reason
        return self


async def judge(host: QemuHost, found: Found, *, running: bool) -> Judged:
    """Reads what libvirt has of a guest; `running` says that one which runs is wanted too. Never fails."""
    judged = Judged(found, Verdict.IMPORT, name=found.name)
    if found.error is not None:
        return judged.refuse(found.error)
    try:
        await _read(host, judged)
    except VirtError as exc:
        return judged.refuse(exc.message)
    except etree.XMLSyntaxError as exc:
        return judged.refuse(str(exc))
    if judged.verdict is Verdict.REFUSED:
        return judged
    if (clash := _clash(host, judged)) is not None:
        return judged.refuse(clash)
    guest = host.guests.get(judged.key)
    if guest is not None:
        judged.verdict, judged.reason = Verdict.PRESENT, "it is known here already"
        return judged
    if judged.status is not None:
        return _judge_running(judged, judged.status, wanted=running)
    await _look_around(host, judged)
    return judged


def _clash(host: QemuHost, judged: Judged) -> str | None:
    """Why a guest of that name and UUID cannot be here."""
    same = host.guests.get(judged.key)
    if same is not None and same.name != judged.name:
        return f"its uuid {same.record.uuid} is that of guest '{same.name}'"
    taken = host.names.get(judged.name)
    if taken is not None and taken.key != judged.key:
        return f"its name is that of the guest with uuid {taken.record.uuid}"
    return None


async def _read(host: QemuHost, judged: Judged) -> None:
    found = judged.found
    if found.status is not None:
        judged.status = await _read_status(host, found.status, judged.notes)
    if found.config is not None:
        xml = found.config.decode(errors="replace")
        rules = host.rules(await host.emulator_for(*emulator_named_in(xml)))
        # what libvirt wrote is complete: nothing newer is chosen for it
        config = judged.config = parse_domain(found.config, rules, ParseFlags.INACTIVE)
        if config.name != found.name:
            judged.refuse(f"the definition in '{found.name}.xml' is of a guest '{config.name}'")
        judged.name, judged.key = config.name, config.uuid.bytes
        _keep_nvram(host, judged, config)
        judged.moments = await _read_moments(host, judged)
    elif judged.status is not None:
        judged.name, judged.key = judged.status.domain.name, judged.status.domain.uuid.bytes
    if found.saved is not None and judged.config is not None:
        image = await host.runtime.in_thread(read_header, found.saved)
        saved = parse_domain(image.xml, rules, ParseFlags.INACTIVE)
        if saved.uuid.bytes != judged.key:
            judged.refuse(f"its saved memory is that of the guest with uuid {saved.uuid}")


async def _read_status(host: QemuHost, data: bytes, notes: list[str]) -> QemuStatus | None:
    """What libvirt knows of a guest that runs; None when it has ended meanwhile."""
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    process = find_process(int(root.get("pid") or 0)) if (root.get("pid") or "").isdigit() else None
    if process is None:
        notes.append("libvirt believes that it runs; its process has ended")
        return None
    process.release()
    node = root.find("domain")
    emulator = node.findtext("devices/emulator") if node is not None else None
    kind = node.find("os/type") if node is not None else None
    caps = await host.emulator_for(kind.get("arch") if kind is not None else None, emulator)
    return parse_status(data, host.rules(caps))


def _keep_nvram(host: QemuHost, judged: Judged, config: Domain) -> None:
    """Variables of firmware lie where they are: the folder that is meant without a word is libvirt's, not ours."""
    nvram, known = config.os.nvram, judged.found.nvram
    if nvram is not None and known is not None and (nvram.path or "").startswith(f"{host.state_folder}/"):
        nvram.path = str(known)


async def _read_moments(host: QemuHost, judged: Judged) -> Moments:
    config = judged.config
    assert config is not None
    rules = host.rules(await host.emulator_for(config.os.kind.arch, config.devices.emulator))
    snapshots: dict[str, MomentRecord] = {}
    checkpoints: dict[str, MomentRecord] = {}
    current = None
    for name, data in judged.found.snapshots.items():
        snapshot = parse_snapshot(data, rules, redefine=True)
        if snapshot.active:
            current = snapshot.name
        snapshot.active = None
        parent = snapshot.parent.name if snapshot.parent is not None else None
        snapshots[snapshot.name or name] = MomentRecord(
            xml=write_moment(snapshot, secure=True),
            parent=parent,
            state=snapshot.state or "",
            external=is_external(snapshot),
        )
    for name, data in judged.found.checkpoints.items():
        checkpoint = parse_checkpoint(data, rules, redefine=True)
        parent = checkpoint.parent.name if checkpoint.parent is not None else None
        checkpoints[checkpoint.name or name] = MomentRecord(xml=write_moment(checkpoint, secure=True), parent=parent)
    for what, known in (("snapshot", snapshots), ("checkpoint", checkpoints)):
        for name, record in list(known.items()):
            if record.parent is not None and record.parent not in known:
                judged.notes.append(f"the parent '{record.parent}' of {what} '{name}' is not there")
                known[name] = MomentRecord(xml=record.xml, state=record.state, external=record.external)
    parents = {record.parent for record in checkpoints.values()}
    # libvirt marks no checkpoint as the current one: it is the last of the line
    last = [name for name in checkpoints if name not in parents]
    return Moments(snapshots, checkpoints, current, last[0] if len(last) == 1 else None)


def _judge_running(judged: Judged, status: QemuStatus, *, wanted: bool) -> Judged:
    if not wanted:
        return judged.refuse(
            f"it runs under libvirtd (process {status.pid}): shut it down, or stop libvirtd and say --running"
        )
    if status.block_jobs.jobs or status.backups:
        return judged.refuse("it runs, and a job is under way with its disks")
    if status.job is not None and status.job.asynchronous not in (None, "none"):
        return judged.refuse(f"it runs, and libvirt is in the middle of something with it: {status.job.asynchronous}")
    judged.verdict = Verdict.ADOPT
    if status.namespaces is not None and status.namespaces.mount:
        judged.notes.append("devices of the host cannot be attached while it runs: it has a /dev of its own")
    if any(one.backend.type == "emulator" for one in status.domain.devices.tpms):
        judged.notes.append("nobody looks after the process that emulates its TPM")
    return judged


async def _look_around(host: QemuHost, judged: Judged) -> None:
    """What a start would miss, and what stays behind."""
    config = judged.config
    if config is None:
        judged.refuse("it has no definition, and does not run")
        return
    try:
        await ask_ports(config.copy(), host.needed, host.run_folder, options_of(host))
    except VirtError as exc:
        judged.notes.append(f"it will not start yet: {exc.message}")
    if any(one.backend.type == "emulator" for one in config.devices.tpms):
        judged.notes.append(f"the state of its TPM stays in libvirt's folder (swtpm/{UUID(bytes=judged.key)})")
