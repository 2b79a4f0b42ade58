"""Programs that run beside guests: emulated TPMs, shared folders, unprivileged networks, buses, reservations."""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import signal
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from lxml import etree

from actors.qemu.helpers.crew import Crew
from actors.qemu.helpers.processes import find_helpers, place_of
from actors.qemu.monitor.protocol import Notice
from actors.qemu.notices import on_notice
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import ConfigUnsupported, DomainStateError, InternalError, NoSuchSecret, VirtError
from settings.qemu import QemuSettings
from tests.contract.house import House
from tests.real.migration_steps import Traveller, move, runs, start, two_hosts
from tests.real.test_qemu_guests import Subject, driver, root, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]
__all__ = ["root"]

TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
NETWORK = (
    "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/><backend type='passt'/></interface>"
)
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("folders are shared by virtiofsd as root only")


def share(folder: Path, tag: str = "tag") -> str:
    return (
        "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/><binary xattr='on'/>"
        f"<source dir='{folder}'/><target dir='{tag}'/></filesystem>"
    )


def helpers_in(folder: Path) -> dict[str, int]:
    """The living helpers of a guest's folder, by role."""
    found = find_helpers(folder)
    for one in found:
        one.process.release()
    return {f"{one.role.program}@{one.role.alias}": one.process.pid for one in found}


def folder_of(house: House, guest: Subject) -> Path:
    return Path(house.host.guest(guest.ref).need_run().folder)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][:1]
    except OSError:
        return False
    return state not in "ZX"


async def create(house: House, guest: Subject) -> None:
    await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))


async def test_a_tpm_is_made_once_runs_with_its_guest_and_outlives_the_driver(root: Path) -> None:
    guest = Subject(root, TPM, boots=False)
    async with driver(root) as house:
        state = house.host.state_folder / "swtpm" / str(guest.uuid) / "tpm2"
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        folder = folder_of(house, guest)
        (pid,) = helpers_in(folder).values()
        kept = state / "tpm2-00.permall"
        assert kept.stat().st_mode & 0o777 == 0o600 and state.stat().st_mode & 0o777 == 0o700
        made = state.stat().st_ino
    async with driver(root, epoch=2) as house:
        assert helpers_in(folder) == {"swtpm@tpm0": pid}, "the TPM goes on without the driver"
        assert house.host.guest(guest.ref).crew.pids == [pid]
        assert (await house.host.guest(guest.ref).ask("query-tpm"))[0]["model"] == "tpm-crb"
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until("the TPM ends with its guest", lambda: not lives(pid))
        await create(house, guest)
        assert state.stat().st_ino == made, "it is the same TPM"
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        assert not state.parent.exists()


async def test_a_tpm_is_sealed_with_a_secret_and_kept_where_that_was_said(root: Path) -> None:
    secret, key = uuid4(), root / "key"
    key.write_bytes(b"a passphrase nobody sees")
    backend = f"<backend type='emulator' version='2.0' persistent_state='yes'><encryption secret='{secret}'/>"
    backend += "<active_pcr_banks><sha384/></active_pcr_banks></backend>"
    guest = Subject(root, f"<tpm model='tpm-tis'>{backend}</tpm>", boots=False)
    async with driver(root, settings=QemuSettings()) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        with pytest.raises(NoSuchSecret):
            await create(house, guest)
        assert not list(house.host.run_folder.glob("domain-*"))
        secrets = type(house.host.needed.secrets)({str(secret): str(key)}, house.runtime.in_thread)
        house.host.needed = dataclasses.replace(house.host.needed, secrets=secrets)
        await create(house, guest)
        (pid,) = helpers_in(folder_of(house, guest)).values()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"--key" in words and not any(b"passphrase" in word for word in words)
        assert b"sha384" in (house.host.paths.log / "qemu" / f"{guest.name}-swtpm.log").read_bytes()
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        with pytest.raises(DomainStateError, match="cannot both keep and delete TPM"):
            await house.call("domain_undefine_flags", dom=guest.ref, flags=32 | 64)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        state = house.host.state_folder / "swtpm" / str(guest.uuid)
        assert (state / "tpm2").is_dir(), "persistent, and nobody said that it is to go"
        # with another passphrase it is another's
        key.write_bytes(b"another one")
        banks = "<active_pcr_banks><sha384/></active_pcr_banks>"
        await house.call("domain_define_xml_flags", xml=guest.xml.replace(banks, ""), flags=0)
        with pytest.raises(InternalError, match="tpm-emulator"):
            await create(house, guest)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=32)
        assert not state.exists()


async def test_helpers_of_all_kinds_come_and_go_with_their_guest(root: Path) -> None:
    need_root()
    (root / "shared").mkdir()
    port = _free_port()
    network = NETWORK.replace(
        "</interface>", f"<portForward proto='tcp'><range start='{port}' to='22'/></portForward></interface>"
    )
    guest = Subject(root, share(root / "shared") + network + "<graphics type='dbus'/>", boots=False, top=SHARED)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        folder = folder_of(house, guest)
        pids = helpers_in(folder)
        assert set(pids) == {"virtiofsd@fs0", "passt@net0", "dbus-daemon@bus"}
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
        document = etree.fromstring(await guest.xml_desc(house))
        assert document.find("devices/graphics").get("address") == f"unix:path={folder}/dbus.sock"
        words = Path(f"/proc/{pids['virtiofsd@fs0']}/cmdline").read_bytes().split(b"\0")
        assert f"source={root}/shared,xattr".encode() in words
        # one that dies is missed, and its guest goes on
        os.kill(pids["passt@net0"], signal.SIGKILL)
        await until("it is gone", lambda: "passt@net0" not in helpers_in(folder))
        assert (await guest.state(house))[0] == 1
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until("all are gone", lambda: not any(lives(pid) for pid in pids.values()))
        assert not folder.exists()


async def test_a_shared_folder_is_plugged_in_and_its_program_ends_when_that_fails(root: Path) -> None:
    need_root()
    (root / "shared").mkdir()
    guest = Subject(root, "", boots=False, top=SHARED)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        folder = folder_of(house, guest)
        with pytest.raises(InternalError, match=r"export directory .* does not exist"):
            await house.call("domain_attach_device_flags", dom=guest.ref, xml=share(root / "nowhere"), flags=1)
        with pytest.raises(VirtError):
            bad = share(root / "shared", "t" * 40)  # QEMU does not take such a name
            await house.call("domain_attach_device_flags", dom=guest.ref, xml=bad, flags=1)
        assert helpers_in(folder) == {} and not list(place_of(folder).glob("*"))
        await house.call("domain_attach_device_flags", dom=guest.ref, xml=share(root / "shared"), flags=1)
        assert set(helpers_in(folder)) == {"virtiofsd@fs0"}
        await house.call("domain_attach_device_flags", dom=guest.ref, xml=NETWORK, flags=1)
        assert set(helpers_in(folder)) == {"virtiofsd@fs0", "passt@net0"}
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)


async def test_a_start_that_fails_says_what_the_helper_said(root: Path) -> None:
    need_root()
    wrong = NETWORK.replace("</interface>", "<portForward proto='tcp' address='192.0.2.254'/></interface>")
    guest = Subject(root, TPM + wrong + share(root / "nowhere"), boots=False, top=SHARED)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        with pytest.raises(InternalError, match="died"):
            await create(house, guest)
        assert (await guest.state(house))[0] == 5
        assert not list(house.host.run_folder.glob("domain-*"))
        await until("the TPM is gone too", lambda: not _processes_with(f"{root}/".encode()))


def _processes_with(text: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and lives(pid)]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_host_without_swtpm_has_no_tpms(root: Path) -> None:
    guest = Subject(root, TPM, boots=False)
    async with driver(root) as house:
        house.host.tpm_programs._folders = (str(root),)
        house.host.tpm_programs._looked = 0.0
        with pytest.raises(ConfigUnsupported, match=r"TPM version '2\.0' is not supported"):
            await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)


def with_firmware(guest: Subject, wanted: dict[str, str]) -> None:
    """Has the host choose a firmware that has these features, or has not."""
    features = "".join(f"<feature enabled='{value}' name='{name}'/>" for name, value in wanted.items())
    guest.xml = guest.xml.replace("<os>", "<os firmware='efi'>")
    guest.xml = guest.xml.replace("</os>", f"<firmware>{features}</firmware></os>")


async def test_firmware_with_secure_boot_keeps_its_variables_until_they_are_to_go(root: Path) -> None:
    guest = Subject(root, TPM, machine="q35", boots=False)
    with_firmware(guest, {"secure-boot": "yes", "enrolled-keys": "yes"})
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        document = etree.fromstring(await guest.xml_desc(house))
        loader, nvram = document.find("os/loader"), document.find("os/nvram")
        assert document.find("os").get("firmware") is None and loader.get("secure") == "yes"
        assert document.find("features/smm").get("state") == "on"
        variables = Path(nvram.text)
        assert variables.stat().st_size == Path(nvram.get("template")).stat().st_size
        with pytest.raises(DomainStateError, match="cannot undefine domain with nvram"):
            await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=8)
        assert variables.exists()
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=4)
        assert not variables.exists()


async def test_firmware_of_this_host_runs(root: Path) -> None:
    guest = Subject(root, TPM, machine="q35", boots=False)
    with_firmware(guest, {"secure-boot": "no"})
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        await until("the firmware looks for something to boot", lambda: b"BdsDxe" in guest.log.read_bytes(), 90.0)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=4)


@pytest.mark.soak
async def test_a_guest_sees_its_tpm_and_its_network(root: Path) -> None:
    guest = Subject(root, TPM + NETWORK)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        await guest.ready()
        console = etree.fromstring(await guest.xml_desc(house)).find("devices/serial/source").get("path")
        asks = b"cat /sys/class/tpm/tpm0/tpm_version_major; ip link set eth0 up; udhcpc -i eth0 -n -q"
        descriptor = os.open(console, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(descriptor, b"\n" + asks + b"; echo TH''AT IS ALL\n")
        await until("the guest has answered", lambda: b"THAT IS ALL" in guest.log.read_bytes(), 90.0)
        os.close(descriptor)
        said = guest.log.read_text(encoding="utf-8", errors="replace")
        assert re.search(r"^2\r?$", said, re.MULTILINE), "it has no TPM 2.0"
        assert re.search(r"lease of \S+ obtained", said), "nobody answers in its network"
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)


async def test_helpers_are_the_guests_users(root: Path) -> None:
    need_root()
    root.chmod(0o711)
    guest = Subject(root, TPM + NETWORK + "<graphics type='dbus'/>", boots=False)
    nobody = pwd.getpwnam("nobody").pw_uid
    async with driver(root, settings=QemuSettings(user="nobody")) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        folder = folder_of(house, guest)
        pids = helpers_in(folder)
        assert set(pids) == {"swtpm@tpm0", "passt@net0", "dbus-daemon@bus"}
        for role, pid in pids.items():
            told = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            assert f"\nUid:\t{nobody}\t" in told, f"{role} is somebody else"
        # what root will believe one day is not where the guest's user could write
        assert folder.stat().st_uid == nobody and place_of(folder).stat().st_uid == 0
        assert {path.stat().st_uid for path in place_of(folder).iterdir()} == {0}
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until("all are gone", lambda: not any(lives(pid) for pid in pids.values()))


async def test_reservations_are_another_programs_when_one_has_died(root: Path) -> None:
    guest = Subject(root, "", boots=False)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await create(house, guest)
        known, folder = house.host.guest(guest.ref), folder_of(house, guest)
        crew = Crew(house.host, guest.name, folder, None)
        crew.serve(known)
        await crew.restart_reservations()
        role = "qemu-pr-helper@pr-helper0"
        pid = helpers_in(folder)[role]
        os.kill(pid, signal.SIGKILL)
        await until("it is gone", lambda: crew.roles == set())
        # this is what QEMU says when it has lost it
        lost = Notice("PR_MANAGER_STATUS_CHANGED", {"id": "pr-helper0", "connected": False}, 0)
        on_notice(house.host, known, lost)
        await until("another is there", lambda: helpers_in(folder).get(role, pid) != pid)
        await until("it is served", lambda: (folder / "pr-helper0.sock").exists())
        pid = helpers_in(folder)[role]
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until("it ends with its guest", lambda: not lives(pid))


async def test_a_tpm_moves_with_its_guest(root: Path) -> None:
    guest = Traveller(more=TPM)
    flags = int(Flags.LIVE | Flags.PERSIST_DEST | Flags.UNDEFINE_SOURCE)
    async with two_hosts(root) as (source, destination):
        await start(source, guest)
        there, here = (one.host.state_folder / "swtpm" / str(guest.uuid) / "tpm2" for one in (destination, source))
        assert here.is_dir()
        await move(source, destination, guest, flags, f"unix://{root}/m.sock")
        assert await runs(destination, guest)
        assert there.joinpath("tpm2-00.permall").stat().st_size > 0 and not here.parent.exists()
        assert set(helpers_in(Path(destination.host.guest(guest.ref).need_run().folder))) == {"swtpm@tpm0"}
