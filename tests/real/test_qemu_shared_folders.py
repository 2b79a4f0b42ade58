"""A folder of the host inside a guest: what one side writes, the other reads. (The guest's kernel has no 9p.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.test_qemu_guests import Subject, root
from tests.real.test_qemu_helpers import SHARED, helpers_in, share
from tests.real.test_qemu_hotplug import running

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="folders are shared by virtiofsd as root only"),
]
__all__ = ["root"]


async def test_both_sides_of_a_shared_folder_see_what_the_other_writes(root: Path) -> None:
    shared = root / "shared"
    shared.mkdir()
    (shared / "greeting").write_text("from the host\n")
    guest = Subject(root, "", top=SHARED)
    async with running(root, guest) as hands:
        await guest.ready()
        await hands.attach(share(shared, "tag").replace("<driver ", "<driver queue='512' "))
        await hands.shell("load-shared; mkdir /mnt/tag")
        await hands.sees("mount -t virtiofs tag /mnt/tag 2>/dev/null; grep -c virtiofs /proc/mounts", "1")
        assert await hands.shell("cat /mnt/tag/greeting") == "from the host"
        await hands.shell("echo from the guest > /mnt/tag/answer; sync")
        assert (shared / "answer").read_text() == "from the guest\n"
        (shared / "greeting").write_text("once more\n")
        await hands.sees("cat /mnt/tag/greeting", "once more")
        assert set(helpers_in(Path(hands.house.host.guest(guest.ref).need_run().folder))) == {"virtiofsd@fs0"}
