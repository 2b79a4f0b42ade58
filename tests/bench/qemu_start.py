"""From define to running, and to gone, above what QEMU itself takes in the same minute.

The floor is a bare QEMU: the very command line that the driver writes, started by hand, until its monitor has answered
and the guest has been let go; and a SIGTERM until it is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from broker.peer import Peer
from schema.body import pack_args, unpack_result
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.bench.report import CannotRun, Measure, median
from tests.process.agent import Agent

URI = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
ROUNDS = 15
SIDE_BY_SIDE = 20


def document(name: str, identity: str) -> str:
    """A guest whose firmware finds nothing to boot."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>"
        "<serial type='pty'/><memballoon model='virtio'/></devices></domain>"
    )


class Client:
    """A native client."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def call(self, procedure: str, **arguments: Any) -> Any:
        row = need_procedure(procedure)
        reply = await self.peer.call("qemu", procedure, pack_args(row, arguments), scope=URI, deadline_s=60)
        return unpack_result(row, reply.body)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


def bare_start(words: list[str]) -> tuple[float, float]:
    """Seconds until a QEMU that is started by hand runs its guest, and until it is gone after SIGTERM."""
    ours, theirs = socket.socketpair()
    argv = [word.replace("MONITOR", str(theirs.fileno())) for word in words]
    begin = time.perf_counter()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
    )
    theirs.close()
    ours.settimeout(30)
    commands = [{"execute": "qmp_capabilities"}, {"execute": "query-chardev"}, {"execute": "cont", "id": 1}]
    ours.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in commands))
    heard = b""
    while b'"id": 1' not in heard:
        heard += ours.recv(65536)
    running = time.perf_counter() - begin
    begin = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    gone = time.perf_counter() - begin
    ours.close()
    return running, gone


async def bare_words(client: Client, root: Path) -> list[str]:
    """The driver's own command line, made to run without the driver."""
    xml = document("floor", str(uuid4()))
    text = await client.call("connect_domain_xml_to_native", nativeFormat="qemu-argv", domainXml=xml, flags=0)
    words = list(itertools.dropwhile(_is_assignment, shlex.split(text.nativeConfig)))
    key = root / "floor.key"
    key.write_bytes(b"0" * 32)
    made = []
    for word in words:
        if word.startswith("socket,id=charmonitor"):
            word = "socket,id=charmonitor,fd=MONITOR"
        elif '"masterKey0"' in word:
            word = json.dumps({**json.loads(word), "file": str(key)})
        made.append(word)
    return made


def _is_assignment(word: str) -> bool:
    name, mark, _ = word.partition("=")
    return bool(mark) and name.isidentifier()


async def figures(agent: Agent) -> list[Measure]:
    """All figures of this benchmark."""
    peer = await Peer.connect_client(agent.paths, program="bench-qemu")
    client = Client(peer)
    await client.call("connect_get_version")
    words = await bare_words(client, agent.root)
    await asyncio.to_thread(bare_start, words)
    starts, floors, ends, bare_ends = [], [], [], []
    for number in range(ROUNDS):
        identity = uuid4()
        ref = DomainRef(f"bench{number}", identity.bytes, -1)
        xml = document(ref.name, str(identity))

        async def define_and_start(xml: str = xml, ref: DomainRef = ref) -> None:
            await client.call("domain_define_xml_flags", xml=xml, flags=0)
            await client.call("domain_create_with_flags", dom=ref, flags=0)

        starts.append(await timed(define_and_start))
        ends.append(await timed(lambda ref=ref: client.call("domain_destroy_flags", dom=ref, flags=0)))
        await client.call("domain_undefine_flags", dom=ref, flags=0)
        running, gone = await asyncio.to_thread(bare_start, words)
        floors.append(running)
        bare_ends.append(gone)

    refs = []
    for number in range(SIDE_BY_SIDE):
        identity = uuid4()
        refs.append(DomainRef(f"many{number}", identity.bytes, -1))
        await client.call("domain_define_xml_flags", xml=document(f"many{number}", str(identity)), flags=0)

    async def start_all() -> None:
        await asyncio.gather(*(client.call("domain_create_with_flags", dom=ref, flags=0) for ref in refs))

    async def end_all() -> None:
        await asyncio.gather(*(client.call("domain_destroy_flags", dom=ref, flags=0) for ref in refs))

    together = await timed(start_all)
    asked = [
        await timed(lambda: client.call("connect_get_all_domain_stats", doms=[], stats=0, flags=0)) for _ in range(9)
    ]
    bulk = median(asked)
    ended = await timed(end_all)
    await peer.aclose()

    ms = 1000.0
    floor = median(floors) * ms
    above = [(start - bare) * ms for start, bare in zip(starts, floors, strict=True)]
    return [
        Measure("define to running", median(starts) * ms, "ms", peer=floor, against="ms bare QEMU"),
        Measure("define to running, above bare QEMU", median(above), "ms", goal=60.0),
        Measure("destroy", median(ends) * ms, "ms", goal=30.0, peer=median(bare_ends) * ms, against="ms bare SIGTERM"),
        Measure(
            f"{SIDE_BY_SIDE} guests started side by side",
            together * ms,
            "ms",
            peer=SIDE_BY_SIDE * floor,
            against="ms one after the other, bare",
        ),
        Measure(f"bulk statistics of {SIDE_BY_SIDE} guests", bulk * ms, "ms"),
        Measure(f"{SIDE_BY_SIDE} guests destroyed side by side", ended * ms, "ms"),
    ]


def measure() -> list[Measure]:
    """Runs it on an agent of its own."""
    if not any(Path(folder, "qemu-system-x86_64").exists() for folder in ("/usr/bin", "/usr/local/bin")):
        raise CannotRun("qemu-system-x86_64 is not installed")
    with Agent() as agent:
        return asyncio.run(figures(agent))


if __name__ == "__main__":
    print(json.dumps([one.to_json() for one in measure()], indent=1))
