"""The guest of the real tests: Debian's kernel with a small initramfs, as a libvirt document."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

READY: Final = "VIRTROUPE-GUEST-READY"
POWEROFF: Final = "VIRTROUPE-GUEST-POWEROFF"
_BUILD: Final = Path(__file__).parent / "guest" / "build.sh"


@cache
def guest_folder() -> Path:
    """The folder with `vmlinuz`, `initrd.img` and `disk.qcow2`, built once per host."""
    done = subprocess.run(["bash", str(_BUILD)], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise AssertionError(f"the guest cannot be built: {done.stderr[-1500:]}")
    return Path(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True, slots=True)
class RealGuest:
    """A guest that really boots under TCG; its console goes to a pty, and to `log` when there is one."""

    name: str
    uuid: uuid.UUID = field(default_factory=uuid.uuid4)
    memory_mib: int = 128
    log: Path | None = None
    boots: bool = True

    def xml(self) -> str:
        """The document that defines it; without `boots` its firmware finds nothing, which is quick."""
        folder = guest_folder() if self.boots else None
        kernel = (
            f"<kernel>{folder}/vmlinuz</kernel><initrd>{folder}/initrd.img</initrd>"
            "<cmdline>console=ttyS0 quiet panic=-1</cmdline>"
            if folder
            else ""
        )
        log = f"<log file='{self.log}' append='on'/>" if self.log else ""
        return (
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid>"
            f"<memory unit='MiB'>{self.memory_mib}</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='pc'>hvm</type>{kernel}</os><features><acpi/></features>"
            f"<on_reboot>restart</on_reboot><devices><serial type='pty'>{log}<target port='0'/></serial>"
            "<console type='pty'><target type='serial' port='0'/></console><memballoon model='virtio'/>"
            "</devices></domain>"
        )


def qemu_pid(identity: uuid.UUID) -> int | None:
    """The living QEMU process of a guest, found by the uuid on its command line."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_bytes().rpartition(b") ")[2][:1]
        except OSError:
            continue
        if str(identity).encode() in words and b"qemu" in words[0] and state not in (b"Z", b"X"):
            return int(folder.name)
    return None


def needs_qemu() -> None:
    """As root the full run has QEMU; a host without it fails loudly rather than passing silently."""
    assert any(Path(p).exists() for p in ("/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64")), (
        "qemu-system-x86_64 is not installed (Debian: qemu-system-x86); "
        + ("make test installs it" if os.geteuid() == 0 else "install it, then run again")
    )
