"""Where the helper programs of this host are, and which of them serve vhost-user devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu.firmware import descriptor_files
from actors.qemu.vhost_user import Program, parse_program

FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/libexec", "/usr/lib/qemu", "/sbin", "/bin")
VHOST_USER: Final = ("/usr/share/qemu/vhost-user", "/etc/qemu/vhost-user")


def find_program(name: str, folders: Sequence[str] = FOLDERS) -> str | None:
    """The path of a program; None when this host does not have it."""
    for folder in folders:
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    return None


def vhost_user_folders() -> tuple[Path, ...]:
    """Where descriptors of vhost-user programs are, the least important first; root has none of his own."""
    folders = tuple(Path(one) for one in VHOST_USER)
    if os.geteuid() == 0:
        return folders
    return (*folders, Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "qemu" / "vhost-user")


def find_vhost_user(kind: str, folders: Sequence[Path]) -> Program | None:
    """The most important program that serves a kind of device. Descriptors that cannot be read are passed over."""
    for path in descriptor_files(folders):
        try:
            program = parse_program(msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
        if program.type == kind:
            return program
    return None
