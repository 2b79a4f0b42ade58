"""What is on disk of a guest's snapshots and checkpoints: one document beside that of the guest."""

from __future__ import annotations

import msgspec

from conf.moment.tree import MomentRecord

FOLDER = "moments"


class Moments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The snapshots and checkpoints of a guest, by name."""

    snapshots: dict[str, MomentRecord] = {}
    checkpoints: dict[str, MomentRecord] = {}
    current_snapshot: str | None = None
    current_checkpoint: str | None = None

    @property
    def are_none(self) -> bool:
        """There is nothing to keep."""
        return not self.snapshots and not self.checkpoints


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Moments)


def path_of(uuid: str) -> str:
    """Where the document lies in the store."""
    return f"{FOLDER}/{uuid}.json"


def encode(moments: Moments) -> bytes:
    """The document."""
    return _encoder.encode(moments)


def decode(data: bytes) -> Moments:
    """What a document says. Raises msgspec.DecodeError for what is none."""
    return _decoder.decode(data)
