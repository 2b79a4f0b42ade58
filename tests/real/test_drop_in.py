"""In place of libvirt's daemon: clients that are told nothing come here, in a mount namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateway_house import GatewayHouse, wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root"),
]


class HiddenHouse(GatewayHouse):
    """A gateway that sees an empty /run/libvirt of its own."""

    def __init__(self) -> None:
        super().__init__("[gateway]\ndrop_in = true\n")
        script = "mkdir -p /run/libvirt && mount -t tmpfs none /run/libvirt && echo ready && exec sleep 600"
        self._namespace = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == "ready\n"

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", "--mount", "--target", str(self._namespace.pid), "--", *words]

    def command(self, role: str) -> list[str]:
        words = super().command(role)
        return self.inside(*words) if role == "gateway" else words

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(*words),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("LIBVIRT_")} | {"LC_ALL": "C"},
        )

    def close(self) -> None:
        super().close()
        self._namespace.kill()
        self._namespace.communicate(timeout=20)


@pytest.fixture(scope="module")
def house() -> Iterator[HiddenHouse]:
    made = HiddenHouse()
    try:
        for role in ("broker", "test", "qemu", "gateway"):
            made.start(role)
        made.wait_until_served()
        wait_for("the links", lambda: made.run("test", "-S", "/run/libvirt/libvirt-sock").returncode == 0)
        yield made
    finally:
        made.show_logs("qemu")
        made.close()


def test_virsh_without_any_argument_works(house: HiddenHouse) -> None:
    done = house.run("virsh", "list", "--all")
    assert done.returncode == 0, done.stderr
    assert house.run("virsh", "uri").stdout.strip() == "qemu:///system"


def test_a_plain_uri_works_read_only_too(house: HiddenHouse) -> None:
    assert "<domain" in house.run("virsh", "-c", "test+unix:///default", "dumpxml", "test").stdout
    refused = house.run("virsh", "-r", "-c", "test+unix:///default", "destroy", "test")
    assert "read only access prevents virDomainDestroy" in refused.stderr


def test_virt_admin_without_any_argument_works(house: HiddenHouse) -> None:
    done = house.run("virt-admin", "srv-list")
    assert done.returncode == 0, done.stderr
    assert "libvirtd" in done.stdout


def test_scripts_find_the_process_of_a_guest(house: HiddenHouse) -> None:
    guest = house.root / "guest.xml"
    guest.write_text(
        "<domain type='qemu'><name>by-pid</name><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    made = house.run("virsh", "create", str(guest))
    assert made.returncode == 0, made.stderr
    pid = house.run("cat", "/run/libvirt/qemu/by-pid.pid").stdout
    assert b"guest=by-pid" in Path("/proc", pid, "cmdline").read_bytes()
    if Path("/usr/share/libvirt/cpu_map").is_dir():
        # the emulator gave it more than its model has; another host is told what was asked for
        assert "check='full'" in house.run("virsh", "dumpxml", "by-pid").stdout
        assert "check='none'" in house.run("virsh", "dumpxml", "by-pid", "--migratable").stdout
    assert house.run("virsh", "destroy", "by-pid").returncode == 0
    assert house.run("cat", "/run/libvirt/qemu/by-pid.pid").returncode != 0


def test_the_links_go_with_an_orderly_stop_alone(house: HiddenHouse) -> None:
    house.kill("gateway")
    left = ["libvirt-admin-sock", "libvirt-sock", "libvirt-sock-ro", "qemu"]
    assert house.run("ls", "/run/libvirt").stdout.split() == left
    house.start("gateway")
    assert house.run("virsh", "-c", "test+unix:///default", "list").returncode == 0
    house.end("gateway")
    assert house.run("ls", "/run/libvirt").stdout.split() == []
