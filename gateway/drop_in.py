"""Standing in for libvirt's daemon: links at the places where clients look that are told nothing.

Links, not sockets: what the gateway's own sockets promise (who connects meanwhile waits) holds for them as well. Where
a daemon serves already, nothing is touched.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from settings.paths import Paths
from util.structured_log import StructuredLog

CONNECT_S: Final = 1.0


class DropIn:
    """The links in one folder."""

    def __init__(self, folder: Path, paths: Paths, log: StructuredLog) -> None:
        self._log = log
        self._folder = folder
        targets = (paths.libvirt_socket, paths.libvirt_socket_read_only, paths.libvirt_admin_socket)
        self._links = {folder / target.name: target for target in targets}
        self._guests = (folder / "qemu", paths.role_run("qemu"))
        """Where scripts look for the processes of guests, by name; a folder that is there already stays."""

    def make(self) -> bool:
        """Whether the links are there now; none is made where a daemon serves."""
        served = [str(link) for link, target in self._links.items() if not _leads_to(link, target) and _serves(link)]
        if served:
            self._log.error("libvirt's own sockets are served by another daemon and left to it", sockets=served)
            return False
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            links = dict(self._links)
            if self._guests[0].is_symlink() or not self._guests[0].exists():
                links |= [self._guests]
            for link, target in links.items():
                fresh = link.with_name(f".{link.name}.new")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(target)
                fresh.replace(link)
        except OSError as exc:
            self._log.error("cannot serve libvirt's own sockets", error=str(exc))
            return False
        self._log.info("libvirt's own sockets are served", folder=str(self._folder))
        return True

    def remove(self) -> None:
        """Takes the links away, as far as they are ours."""
        for link, target in (*self._links.items(), self._guests):
            if _leads_to(link, target):
                with contextlib.suppress(OSError):
                    link.unlink()


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:
        return False


def _serves(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(os.fspath(path))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True
