"""A whole host of its own: Debian's stock kernel in a QEMU machine, with control groups of version 2, and with systemd.

The image is the one of `../shared/testbeds/hostvm`, built with `PACKAGES` besides:

    EXTRA_PKGS=$(python -m tests.hostvm.machine packages) TESTBED_CACHE=DIR ../shared/testbeds/hostvm/build.sh

and found below `TESTBED_CACHE` (by default `/var/cache/testbeds-systemd`). `python -m tests.hostvm.machine up` keeps
one machine. Which program is its first one, systemd or the image's own script, is decided by a second initial file
system that is laid over the image's.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = (
    *("systemd", "systemd-sysv", "systemd-container", "libpam-systemd", "qemu-system-x86", "qemu-utils"),
    *("libvirt-daemon", "libvirt-daemon-system", "libvirt-clients", "libvirt-daemon-driver-qemu"),
)
TREE: Final = "/opt/virtroupe"
"""Where the tree is put in the machine."""
BOOT_S: Final = 400.0
_READY: Final = "TESTBED-HOST-READY"
_ROOMS: Final = ("schema", "settings", "broker", "warden", "actors", "conf", "rpc", "remoting", "gateway", "client")
_FILES: Final = ("util", "virtroupe.py", "supervisord.conf", "pyproject.toml", "tests/__init__.py", "tests/hostvm")
_INIT: Final = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
while read m; do insmod /lib/$m 2>/dev/null; done < /lib/order
i=0; while [ ! -b /dev/vda ] && [ $i -lt 50 ]; do sleep 0.2; i=$((i+1)); done
mount -t ext4 /dev/vda /root || exec sh
[ -x /root/lib/systemd/systemd ] || { echo NO-SYSTEMD-IN-IMAGE >/dev/console; exec sh; }
units=/root/etc/systemd/system
printf '%s\\n' '[Unit]' 'Requires=basic.target ssh.service dbus.socket testbed.service' \
  'After=basic.target ssh.service' AllowIsolate=yes > $units/testbed.target
printf '%s\\n' '[Unit]' 'After=systemd-udev-trigger.service systemd-udevd.service' Before=ssh.service '[Service]' \
  Type=oneshot RemainAfterExit=yes ExecStart=/sbin/testbed-network > $units/testbed.service
printf '%s\\n' '#!/bin/sh' 'udevadm settle -t 60; until ls -d /sys/class/net/e*; do sleep 0.2; done' \
  'ETH=$(ls -d /sys/class/net/e* | head -1 | xargs basename)' \
  'ip addr add 10.0.2.15/24 dev $ETH; ip link set $ETH up; ip route add default via 10.0.2.2' \
  'echo TESTBED-HOST-READY >/dev/console' > /root/sbin/testbed-network
chmod +x /root/sbin/testbed-network
: > /root/etc/machine-id
for unit in multipathd.service multipathd.socket iscsid.socket open-iscsi.service nfs-server.service rpcbind.service \
  rpcbind.socket nfs-client.target blk-availability.service lvm2-monitor.service lvm2-lvmpolld.socket \
  rtslib-fb-targetctl.service apparmor.service libvirt-guests.service dnsmasq.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount systemd-journal-flush.service systemd-update-utmp.service sys-kernel-debug.mount \
  sys-kernel-tracing.mount dev-mqueue.mount systemd-random-seed.service keyboard-setup.service \
  console-setup.service systemd-pstore.service; do ln -sf /dev/null $units/$unit; done
mount --move /dev /root/dev; umount /proc /sys; exec switch_root /root /lib/systemd/systemd
"""


def cache() -> Path:
    """Where the image is."""
    return Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbeds-systemd")) / "hostvm"


def missing() -> str | None:
    """Why there can be no machine here; None when there can."""
    folder = cache()
    if not all((folder / name).exists() for name in ("host.img", "vmlinuz", "initrd.img", "id")):
        return f"no image of a host in '{folder}': build it as tests/hostvm/machine.py says"
    return None


class Machine:
    """One running machine; what is written to its disk goes with it."""

    def __init__(
        self, folder: Path, *, systemd: bool, devices: Sequence[str] = (), machine: str = "q35", words: str = ""
    ) -> None:
        """`devices`: more words for QEMU; `words`: more for the kernel."""
        self.folder = folder
        self.systemd = systemd
        self._more = tuple(devices)
        self._machine = machine
        self._words = words
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its last words when it does not in time."""
        image, overlay, extra = cache(), self.folder / "disk.qcow2", self.folder / "second.qcow2"
        for words in ((overlay, "-b", image / "host.img", "-F", "raw"), (extra, "256M")):
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *map(str, words)], check=True)
        initrd = self.folder / "initrd.img"
        initrd.write_bytes((image / "initrd.img").read_bytes() + (_archive("init", _INIT) if self.systemd else b""))
        self.port = _free_port()
        append = "console=ttyS0 quiet mitigations=off root=/dev/vda systemd.unit=testbed.target apparmor=0"
        append += f" {self._words}" if self._words else ""
        self._process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-name", "hostvm", "-M", self._machine),
                *("-accel", "tcg,thread=multi,tb-size=512"),
                # threads that share a core, and two memory nodes
                *("-cpu", "max,vendor=GenuineIntel", "-smp", "4,sockets=2,cores=1,threads=2", "-m", "2048"),
                *("-object", "memory-backend-ram,id=m0,size=1G", "-object", "memory-backend-ram,id=m1,size=1G"),
                *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1", "-numa", "node,nodeid=1,memdev=m1,cpus=2-3"),
                *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.serial}"),
                *("-kernel", str(image / "vmlinuz"), "-initrd", str(initrd), "-append", append),
                *("-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe"),
                *("-drive", f"file={extra},if=virtio,format=qcow2,cache=unsafe"),
                *("-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
                *("-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci"),
                *self._more,
            ],
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            if _READY in self._said() and self.ssh("true", timeout_s=60, check=False).returncode == 0:
                return
            time.sleep(1)
        said = self._said()[-3000:]
        self.stop()
        raise RuntimeError(f"the machine does not answer; it said: {said}")

    @property
    def serial(self) -> Path:
        """The file with what its console shows."""
        return self.folder / "serial.log"

    def _said(self) -> str:
        try:
            return self.serial.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Switches it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def ssh(
        self, command: str, *, timeout_s: float = 120, check: bool = True, given: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in it. Raises RuntimeError with its errors when it fails."""
        done = subprocess.run(
            [*_ssh(self.port), command], input=given, stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        told = subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and done.returncode:
            raise RuntimeError(f"'{command}' failed in the machine: {told.stdout[-2000:]} {told.stderr[-2000:]}")
        return told

    def put_tree(self) -> None:
        """Puts this tree and what it needs of other people's packages into it: below `TREE`, with a `bin/virtroupe`."""
        self.ssh(f"mkdir -p {TREE} && tar -C {TREE} -xzf -", given=_tree(), timeout_s=300)
        self.ssh(f"echo {TREE}/lib >/usr/local/lib/python3.11/dist-packages/virtroupe.pth")


def _ssh(port: int) -> list[str]:
    return [
        *("ssh", "-q", "-i", str(cache() / "id"), "-p", str(port), "-o", "StrictHostKeyChecking=no"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30", "root@127.0.0.1"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _archive(name: str, text: str) -> bytes:
    """An initial file system with one executable file (cpio, newc)."""
    packed = b""
    for title, mode, data in ((name, 0o100755, text.encode()), ("TRAILER!!!", 0, b"")):
        fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(title) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + title.encode() + b"\0"
        packed += head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
    return gzip.compress(packed)


def _tree() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name in (*_ROOMS, *_FILES):
            tar.add(ROOT / name, arcname=f"lib/{name}", filter=_plain)
        for path, name in _libraries():
            tar.add(path, arcname=f"lib/{name}", filter=_plain)
        program = b'#!/bin/sh\nexec python3 -c "from client.command.main import main; main()" "$@"\n'
        entry = tarfile.TarInfo("bin/virtroupe")
        entry.mode, entry.size = 0o755, len(program)
        tar.addfile(entry, io.BytesIO(program))
    return out.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    # compiled files are those of the machine's Python as well, and are as old as their sources there
    return None if "__pycache__" in entry.name and not entry.isdir() and ".cpython-311." not in entry.name else entry


def _libraries() -> Iterator[tuple[Path, str]]:
    """The files of the packages that Virtroupe needs, and those that they need."""
    waiting, known = ["virtroupe"], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in known:
            continue
        known.add(name)
        found = importlib.metadata.distribution(name)
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
        for file in found.files or ():
            path = Path(str(file.locate()))
            if name == "virtroupe" and not file.parent.name.endswith(".dist-info"):
                continue
            if not str(file).startswith("..") and path.is_file():
                yield path, str(file)


@contextlib.contextmanager
def running(*, systemd: bool) -> Iterator[Machine]:
    """A machine with this tree in it."""
    with tempfile.TemporaryDirectory(prefix="vthost") as folder:
        machine = Machine(Path(folder), systemd=systemd)
        try:
            machine.start()
            machine.put_tree()
            yield machine
        finally:
            machine.stop()


def main(words: Sequence[str]) -> int:
    """For people: `packages`, `up [script]` (until a line or the end comes in), `ssh PORT COMMAND`."""
    match list(words):
        case ["packages"]:
            print(",".join(PACKAGES))
        case ["up", *more]:
            with running(systemd="script" not in more) as machine:
                print(f"ssh port {machine.port}; a line, or the end of input, ends it", flush=True)
                sys.stdin.readline()
        case ["ssh", port, *command]:
            return subprocess.run([*_ssh(int(port)), *command], check=False).returncode
        case ["tree", port]:
            machine = Machine(Path("/nonexistent"), systemd=True)
            machine.port = int(port)
            machine.put_tree()
        case _:
            print(main.__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
