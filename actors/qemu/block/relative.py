"""How an image that stays names the one that it stands on after a job, when names are to stay relative."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.qemu.block.chain import Image
from actors.qemu.images import read_backing
from schema.errors import DomainStateError


def relative_name(images: Sequence[Image], above: int, below: int) -> str:
    """The name of an image relative to one above it, made of the names that stand in the images themselves.

    Raises DomainStateError when one of them is not relative, HostSystemError when an image cannot be read.
    """
    name = folder = Path()
    for place in range(above, below):
        path = images[place].path
        backing = read_backing(path, images[place].format) if path is not None else None
        if backing is None or backing.name.startswith("/") or ":" in backing.name.partition("/")[0]:
            raise DomainStateError("can't keep relative backing relationship")
        name = folder / backing.name
        folder = name.parent
    return str(name)
