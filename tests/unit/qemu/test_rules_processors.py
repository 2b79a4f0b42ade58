"""Orders of processors that no start can have."""

from __future__ import annotations

import pytest

from actors.qemu.rules_processors import check_states
from conf.domain.domain import Domain, VirtType
from conf.domain.vcpu import SingleVcpu, Vcpus
from schema.errors import ConfigUnsupported


def guest_with(*states: tuple[bool, bool, int | None]) -> Domain:
    vcpus = [
        SingleVcpu(id=number, enabled=enabled, hotpluggable=hotpluggable, order=order)
        for number, (enabled, hotpluggable, order) in enumerate(states)
    ]
    return Domain(type=VirtType.QEMU, name="a", vcpus=Vcpus(vcpus=vcpus))


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([(True, True, None)], "vcpu0 can't be hotpluggable"),
        ([(True, False, 2), (True, True, 1)], "vcpu0 must be enabled first"),
        ([(True, False, 1), (True, True, None)], "either set or unset order"),
        ([(True, False, None), (False, True, None), (True, False, None)], "ordered prior to hotplugable"),
        ([(True, False, 1), (True, False, 3), (True, False, 2)], "must be ordered in ascending order"),
    ],
)
def test_what_no_start_can_have_is_refused(states: list[tuple[bool, bool, int | None]], words: str) -> None:
    with pytest.raises(ConfigUnsupported, match=words):
        check_states(guest_with(*states))


def test_processors_that_are_plugged_in_later_come_in_any_order() -> None:
    check_states(guest_with((True, False, 1), (False, True, None), (True, True, 2)))
