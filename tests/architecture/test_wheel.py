"""An installed agent has all that a checkout has."""

from __future__ import annotations

import tomllib

from settings.tree import template_path
from tests.architecture.tree import ROOMS, ROOT


def test_a_wheel_holds_every_room_and_the_files_beside_them() -> None:
    # With `packages`, hatchling leaves out what is no package: an agent from a wheel had no template to start from.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel) == {"only-include"}
    assert set(wheel["only-include"]) == {*ROOMS, "virtroupe-stubs", "virtroupe.py", "supervisord.conf"}
    assert all((ROOT / name).exists() for name in wheel["only-include"])
    assert template_path() == ROOT / "supervisord.conf"
