"""What lies in libvirt's folders, read and not judged. Nothing there is ever written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from actors.qemu.importing.places import Places
from schema.errors import HostSystemError

_SUFFIX: Final = ".xml"
_OTHERS: Final = (
    ("network", "qemu/networks"),
    ("storage pool", "storage"),
    ("secret", "secrets"),
    ("network filter", "nwfilter"),
)
"""What libvirt keeps beside guests, below its folder of definitions."""


@dataclass(slots=True)
class Found:
    """All that libvirt has of one guest."""

    name: str
    config: bytes | None = None
    is_autostarted: bool = False
    snapshots: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    saved: Path | None = None
    nvram: Path | None = None
    status: bytes | None = None
    """What libvirt knows of it while it runs."""
    status_path: Path | None = None
    error: str | None = None
    """Something of it cannot be read."""


def read_guests(places: Places, names: Sequence[str]) -> list[Found]:
    """The guests, or those of these names that there are, in the order of their names.

    Raises HostSystemError when the folder of definitions cannot be read.
    """
    known = set(_stems(places.config)) | (set() if places.run is None else set(_stems(places.run)))
    return [_read(places, name) for name in sorted(known) if not names or name in names]


def others_of(places: Places) -> list[tuple[str, str]]:
    """What else libvirt defines: kind and name, of secrets the uuid."""
    folder = places.config.parent
    return [(kind, name) for kind, place in _OTHERS for name in sorted(_stems(folder / place))]


def _stems(folder: Path) -> list[str]:
    try:
        return [path.stem for path in folder.iterdir() if path.suffix == _SUFFIX and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot read '{folder}'") from exc


def _read(places: Places, name: str) -> Found:
    found = Found(name)
    try:
        found.config = _bytes(places.config / f"{name}{_SUFFIX}")
        link = places.config / "autostart" / f"{name}{_SUFFIX}"
        # of a copy the link may lead nowhere
        found.is_autostarted = link.is_symlink() or link.exists()
        if places.lib is not None:
            found.snapshots = _documents(places.lib / "snapshot" / name)
            found.checkpoints = _documents(places.lib / "checkpoint" / name)
            saved = places.lib / "save" / f"{name}.save"
            found.saved = saved if saved.exists() else None
            nvram = places.lib / "nvram" / f"{name}_VARS.fd"
            found.nvram = nvram if nvram.exists() else None
        if places.run is not None:
            found.status_path = places.run / f"{name}{_SUFFIX}"
            found.status = _bytes(found.status_path)
    except HostSystemError as exc:
        found.error = exc.message
    return found


def _documents(folder: Path) -> dict[str, bytes]:
    return {name: _bytes(folder / f"{name}{_SUFFIX}") or b"" for name in sorted(_stems(folder))}


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot read '{path}'") from exc
