"""A driver that dies at any step of a start, or of a device's coming, leaves no helper that nobody knows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import pytest

from schema.enums.domain_state import DomainState
from schema.errors import CallUndone, VirtError
from tests.real.driver_process import Mortal
from tests.real.test_qemu_guests import Subject, root, until
from tests.real.test_qemu_helpers import NETWORK, SHARED, TPM, folder_of, helpers_in, need_root, share

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]
__all__ = ["root"]

MOST_STEPS: Final = 120


def running_below(place: Path) -> set[int]:
    """The processes that serve guests whose folders are below a place."""
    mark = b"VIRTROUPE_GUEST=" + os.fsencode(place)
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


async def _cut_start(place: Path, step: int) -> bool:
    guest = Subject(place, TPM + NETWORK + share(place / "shared"), boots=False, top=SHARED)
    async with Mortal(place, step) as mortal:
        await mortal.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await mortal.call("count")
        try:
            await mortal.call("domain_create_with_flags", dom=guest.ref, flags=0)
        except CallUndone:
            pass
        was_cut = mortal.is_dead
        house = await mortal.succeed() if was_cut else None
        if house is None:
            await mortal.call("domain_destroy_flags", dom=guest.ref, flags=0)
            return False
        where = f"step {step}, {mortal.died_at}"
        state = DomainState((await guest.state(house))[0])
        if state is DomainState.RUNNING:
            known = set(helpers_in(folder_of(house, guest)).values())
            assert len(known) == 3, where
            # what a program has started in turn is its own matter
            assert known <= running_below(place), where
            await mortal.call("domain_destroy_flags", dom=guest.ref, flags=0)
        else:
            assert state is DomainState.SHUTOFF, where
        await until(f"nothing runs any more, {where}", lambda: not running_below(place))
        assert not list(house.host.run_folder.glob("domain-*")), where
        # and it starts as ever
        await mortal.call("domain_create_with_flags", dom=guest.ref, flags=0)
        await mortal.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until(f"nothing runs any more, {where}", lambda: not running_below(place))
    return was_cut


async def _cut_attach(place: Path, step: int) -> bool:
    guest = Subject(place, "", boots=False, top=SHARED)
    async with Mortal(place, step) as mortal:
        await mortal.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await mortal.call("domain_create_with_flags", dom=guest.ref, flags=0)
        await mortal.call("count")
        try:
            await mortal.call("domain_attach_device_flags", dom=guest.ref, xml=share(place / "shared"), flags=1)
            is_done = True
        except VirtError as exc:
            assert isinstance(exc, CallUndone), exc
            is_done = False
        was_cut = mortal.is_dead
        house = await mortal.succeed() if was_cut else None
        where = f"step {step}, {mortal.died_at}"
        if house is not None:
            live = house.host.guest(guest.ref).live.devices.filesystems
            assert len(live) == int(is_done), where
            known = helpers_in(folder_of(house, guest))
            assert set(known) == ({"virtiofsd@fs0"} if is_done else set()), where
        await mortal.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await until(f"nothing runs any more, {where}", lambda: not running_below(place))
    return was_cut


@pytest.mark.parametrize(("cut", "stride"), [(_cut_start, 14), (_cut_attach, 12)])
async def test_a_driver_that_dies_at_some_steps(cut: object, stride: int, root: Path) -> None:
    await _cut(cut, stride, root)


@pytest.mark.soak
@pytest.mark.parametrize("cut", [_cut_start, _cut_attach])
async def test_a_driver_that_dies_at_any_step(cut: object, root: Path) -> None:
    await _cut(cut, 1, root)


async def _cut(cut: object, stride: int, root: Path) -> None:
    need_root()
    root.chmod(0o711)
    step = 1 if stride == 1 else stride // 2
    while step < MOST_STEPS:
        place = Path(tempfile.mkdtemp(prefix="c", dir=root))
        (place / "shared").mkdir()
        assert callable(cut)
        if not await cut(place, step):
            break
        step += stride
    assert 4 < step < MOST_STEPS, f"it had {step} steps"
