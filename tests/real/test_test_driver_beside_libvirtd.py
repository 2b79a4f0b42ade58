"""The same calls to libvirt's own test driver and to ours: results, or errors with numbers and texts, are the same.

Arguments are drawn at random from ones that fit and ones that do not; the seeds are fixed. After a call that was
answered with a result on one side alone both begin anew. What may differ stands in `MAY_DIFFER`, with the reason.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from schema.model import Field, Procedure
from schema.objects import (
    DomainCheckpointRef,
    DomainRef,
    DomainSnapshotRef,
    InterfaceRef,
    NetworkRef,
    NodeDeviceRef,
    StoragePoolRef,
    StorageVolRef,
    TypedParam,
)
from schema.table import need_procedure
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.gateway_house import gateway_house
from tests.real.two_sides import Difference, Side, TwoSides

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]

UUIDS: Final = [bytes([0xAA] * 15 + [number]) for number in range(8)]
TEST: Final = DomainRef("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
OFF: Final = DomainRef("off", UUIDS[1], -1)
RICH: Final = DomainRef("rich", UUIDS[3], 2)
NOBODY: Final = DomainRef("nobody", UUIDS[7], -1)
MAC: Final = "aa:bb:cc:00:00:01"


def _text(uuid: bytes) -> str:
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _domain(name: str, uuid: bytes, parts: str = "", devices: str = "") -> str:
    return (
        f"<domain type='test'><name>{name}</name><uuid>{_text(uuid)}</uuid><memory unit='KiB'>65536</memory>{parts}"
        f"<os><type arch='x86_64'>hvm</type></os><devices>{devices}</devices></domain>"
    )


RICH_XML: Final = _domain(
    "rich",
    RICH.uuid,
    "<vcpu current='2'>4</vcpu><iothreads>2</iothreads><title>t</title>",
    "<disk type='file' device='disk'><source file='/none/a.img'/><target dev='vda' bus='virtio'/></disk>"
    f"<interface type='user'><mac address='{MAC}'/></interface><memballoon model='virtio'/>",
)
SNAPSHOT: Final = "<domainsnapshot><name>s</name></domainsnapshot>"
PREPARE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("domain_define_xml_flags", {"xml": _domain("off", OFF.uuid), "flags": 0}),
    ("domain_define_xml_flags", {"xml": RICH_XML, "flags": 0}),
    ("domain_create_with_flags", {"dom": RICH, "flags": 0}),
    (
        "domain_snapshot_create_xml",
        {"dom": TEST, "xml_desc": "<domainsnapshot><name>s</name></domainsnapshot>", "flags": 0},
    ),
)
OBJECTS: Final[dict[str, tuple[Any, ...]]] = {
    "domain": (TEST, TEST, OFF, RICH, RICH, NOBODY),
    "network": (NetworkRef("default", bytes.fromhex("dd8fe8846c02601e7551cca97df1c5df")), NetworkRef("no", UUIDS[7])),
    "storage_pool": (
        StoragePoolRef("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566")),
        StoragePoolRef("no", UUIDS[7]),
    ),
    "storage_vol": (StorageVolRef("default-pool", "no", "/default-pool/no"), StorageVolRef("no", "no", "no")),
    "interface": (InterfaceRef("eth1", "aa:bb:cc:dd:ee:ff"), InterfaceRef("no", "")),
    "node_device": (NodeDeviceRef("computer"), NodeDeviceRef("no")),
    "domain_snapshot": (DomainSnapshotRef("s", TEST), DomainSnapshotRef("no", RICH)),
    "domain_checkpoint": (DomainCheckpointRef("no", TEST),),
}
TEXTS: Final[dict[str, tuple[str, ...]]] = {
    "name": ("test", "off", "eth1", "default", "default-pool", "computer", "no"),
    "path": ("vda", "no"),
    "disk": ("vda", "no"),
    "device": (MAC, "no"),
    "uri": ("http://a",),
    "new_name": ("renamed", "test", "a/b"),
    "metadata": ("<x/>", "words", "two\nlines"),
    "cap": ("system", "scsi_host", "no"),
    "mountPoint": ("/", "/no"),
    "mac": ("aa:bb:cc:dd:ee:ff", "no"),
    "type": ("test", "no"),
}
NUMBERS: Final = (0, 0, 0, 1, 2, 3, 4, 8, 100)
CALLS: Final = (
    "domain_get_state",
    "domain_get_xml_desc",
    "domain_suspend",
    "domain_resume",
    "domain_shutdown_flags",
    "domain_reboot",
    "domain_reset",
    "domain_create_with_flags",
    "domain_destroy_flags",
    "domain_undefine_flags",
    "domain_rename",
    "domain_get_autostart",
    "domain_set_autostart",
    "domain_set_memory",
    "domain_set_memory_flags",
    "domain_set_memory_stats_period",
    "domain_get_memory_parameters",
    "domain_set_memory_parameters",
    "domain_get_numa_parameters",
    "domain_set_numa_parameters",
    "domain_get_blkio_parameters",
    "domain_set_blkio_parameters",
    "domain_get_scheduler_parameters",
    "domain_get_scheduler_parameters_flags",
    "domain_set_scheduler_parameters_flags",
    "domain_get_perf_events",
    "domain_set_perf_events",
    "domain_get_vcpus_flags",
    "domain_set_vcpus_flags",
    "domain_get_vcpu_pin_info",
    "domain_pin_vcpu_flags",
    "domain_pin_emulator",
    "domain_get_emulator_pin_info",
    "domain_get_iothread_info",
    "domain_add_iothread",
    "domain_del_iothread",
    "domain_pin_iothread",
    "domain_get_block_info",
    "domain_get_block_io_tune",
    "domain_set_block_io_tune",
    "domain_get_interface_parameters",
    "domain_set_interface_parameters",
    "domain_get_disk_errors",
    "domain_get_metadata",
    "domain_set_metadata",
    "domain_get_time",
    "domain_set_time",
    "domain_get_fsinfo",
    "domain_fsfreeze",
    "domain_fsthaw",
    "domain_fstrim",
    "domain_set_user_password",
    "domain_get_hostname",
    "domain_interface_addresses",
    "domain_send_process_signal",
    "domain_inject_nmi",
    "domain_memory_peek",
    "domain_get_launch_security_info",
    "domain_set_lifecycle_action",
    "domain_has_current_snapshot",
    "domain_snapshot_current",
    "domain_snapshot_get_xml_desc",
    "domain_snapshot_delete",
    "domain_revert_to_snapshot",
    "domain_snapshot_num",
    "domain_list_all_checkpoints",
    "domain_checkpoint_get_xml_desc",
    "domain_checkpoint_delete",
    "domain_lookup_by_name",
    "domain_lookup_by_id",
    "network_is_active",
    "network_get_xml_desc",
    "network_create",
    "network_destroy",
    "network_undefine",
    "network_get_bridge_name",
    "network_get_autostart",
    "network_lookup_by_name",
    "storage_pool_get_info",
    "storage_pool_is_active",
    "storage_pool_create",
    "storage_pool_destroy",
    "storage_pool_get_xml_desc",
    "storage_pool_list_all_volumes",
    "storage_vol_lookup_by_name",
    "storage_vol_delete",
    "interface_get_xml_desc",
    "interface_create",
    "interface_destroy",
    "interface_change_begin",
    "interface_change_commit",
    "interface_change_rollback",
    "interface_lookup_by_mac_string",
    "node_device_get_xml_desc",
    "node_device_lookup_by_name",
    "node_get_cells_free_memory",
    "node_get_cpu_stats",
    "node_get_free_pages",
    "connect_get_sysinfo",
    "connect_get_cpu_model_names",
    "connect_num_of_domains",
    "connect_num_of_networks",
    "connect_get_lib_version",
)
MAY_DIFFER: Final = frozenset(
    (
        "domain_get_os_type",  # libvirt's driver answers for guests that do not exist
        "domain_set_iothread_params",  # libvirt's driver fails without a word for threads of the definition
    )
)


@pytest.fixture(scope="module")
def two() -> Iterator[TwoSides]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as folder:
        base = Path(folder)
        for name in ("one", "other"):
            (base / name).mkdir()
        try:
            with Libvirtd(base / "d") as daemon, gateway_house() as house:
                one = Side(daemon.uri("test:///default"), base / "one")
                known = {_text(uuid) for uuid in (*UUIDS, TEST.uuid)} | {MAC, "aa:bb:cc:dd:ee:ff"}
                yield TwoSides(one, Side(house.uri(), base / "other"), known)
        except CannotRun as exc:
            pytest.skip(str(exc))


def value_of(field: Field, procedure: Procedure, chance: random.Random) -> Any:
    if field.type == "typed_param":
        return [TypedParam.of_uint(chance.choice(("weight", "bogus")), 1)] if chance.random() < 0.8 else []
    if field.type in OBJECTS:
        return chance.choice(OBJECTS[field.type])
    if field.type == "uuid":
        return TEST.uuid
    if field.is_bytes:
        return chance.choice((b"\1", b"\3", b"\0"))
    if field.is_list:
        return [chance.choice(("/", "/no"))] if field.type == "string" else [1]
    if field.type == "string":
        if field.optional and chance.random() < 0.4:
            return None
        return chance.choice(TEXTS.get(field.name, ("x86_64", "no")))
    if field.name in ("maxnames", "maxids", "nparams", "need_results", "maplen", "ncpumaps", "maxcells"):
        return 1
    if field.name == "flags":
        return chance.choice((0, 0, 0, 1, 2, 3, 4, 8, 1024, 2**31))
    return chance.choice(NUMBERS)


async def prepare(two: TwoSides) -> None:
    await two.forget()
    for name, args in PREPARE:
        found = await two.difference(name, args)
        assert found is None, str(found)


@pytest.mark.parametrize("seed", range(4))
async def test_random_calls_are_answered_alike(two: TwoSides, seed: int) -> None:
    chance = random.Random(seed)
    different: dict[str, Difference] = {}
    await prepare(two)
    for number in range(400):
        if number % 40 == 39:
            await prepare(two)
        procedure = need_procedure(chance.choice(CALLS))
        args = {field.name: value_of(field, procedure, chance) for field in procedure.args}
        found = await two.difference(procedure.name, args)
        if found is not None and procedure.name not in MAY_DIFFER:
            different[procedure.name] = found
            if "result" in (found.one[0], found.other[0]):
                await prepare(two)
    await two.forget()
    assert not different, "\n".join(map(str, different.values()))
