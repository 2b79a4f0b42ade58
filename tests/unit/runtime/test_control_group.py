"""Control groups of actors, on folders that look like a kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.runtime.control_group import REST, NoGroup, Place, enter, let_out, places

HOUSE = Path("/run/x")
LIMITS = {"memory": 1 << 30, "pids": 100}


def mounted(folder: Path, *lines: str) -> Path:
    path = folder / "mountinfo"
    path.write_text("".join(f"{number} 1 0:1 {line}\n" for number, line in enumerate(lines)))
    return path


def unified(folder: Path) -> Path:
    """A group of version 2 in which this process is, and nobody else."""
    base = folder / "cg" / "agent.service"
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    (base / "cgroup.subtree_control").write_text("memory pids\n")
    (base / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return base


def name_of(base: Path) -> str:
    (name,) = [path.name for path in base.iterdir() if path.is_dir() and path.name != REST]
    return name


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path) -> None:
    mounts = mounted(
        tmp_path,
        "/ /cg/memory rw - cgroup cgroup rw,memory",
        "/box /cg/pids rw - cgroup cgroup rw,pids",
        "/ /cg/cpu rw - cgroup cgroup rw,cpu",
        "/ /cg/unified rw - cgroup2 cgroup2 rw",
    )
    own = tmp_path / "cgroup"
    own.write_text("5:memory:/me/here\n4:pids:/box/inside\n3:cpu:/\n0::/\n")
    assert places(mounts, own) == {
        "memory": Place(Path("/cg/memory/me/here"), is_unified=False),
        "pids": Place(Path("/cg/pids/inside"), is_unified=False),
    }


def test_version_2_has_one(tmp_path: Path) -> None:
    base = unified(tmp_path)
    own = tmp_path / "cgroup"
    own.write_text("0::/agent.service\n")
    found = places(mounted(tmp_path, f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw"), own)
    assert found == {"memory": Place(base, is_unified=True), "pids": Place(base, is_unified=True)}
    own.write_text("0::/\n")
    with pytest.raises(NoGroup, match="no control groups"):
        places(mounted(tmp_path, "/ /cg rw - cgroup2 cgroup2 rw"), own)


def test_a_process_goes_into_its_group_and_lets_others_out(tmp_path: Path) -> None:
    base = unified(tmp_path)
    enter("qemu", HOUSE, LIMITS, {name: Place(base, is_unified=True) for name in LIMITS})
    group = base / name_of(base)
    assert group.name.startswith("virtroupe-") and group.name.endswith("-qemu")
    assert (group / "memory.max").read_text() == str(1 << 30)
    assert (group / "pids.max").read_text() == "100"
    assert (group / "cgroup.procs").read_text() == str(os.getpid())
    let_out(77, {"memory": Place(group, is_unified=True)})
    assert (base / REST / "cgroup.procs").read_text() == "77"
    # its successor is started in the group into which all else was moved, and comes to the same one
    enter("qemu", HOUSE, LIMITS, {name: Place(base / REST, is_unified=True) for name in LIMITS})
    assert name_of(base) == group.name
    let_out(78, {"memory": Place(base / REST, is_unified=True)})
    assert (base / REST / "cgroup.procs").read_text() == "77"


def test_in_version_1_each_controller_has_its_group(tmp_path: Path) -> None:
    found = {}
    for name in LIMITS:
        (tmp_path / name).mkdir()
        found[name] = Place(tmp_path / name, is_unified=False)
    enter("qemu", HOUSE, LIMITS, found)
    group = name_of(tmp_path / "memory")
    assert (tmp_path / "memory" / group / "memory.limit_in_bytes").read_text() == str(1 << 30)
    assert (tmp_path / "pids" / group / "pids.max").read_text() == "100"
    let_out(77, {name: Place(tmp_path / name / group, is_unified=False) for name in LIMITS})
    assert {(tmp_path / name / "cgroup.procs").read_text() for name in LIMITS} == {"77"}


def test_where_none_can_be_made_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoGroup, match="no control groups for pids"):
        enter("qemu", HOUSE, LIMITS, {"memory": Place(tmp_path, is_unified=False)})
    with pytest.raises(NoGroup, match="No such file or directory"):
        enter("qemu", HOUSE, LIMITS, {name: Place(tmp_path / "gone", is_unified=False) for name in LIMITS})
