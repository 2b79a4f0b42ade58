"""Every call of libvirt's protocol: straight to a real libvirtd, and through our gateway and remote driver to the same.

The two answers are the same, errors with their numbers and texts. Arguments are small valid ones and ones that are not.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from actors.remote.forward import is_forwarded
from schema.model import Field, Procedure
from schema.objects import (
    CLASSES,
    DomainRef,
    DomainSnapshotRef,
    InterfaceRef,
    NetworkRef,
    NodeDeviceRef,
    StoragePoolRef,
    StorageVolRef,
    TypedParam,
)
from schema.table import all_procedures
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.agent import Agent
from tests.real.two_sides import Side, TwoSides

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]

TEST: Final = DomainRef("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
NETWORK: Final = NetworkRef("default", bytes.fromhex("dd8fe8846c02601e7551cca97df1c5df"))
POOL: Final = StoragePoolRef("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
OBJECTS: Final[dict[str, Any]] = {
    "domain": TEST,
    "network": NETWORK,
    "storage_pool": POOL,
    "storage_vol": StorageVolRef("default-pool", "v", "/default-pool/v"),
    "interface": InterfaceRef("eth1", "aa:bb:cc:dd:ee:ff"),
    "node_device": NodeDeviceRef("computer"),
    "domain_snapshot": DomainSnapshotRef("s", TEST),
    "typed_param": TypedParam.of_uint("bogus", 1),
}
CLOCKED: Final = frozenset(
    (
        "domain_get_info",
        "domain_get_vcpus",
        "domain_get_cpu_stats",
        "domain_interface_stats",
        "domain_block_stats",
        "domain_get_control_info",
        "domain_get_job_info",
        "domain_snapshot_list_names",  # ends libvirt's daemon when asked for none
        "domain_snapshot_list_children_names",
    )
)
"""What is another answer each time it is asked, and what no daemon survives."""
TEXTS: Final = {"name": "test", "path": "vda", "disk": "vda", "device": "vda", "arch": "x86_64", "uri": None}


@pytest.fixture(scope="module")
def two() -> Iterator[TwoSides]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as folder:
        base = Path(folder)
        for name in ("one", "other"):
            (base / name).mkdir()
        try:
            with Libvirtd(base / "d") as daemon, Agent() as near:
                straight = daemon.uri("test:///default")
                ours = f"test+unix:///default?socket={near.paths.libvirt_socket}&name={quote(straight, safe='')}"
                yield TwoSides(Side(straight, base / "one"), Side(ours, base / "other"))
        except CannotRun as exc:
            pytest.skip(str(exc))


def value_of(field: Field, chance: random.Random) -> Any:
    """A small value; now and then one that cannot be."""
    if field.type in OBJECTS:
        return [OBJECTS[field.type]] if field.is_list else OBJECTS[field.type]
    if field.type in CLASSES and not field.is_list:
        pytest.skip(f"no {field.type} here")
    if field.type == "uuid":
        return TEST.uuid
    if field.is_bytes:
        return b"\1"
    if field.is_list:
        return ["x"] if field.type == "string" else [1]
    if field.type == "string":
        return None if field.optional and chance.random() < 0.5 else TEXTS.get(field.name) or "x"
    if field.name in ("need_results", "maxnames", "maxids", "nparams", "maxstats"):
        return 1
    return chance.choice((0, 0, 0, 1, 2, 3, 4096)) if field.name == "flags" else chance.choice((0, 1, 2))


def asked(procedure: Procedure) -> bool:
    # what starts a migration would wait for another host, what writes files needs folders of two sides
    return (
        procedure.program == "remote"
        and is_forwarded(procedure)
        and procedure.stream is None
        and procedure.name not in CLOCKED
        and "migrate" not in procedure.name
        and not procedure.name.startswith("connect_set_identity")
        and not any(field.type in ("secret", "nwfilter", "nwfilter_binding") for field in procedure.args)
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_both_ways_give_the_same_answers(two: TwoSides, seed: int) -> None:
    chance = random.Random(seed)
    different = []
    count = 0
    for procedure in (row for row in all_procedures() if asked(row) and row.is_read):
        if any(field.type in CLASSES and field.type not in OBJECTS for field in procedure.args):
            continue
        args = {field.name: value_of(field, chance) for field in procedure.args}
        found = await two.difference(procedure.name, args)
        count += 1
        if found is not None:
            different.append(str(found))
    await two.forget()
    assert count > 100
    assert not different, "\n".join(different)


async def test_both_ways_refuse_the_same_changes(two: TwoSides) -> None:
    """Changes of objects that are not there, so that both ways can be tried one after the other."""
    nobody = {kind: type(ref)(*(_unlike(value) for value in ref.__struct_fields__)) for kind, ref in NAMED.items()}
    different = []
    count = 0
    chance = random.Random(3)
    for procedure in (row for row in all_procedures() if asked(row) and not row.is_read):
        if not procedure.args or procedure.args[0].type not in nobody:
            continue
        args = {field.name: value_of(field, chance) for field in procedure.args if field.type not in ("x",)}
        args[procedure.args[0].name] = nobody[procedure.args[0].type]
        found = await two.difference(procedure.name, args)
        count += 1
        if found is not None:
            different.append(str(found))
    await two.forget()
    assert count > 50
    assert not different, "\n".join(different)


NAMED: Final = {kind: OBJECTS[kind] for kind in ("domain", "network", "storage_pool", "storage_vol", "interface")}


def _unlike(field: str) -> Any:
    return {"uuid": b"\xfe" * 16, "id": -1}.get(field, "nobody")
