"""What systemd calls guests, and which groups are a guest's."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.qemu.scopes.groups import find_scope
from actors.qemu.scopes.names import escape, machine_name, scope_name, slice_name


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("web", "qemu-7-web"),
        ("a b/c", "qemu-7-abc"),
        ("-.x..y-", "qemu-7-x.y"),
        ("ü", "qemu-7"),
        ("a" * 90, "qemu-7-" + "a" * 57),
    ],
)
def test_machines_have_names_of_hosts(name: str, machine: str) -> None:
    assert machine_name(7, name) == machine


def test_another_agents_machine_has_another_name() -> None:
    one, two = (machine_name(7, "web", Path(house)) for house in ("/a", "/b"))
    assert one != two and one.startswith("qemu-") and one.endswith("-7-web")


def test_units_are_named_as_libvirt_names_them() -> None:
    assert scope_name("qemu-7-web.1") == "machine-qemu\\x2d7\\x2dweb.1.scope"
    assert slice_name("") == slice_name("/machine") == "machine.slice"
    assert slice_name("/machine/eng/a-b") == "machine-eng-a\\x2db.slice"
    assert escape(".ü") == "\\x2e\\xc3\\xbc"


def test_a_scope_is_the_group_or_the_one_above() -> None:
    scope = "machine.slice/machine-qemu\\x2d7\\x2dweb.scope"
    assert find_scope(scope) == find_scope(f"{scope}/libvirt") == scope
    assert find_scope("machine/qemu-x-7-web.virtroupe") == ""
