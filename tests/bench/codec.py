"""What libvirt's own protocol costs by itself: one call's bytes each way, a long list from parts, the import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid5

from gateway.domains import DomainView
from rpc.packet import PROGRAM_VERSION, PacketReader, PacketType, Program, Status, pack_parts
from rpc.xdr import args_codec
from schema.body import args_struct
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.bench.report import Measure

ROUNDS = 7
LISTED = 1000
ROOT = Path(__file__).parents[2]
IMPORT = "import time; t = time.process_time(); import rpc.session, rpc.xdr; print(time.process_time() - t)"


def best(work: Callable[[], object], times: int) -> float:
    """Processor seconds of one run: the least of some rounds, because others use the machine too."""
    found = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - begin) / times)
    return min(found)


def _call() -> tuple[Callable[[], bytes], Callable[[], object]]:
    row = need_procedure("domain_get_info")
    codec = args_codec(row)
    args = args_struct(row)(dom=DomainRef("web1", UUID(int=7).bytes, 1))

    def encode() -> bytes:
        payload = codec.encode(args)
        return pack_parts(Program.REMOTE, PROGRAM_VERSION, row.number, PacketType.CALL, 7, Status.OK, payload)

    data = encode()
    reader = PacketReader()

    def decode() -> object:
        reader.feed(data)
        packet = reader.next_packet()
        assert packet is not None
        return codec.decode(packet.payload)

    return encode, decode


def _list() -> Callable[[], bytes]:
    view = DomainView()
    for number in range(LISTED):
        summary = {
            "id": -1, "state": 5, "reason": 0, "persistent": True, "autostart": False, "managed_save": False,
            "os_type": "hvm", "max_mem": 1, "mem": 1, "vcpus": 1, "title": None, "scope": "", "snapshots": 0,
            "checkpoints": 0, "since": 0.0,
        }  # fmt: skip
        view.put(uuid5(UUID(int=0), str(number)).bytes, f"guest-{number}", 1, summary)

    def encode() -> bytes:
        count, refs = view.refs(0)
        number = count.to_bytes(4, "big")
        return number + refs + number

    return encode


def import_seconds() -> float:
    """Processor seconds to import the codec in a fresh interpreter."""
    found = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, cwd=ROOT)
        found.append(float(done.stdout))
    return min(found)


def measure() -> list[Measure]:
    """Microseconds of processor time, and milliseconds of the import."""
    encode, decode = _call()
    return [
        Measure("domain_get_info to bytes, with header", best(encode, 20_000) * 1e6, "us", goal=1.0),
        Measure("domain_get_info from bytes, with header", best(decode, 20_000) * 1e6, "us", goal=1.0),
        Measure(f"a list of {LISTED} guests from kept parts", best(_list(), 200) * 1e6, "us", goal=60.0),
        Measure("import of the codec", import_seconds() * 1e3, "ms", goal=20.0),
    ]
