"""Messages of libvirt's protocol made up at random: well-formed ones of every call, and ones that were spoilt."""

from __future__ import annotations

import random
import struct
from typing import Any

from rpc.packet import LENGTH_MIN, Packet, PacketType, Program, Status, pack_packet
from rpc.xdr import XdrCodec, args_codec, error_codec, event_codec, hole_codec, result_codec
from schema.body import args_struct, result_struct
from schema.model import Field, Procedure
from schema.objects import CLASSES, ErrorRecord, TypedParam
from schema.table import all_events, all_procedures, need_struct

INTERESTING = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 16384, 16385, 4194304, 4194305, 255, 256)
BITS = {"int": (31, True), "uint": (32, False), "hyper": (63, True), "uhyper": (64, False)}
SMALL = {"char": (-128, 127), "uchar": (0, 255), "short": (-32768, 32767), "ushort": (0, 65535)}
WORDS = ("", "test", "a", "default-pool", "<domain/>", "ä\udcff", "x" * 300, "../../etc", "test:///default")
PARAM_TYPES = ((1, "int"), (2, "uint"), (3, "hyper"), (4, "uhyper"), (5, "double"), (6, "bool"), (7, "string"))


class RandomMessages:
    """A source of messages; the same seed gives the same ones."""

    def __init__(self, seed: int, uuids: tuple[bytes, ...] = ()) -> None:
        self.random = random.Random(seed)
        self.uuids = uuids
        self.procedures = [row for row in all_procedures() if row.program != "native"]
        self.calls = [row for row in self.procedures if row.program != "admin"]
        self.events = [event for event in all_events() if event.program != "native"]

    # --- values ---

    def value(self, item: Field) -> Any:
        if item.optional and self.random.random() < 0.4:
            return None
        if item.type == "uuid":
            known = self.uuids and self.random.random() < 0.7
            return self.random.choice(self.uuids) if known else self.random.randbytes(16)
        if item.is_bytes:
            size = item.fixed if item.fixed is not None else min(item.max or 0, self.random.choice((0, 1, 3, 40)))
            return self.random.randbytes(size)
        if item.max is not None:
            return [self._single(item.type) for _ in range(min(item.max, self.random.choice((0, 0, 1, 2, 5))))]
        return self._single(item.type)

    def _single(self, type_: str) -> Any:
        rng = self.random
        if type_ in BITS:
            bits, signed = BITS[type_]
            number = rng.choice((rng.randrange(8), rng.choice(INTERESTING), rng.getrandbits(bits))) & ((1 << bits) - 1)
            return -number if signed and rng.random() < 0.2 else number
        if type_ in SMALL:
            return rng.randint(*SMALL[type_])
        if type_ == "double":
            return rng.random() * 10 ** rng.randrange(-5, 12)
        if type_ == "string":
            return rng.choice(WORDS)
        if type_ == "typed_param":
            number, kind = rng.choice(PARAM_TYPES)
            return TypedParam(rng.choice(WORDS), number, rng.randrange(2) if kind == "bool" else self._single(kind))
        return CLASSES[type_](*(self.value(field) for field in need_struct(type_).fields))

    # --- payloads ---

    def payload(self) -> tuple[XdrCodec, bytes]:
        """The payload of a call, a reply, an event, an error or a hole, and its codec."""
        kind = self.random.randrange(12)
        if kind == 0:
            event = self.random.choice(self.events)
            codec = event_codec(event)
            return codec, codec.encode({item.name: self.value(item) for item in event.fields})
        if kind == 1:
            record = ErrorRecord(*(self.value(item) for item in need_struct("error").fields))
            return error_codec(), error_codec().encode(record)
        if kind == 2:
            return hole_codec(), hole_codec().encode({"length": self._single("hyper"), "flags": 0})
        row = self.random.choice(self.procedures)
        if kind % 2:
            return args_codec(row), self.arguments(row)
        return result_codec(row), result_codec(row).encode(
            result_struct(row)(**{item.name: self.value(item) for item in row.ret})
        )

    def arguments(self, row: Procedure) -> bytes:
        return args_codec(row).encode(args_struct(row)(**{item.name: self.value(item) for item in row.args}))

    def spoil(self, data: bytes) -> bytes:
        """The same bytes with something wrong; sometimes with nothing."""
        rng = self.random
        spoilt = bytearray(data)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            way = rng.randrange(6)
            place = rng.randrange(len(spoilt) + 1) if spoilt else 0
            word = place & ~3
            if way == 0 and place < len(spoilt):
                spoilt[place] ^= 1 << rng.randrange(8)
            elif way == 1 and word + 4 <= len(spoilt):
                struct.pack_into(">I", spoilt, word, rng.choice(INTERESTING))
            elif way == 2:
                del spoilt[place:]
            elif way == 3:
                spoilt[place:place] = rng.randbytes(rng.choice((1, 4, 8, 64)))
            elif way == 4:
                del spoilt[place : place + rng.choice((1, 4, 16))]
            else:
                spoilt += spoilt[:word]
        return bytes(spoilt)

    # --- messages ---

    def call(self, serial: int) -> bytes:
        """A whole call, whose payload may be spoilt."""
        row = self.random.choice(self.calls)
        payload = self.spoil(self.arguments(row)) if self.random.random() < 0.5 else self.arguments(row)
        return pack_packet(
            Packet(Program[row.program.upper()], 1, row.number, PacketType.CALL, serial, Status.OK, payload)
        )

    def other(self, serial: int) -> bytes:
        """A message that is no call, or one with a strange header."""
        rng = self.random
        kind = rng.choice(
            (PacketType.STREAM, PacketType.STREAM_HOLE, PacketType.CALL_WITH_FDS, PacketType.MESSAGE, 1, 9)
        )
        payload = rng.randbytes(rng.choice((0, 4, 12, 100)))
        words = struct.pack(
            ">IIIiiIi",
            LENGTH_MIN + len(payload),
            rng.choice((*map(int, Program), rng.getrandbits(32))),
            rng.choice((1, 1, 1, 2)),
            rng.choice((1, 66, 208, rng.randrange(500), -1)),
            kind,
            rng.choice((serial, rng.getrandbits(32))),
            rng.choice((0, 0, 1, 2, 7)),
        )
        return self.spoil(words + payload) if rng.random() < 0.3 else words + payload
