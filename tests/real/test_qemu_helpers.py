"""Programs that run beside guests: emulated TPMs, shared folders, unprivileged networks, buses, reservations."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.qemu.helpers.processes import find_helpers
from tests.contract.house import House
from tests.real.test_qemu_guests import Subject, driver, root, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]
__all__ = ["root"]

TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


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


async def test_a_tpm_is_made_once_runs_with_its_guest_and_outlives_the_driver(root: Path) -> None:
    guest = Subject(root, TPM, boots=False)
    async with driver(root) as house:
        state = house.host.state_folder / "swtpm" / str(guest.uuid) / "tpm2"
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        folder = folder_of(house, guest)
        (pid,) = helpers_in(folder).values()
        kept = state / "tpm2-00.permall"
        assert kept.stat().st_mode & 0o777 == 0o600 and state.stat().st_mode & 0o777 == 0o700
        first = kept.read_bytes()
    async with driver(root, epoch=2) as house:
        assert helpers_in(folder) == {"swtpm@tpm0": pid}, "the TPM goes on without the driver"
        assert house.host.guest(guest.ref).crew.pids == [pid]
        answer = await house.host.guest(guest.ref).ask("query-tpm")
        assert answer[0]["model"] == "tpm-crb"
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until("the TPM ends with its guest", lambda: not lives(pid))
        assert kept.exists()
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        assert kept.read_bytes()[:64] == first[:64] or kept.stat().st_size == len(first)
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        assert not state.parent.exists()
