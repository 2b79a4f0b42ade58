"""Ten thousand defined guests: what defining one costs, how soon a killed driver is back with all, and its memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import msgspec

from actors.qemu import records
from broker.peer import Peer
from schema.body import pack_args, unpack_result
from schema.table import need_procedure
from tests.bench.conf_documents import sample
from tests.bench.libvirtd import Libvirtd
from tests.bench.qemu_start import URI, Client
from tests.bench.recovery import pss_mib
from tests.bench.report import CannotRun, Measure, median
from tests.process.agent import Agent
from tests.storm.weather import pid_of_role

GUESTS = 10_000
DEFINED = 500
"""As many are defined by calls; the others are put on disk, which is quicker."""
AT_ONCE = 16
ROUNDS = 5
_PATIENCE_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def document(name: str) -> str:
    """A guest of about a hundred elements that QEMU can run without KVM."""
    xml = sample().replace("<domain type='kvm'><name>web1</name>", f"<domain type='qemu'><name>{name}</name>")
    xml = xml.replace("c7a5fdbd-edaf-9455-926a-d65c16db1809", str(uuid4())).replace("Haswell", "qemu64")
    return xml.replace("<feature policy='require' name='vmx'/>", "")


def cpu_s(pid: int) -> float:
    """The processor time that a process has had, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def define(agent: Agent) -> tuple[float, float]:
    """Defines some guests; milliseconds of wall and of the driver's processor time for each."""
    peer = await Peer.connect_client(agent.paths, program="bench-scale")
    client = Client(peer)
    await client.call("connect_get_capabilities")  # the emulators are known then
    pid = pid_of_role(agent.paths, "qemu") or 0
    waiting = [document(f"guest-{number}") for number in range(DEFINED)]

    async def work() -> None:
        while waiting:
            await client.call("domain_define_xml_flags", xml=waiting.pop(), flags=0)

    began, before = time.perf_counter(), cpu_s(pid)
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    wall, cpu = time.perf_counter() - began, cpu_s(pid) - before
    await peer.aclose()
    return wall / DEFINED * 1e3, cpu / DEFINED * 1e3


def fill(agent: Agent) -> None:
    """Puts the other guests on disk, as defining them would have."""
    folder = agent.paths.role_state("qemu") / records.FOLDER
    model = records.decode(next(iter(folder.glob("*.json"))).read_bytes())
    for number in range(DEFINED, GUESTS):
        identity = str(uuid4())
        xml = (model.xml or "").replace(model.uuid, identity).replace(f">{model.name}<", f">guest-{number}<")
        made = msgspec.structs.replace(model, uuid=identity, name=f"guest-{number}", xml=xml)
        (folder / f"{identity}.json").write_bytes(records.encode(made))


async def restart(agent: Agent) -> tuple[float, float]:
    """Seconds from a kill of the driver to its next answer, and of processor time that this took it."""
    peer = await Peer.connect_client(agent.paths, program="bench-scale")
    asking = need_procedure("connect_num_of_defined_domains")
    began = time.perf_counter()
    agent.kill("qemu")
    while time.perf_counter() - began < _PATIENCE_S:
        reply = await peer.call("qemu", asking.name, pack_args(asking, {}), scope=URI, deadline_s=60)
        if unpack_result(asking, reply.body).num == GUESTS:
            break
    wall = time.perf_counter() - began
    cpu = cpu_s(pid_of_role(agent.paths, "qemu") or 0)
    await peer.aclose()
    return wall, cpu


def peer_restart() -> float | None:
    """Seconds from a kill of a real libvirtd until it lists as many guests; None where there is none."""
    with tempfile.TemporaryDirectory(prefix="vtb", dir="/tmp") as folder:
        base = Path(folder) / "d"
        try:
            with Libvirtd(base) as daemon:
                (base / "etc" / "qemu").mkdir(parents=True, exist_ok=True)
                for number in range(GUESTS):
                    (base / "etc" / "qemu" / f"guest-{number}.xml").write_text(document(f"guest-{number}"), "utf-8")
                began = time.perf_counter()
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.socket.unlink(missing_ok=True)
                daemon.launch()
                listing = subprocess.run(
                    ["virsh", "-q", "-c", daemon.uri("qemu:///system"), "list", "--all", "--name"],
                    capture_output=True,
                    timeout=300,
                    check=True,
                )
                wall = time.perf_counter() - began
                return wall if listing.stdout.count(b"guest-") == GUESTS else None
        except (CannotRun, OSError, subprocess.SubprocessError):
            return None


def measure() -> list[Measure]:
    """Milliseconds, seconds and MiB."""
    with Agent("[warden]\ncrashes_per_period = 1000\n") as agent:
        wall_ms, cpu_ms = asyncio.run(define(agent))
        fill(agent)
        asyncio.run(restart(agent))
        time.sleep(10)  # the driver writes its index in the background
        times = [asyncio.run(restart(agent)) for _ in range(ROUNDS)]
        pid = pid_of_role(agent.paths, "qemu")
        memory = pss_mib(pid) if pid else 0.0
    note = f"{GUESTS} guests of 100 elements"
    return [
        Measure("define with fsync", wall_ms, "ms", note=f"{AT_ONCE} at once"),
        Measure("define, processor time of the driver", cpu_ms, "ms"),
        Measure(
            "kill -9 of qemu to next call, processor time",
            min(cpu for _, cpu in times),
            "s",
            goal=0.75,
            note=note,
        ),
        Measure(
            "kill -9 of qemu to next call",
            median([wall for wall, _ in times]),
            "s",
            peer=peer_restart(),
            against="libvirtd",
            note=note,
        ),
        Measure("memory of qemu (PSS)", memory, "MiB", goal=110, note=note),
    ]
