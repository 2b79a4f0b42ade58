"""Where libvirt's QEMU driver keeps what it knows of guests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.errors import InvalidArguments

_LIB: Final = "/var/lib/libvirt/qemu"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one libvirt: definitions, what belongs to guests, and what is known of those that run.

    Without `lib` and `run` there are only definitions, a copy of `/etc/libvirt` for instance.
    """

    config: Path
    lib: Path | None
    run: Path | None
    old_lib: str = _LIB
    """How documents name `lib`."""

    def moved(self, path: str) -> Path:
        """Where a path that a document names is found here."""
        if self.lib is not None and path.startswith(f"{self.old_lib}/"):
            return self.lib / path.removeprefix(f"{self.old_lib}/")
        return Path(path)


def find_places(root: str | None) -> Places:
    """The folders of this host's libvirt, of a host whose files lie below `root`, or of a copy of `/etc/libvirt`.

    Raises InvalidArguments when there is no such folder.
    """
    if not root:
        return _of_host(Path("/")) if os.geteuid() == 0 else _of_user()
    folder = Path(root)
    if not folder.is_absolute():
        raise InvalidArguments(f"'{root}' is not a path from the root")
    if (folder / "etc/libvirt/qemu").is_dir():
        return _of_host(folder)
    if (folder / "qemu").is_dir():
        return Places(folder / "qemu", None, None)
    raise InvalidArguments(f"neither '{root}/etc/libvirt/qemu' nor '{root}/qemu' is a folder")


def _of_host(root: Path) -> Places:
    return Places(root / "etc/libvirt/qemu", root / "var/lib/libvirt/qemu", root / "run/libvirt/qemu")


def _of_user() -> Places:
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "libvirt/qemu"
    run = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(run) / "libvirt/qemu/run" if run else None
    return Places(config, config / "lib", folder, old_lib=str(config / "lib"))
