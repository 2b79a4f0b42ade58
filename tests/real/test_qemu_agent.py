"""The guest agent: Debian's own, in a guest that really runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from actors.qemu.agent.asking import ask_agent
from actors.qemu.driver import QemuActor
from schema.body import pack_args
from schema.errors import AgentUnresponsive, DomainStateError, InternalError, InvalidArguments
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.contract.house import House, open_house
from tests.real.guest import guest_folder, needs_qemu, qemu_pid

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
BOOT_S = 120.0
_BUILD = Path(__file__).parent / "guest" / "agent.sh"


@cache
def image_with_agent() -> Path:
    done = subprocess.run(["bash", str(_BUILD)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"the guest with an agent cannot be built: {done.stderr[-1500:]}"
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Subject:
    """A guest with an agent."""

    def __init__(self, root: Path) -> None:
        self.uuid = uuid4()
        self.name = f"agent-{self.uuid.hex[:8]}"
        self.ref = DomainRef(self.name, self.uuid.bytes, -1)
        self.console = root / "console"
        self.xml = (
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>160</memory>"
            f"<vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type><kernel>{guest_folder()}/vmlinuz</kernel>"
            f"<initrd>{image_with_agent()}</initrd>"
            "<cmdline>console=ttyS0 quiet panic=-1 rdinit=/agent-init</cmdline></os>"
            "<features><acpi/></features><devices>"
            f"<serial type='pty'><log file='{self.console}' append='on'/><target port='0'/></serial>"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            "<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='virtio'/></interface>"
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{root}/disk.qcow2'/>"
            "<target dev='vda' bus='virtio'/></disk><memballoon model='none'/></devices></domain>"
        )

    async def says(self, text: str) -> None:
        await until(
            f"the guest says {text}", lambda: self.console.exists() and text in self.console.read_text("latin1")
        )


async def until(what: str, holds: Any, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def guest_with_agent(root: Path) -> AsyncIterator[tuple[House, Subject]]:
    needs_qemu()
    guest = Subject(root)
    await asyncio.to_thread(
        subprocess.run, ["qemu-img", "create", "-q", "-f", "qcow2", str(root / "disk.qcow2"), "1M"], check=True
    )
    async with open_house(QemuActor(), SCOPE, root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await ask(house, "domain_create_with_flags", guest)
        try:
            with pytest.raises(AgentUnresponsive, match="QEMU guest agent is not connected"):
                await house.call("domain_get_time", dom=guest.ref, flags=0)
            channel = house.host.guests[guest.uuid.bytes].live.devices.channels[0]
            await until("the agent is there", lambda: channel_state(house, guest) == "connected", BOOT_S)
            assert channel.alias == "channel0"
            yield house, guest
        finally:
            if house.runtime.objects.need_domain(guest.uuid.bytes).summary["id"] != -1:
                await house.call("domain_destroy_flags", dom=guest.ref, flags=0)


def channel_state(house: House, guest: Subject) -> str | None:
    target = house.host.guests[guest.uuid.bytes].live.devices.channels[0].target
    return None if target is None else str(target.state)


async def ask(house: House, procedure: str, guest: Subject, **args: Any) -> Any:
    body = pack_args(need_procedure(procedure), {"dom": guest.ref, "flags": 0} | args)
    call = house.post(procedure, body=body, deadline_s=90)
    await until(f"an outcome of {procedure}", lambda: call.id in house.broker.outcomes, 100)
    return await house.outcome(call)


def values(params: Any) -> dict[str, Any]:
    return {one.field: one.value for one in params}


async def test_what_a_guest_tells_by_its_agent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with guest_with_agent(root) as (house, guest):
        told = [r["data"]["state"] for r in house.broker.records if r["kind"] == "domain_event_agent_lifecycle"]
        assert told == [2, 1]
        assert "state='connected'" in (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml
        ping = await ask(house, "qemu_domain_agent_command", guest, cmd='{"execute":"guest-ping"}', timeout=20)
        assert ping.result == '{"return":{}}'
        with pytest.raises(InternalError, match="unable to execute QEMU agent command 'guest-nosuch'"):
            await ask(house, "qemu_domain_agent_command", guest, cmd='{"execute":"guest-nosuch"}', timeout=-2)
        with pytest.raises(InternalError, match="cannot parse json"):
            await ask(house, "qemu_domain_agent_command", guest, cmd="guest", timeout=-2)
        with pytest.raises(InvalidArguments, match="less than the minimum"):
            await ask(house, "qemu_domain_agent_command", guest, cmd='{"execute":"guest-ping"}', timeout=-3)
        assert (await ask(house, "domain_get_hostname", guest)).hostname == "test-guest"

        clock = await ask(house, "domain_get_time", guest)
        assert abs(clock.seconds - time.time()) < 3600
        await ask(house, "domain_set_time", guest, seconds=1_000_000_000, nseconds=5)
        assert 0 <= (await ask(house, "domain_get_time", guest)).seconds - 1_000_000_000 < 600

        processors = values((await ask(house, "domain_get_guest_vcpus", guest)).params)
        assert processors == {"vcpus": "0-1", "online": "0-1", "offlinable": "1"}
        await ask(house, "domain_set_guest_vcpus", guest, cpumap="1", state=0)
        assert values((await ask(house, "domain_get_guest_vcpus", guest)).params)["online"] == "0"
        assert (await ask(house, "domain_get_vcpus_flags", guest, flags=8)).num == 1
        await ask(house, "domain_set_vcpus_flags", guest, nvcpus=2, flags=8)
        assert (await ask(house, "domain_get_vcpus_flags", guest, flags=8)).num == 2
        with pytest.raises(InvalidArguments, match="vCPU '7' is not present in the guest"):
            await ask(house, "domain_set_guest_vcpus", guest, cpumap="7", state=1)

        names = {one.name: one for one in (await ask(house, "domain_interface_addresses", guest, source=1)).ifaces}
        assert names["lo"].addrs[0].addr == "127.0.0.1"
        assert names["eth0"].hwaddr == "52:54:00:aa:bb:cc"
        facts = values((await ask(house, "domain_get_guest_info", guest, types=0)).params)
        assert facts["hostname"] == "test-guest" and facts["os.id"] == "testguest" and facts["if.count"] >= 2
        assert (await ask(house, "domain_get_fsinfo", guest)).info == []
        assert (await ask(house, "domain_fsfreeze", guest, mountpoints=[])).filesystems == 0
        assert (await ask(house, "domain_fsthaw", guest, mountpoints=[])).filesystems == 0

        await ask(house, "domain_set_user_password", guest, user="root", password="s3cret")
        await guest.says("VIRTROUPE-PASSWORD root:s3cret")
        await ask(house, "domain_authorized_ssh_keys_set", guest, user="root", keys=["ssh-ed25519 AAAA me"])
        assert (await ask(house, "domain_authorized_ssh_keys_get", guest, user="root")).keys == ["ssh-ed25519 AAAA me"]
        await ask(house, "domain_authorized_ssh_keys_set", guest, user="root", keys=["ssh-ed25519 AAAA me"], flags=2)
        assert (await ask(house, "domain_authorized_ssh_keys_get", guest, user="root")).keys == []

        # a snapshot of disks alone freezes the file systems while QEMU goes over to the new images
        asked: list[str] = []

        async def note(host: Any, asked_of: Any, name: str, *more: Any, **others: Any) -> Any:
            asked.append(name)
            return await ask_agent(host, asked_of, name, *more, **others)

        monkeypatch.setattr("actors.qemu.moments.create.ask_agent", note)
        monkeypatch.setattr("actors.qemu.agent.asking.ask_agent", note)
        made = "<domainsnapshot><name>s1</name></domainsnapshot>"
        await ask(house, "domain_snapshot_create_xml", guest, xml_desc=made, flags=16 | 64)
        assert asked == ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
        assert f"<source file='{root}/disk.s1'" in (await house.call("domain_get_xml_desc", dom=guest.ref, flags=0)).xml

        await ask(house, "domain_agent_set_response_timeout", guest, timeout=30)
        await ask(house, "domain_shutdown_flags", guest, flags=2)
        await until("it is off", lambda: qemu_pid(guest.uuid) is None)
        with pytest.raises(DomainStateError, match="domain is not running"):
            await ask(house, "domain_get_time", guest)


async def test_an_agent_reboots_its_guest_and_comes_back(root: Path) -> None:
    async with guest_with_agent(root) as (house, guest):
        pid = qemu_pid(guest.uuid)
        await ask(house, "domain_reboot", guest, flags=2)
        await until("the agent left", lambda: channel_state(house, guest) == "disconnected")
        await until("the agent is back", lambda: channel_state(house, guest) == "connected", BOOT_S)
        assert (await ask(house, "domain_get_hostname", guest)).hostname == "test-guest"
        assert qemu_pid(guest.uuid) == pid
        assert "domain_event_reboot" in house.broker.kinds()
