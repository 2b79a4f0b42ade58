"""The rooms are ours alone, hold no code in `__init__.py`, and no module is a bag of everything."""

from __future__ import annotations

from importlib.metadata import packages_distributions

from tests.architecture.tree import ROOMS, ROOT, modules

BAGS = {"utils", "helpers", "misc", "common", "manager", "base"}
LONGEST = 500


def test_no_other_distribution_owns_a_rooms_name() -> None:
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["virtroupe"])) == {"virtroupe"}, f"another distribution installs '{room}'"


def test_every_init_is_empty() -> None:
    full = [str(p) for p in modules() if p.name == "__init__.py" and (ROOT / p).read_text(encoding="utf-8").strip()]
    assert not full


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {p.parent for p in modules()}
    assert not [str(f) for f in folders if not (ROOT / f / "__init__.py").exists()]


def test_no_module_is_a_bag() -> None:
    assert not [str(p) for p in modules() if p.stem in BAGS]


def test_no_module_is_longer_than_one_matter_needs() -> None:
    long = {str(p): n for p in modules() if (n := len((ROOT / p).read_text(encoding="utf-8").splitlines())) > LONGEST}
    assert set(long) <= {"schema/errors.py"}, long
