"""Descriptors of vhost-user programs, which render for guests: what their packages install."""

from __future__ import annotations

from typing import Any

import msgspec


class Program(msgspec.Struct, frozen=True):
    """A program that serves one kind of device."""

    type: str
    binary: str


def parse_program(data: Any) -> Program:
    """The program of a descriptor. Raises KeyError, TypeError and ValueError for what is none."""
    kind = str(data["type"])
    if kind not in ("block", "fs", "gpu", "input", "net", "rng", "scsi", "vsock"):
        raise ValueError(f"unknown kind of device '{kind}'")
    return Program(kind, str(data["binary"]))


def write_program(program: Program) -> dict[str, Any]:
    """The descriptor as its file has it, without what is only for people's eyes."""
    return {"type": program.type, "binary": program.binary}
